"""A user's own problem: a search for the highest place of a hilly line, by steps in the fog; also as an objective."""

import math
import random
import time
from collections.abc import Iterator

import optuna

from pairsearch import Metric, OneByOne, Run

METHODS = ("uphill", "random", "cooling")


class Climb(OneByOne):
    """Each fold, and each round, is a climber who starts elsewhere.

    Args:
        rest: seconds that a climber rests after an epoch.
    """

    metrics = {"height": Metric("height", maximise=True), "way": Metric("way gone")}  # noqa: RUF012 - as users write it

    def __init__(self, rest: float = 0.0) -> None:
        self.rest = rest

    def check(self, params):
        """Refuse an unknown method."""
        if params["method"] not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {params['method']!r}")

    def fit(self, params, run: Run, report) -> None:
        """Climb."""
        chance = random.Random(run.stream("steps"))  # noqa: S311 - a climber's steps are no secret
        place = chance.uniform(-5.0, 5.0)
        best, way = height(place, mirrored=params["mirrored"]), 0.0
        lengths = strides(params)
        for epoch in range(1, run.epochs + 1):
            for _ in range(25):
                there = place + next(lengths) * chance.gauss(0.0, 1.0)
                found = height(there, mirrored=params["mirrored"])
                if params["method"] == "random" or found > best:
                    way += abs(there - place)
                    place, best = there, max(best, found)
            if self.rest:
                time.sleep(self.rest)
            report(epoch, height=best, way=way)


def objective(trial, rest: float = 0.0) -> float:
    """Climb as an objective of Optuna's, by the global generator."""
    method = trial.suggest_categorical("method", METHODS)
    mirrored = trial.suggest_categorical("mirrored", [True, False])
    pace = {"half_life": trial.suggest_int("half_life", 1, 128, log=True)} if method == "cooling" else None
    lengths = strides(pace or {"stride": trial.suggest_float("stride", 0.0, 2.0)})
    place = random.uniform(-5.0, 5.0)  # noqa: S311 - a climber's steps are no secret
    best = height(place, mirrored=mirrored)
    for step in range(4):
        there = place + next(lengths) * random.gauss(0.0, 1.0)
        found = height(there, mirrored=mirrored)
        if method == "random" or found > best:
            place, best = there, max(best, found)
        time.sleep(rest)
        trial.report(best, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("place", place)
    return best


def strides(params) -> Iterator[float]:
    """How long one step after the other is."""
    step = 0
    while True:
        yield params["stride"] if "stride" in params else 0.5 ** (step / params["half_life"])
        step += 1


def height(place: float, *, mirrored: bool) -> float:
    """Height of the hill at a place on the line, or at its mirror image."""
    at = -place if mirrored else place
    return math.sin(3.0 * at) + math.cos(at) - 0.05 * (at - 1.0) ** 2
