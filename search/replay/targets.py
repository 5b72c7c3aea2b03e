"""Summarises simulated searches as plain numbers: how many trials and seconds they needed to reach some regrets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairsearch.search.replay.searches import HIGH, LOW, MIDDLE, losses, quantiles, test_figure
from pairsearch.search.replay.simulation import Replay, Stopping
from pairsearch.search.replay.stopping import RULES
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies.intervals import FloatArray

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the grid after which tables show the regret."""


def usual_regrets(table: StudyTable) -> list[float]:
    """Return the regrets in tables: zero, half a standard error and one standard error of the best mean over folds."""
    folds = table.values[table.definition.metric]
    best = folds[losses(table).best]
    error = float(best.std(ddof=1)) / math.sqrt(len(best)) if len(best) > 1 else 0.0
    return sorted({0.0, error / 2, error})


@dataclass(frozen=True, slots=True)
class Needed:
    """What the searches of a replay needed until the regret of their choice was at most `regret`.

    Args:
        reached: share of the searches that reached it.
        trials: (3,) quantiles over searches, infinite for those that never did.
        seconds: the same of the training time.
    """

    replay: Replay
    regret: float
    reached: float
    trials: FloatArray
    seconds: FloatArray


def needed(replays: Iterable[Replay], regrets: Sequence[float]) -> list[Needed]:
    return [
        Needed(replay, regret, float(np.isfinite(trials).mean()), quantiles(trials), quantiles(seconds))
        for replay in replays
        for regret in regrets
        for trials, seconds in [replay.course.needed(regret)]
    ]


def replay_json(table: StudyTable, replay: Replay, regrets: Sequence[float]) -> dict[str, Any]:
    """Summarise a sampler with a pruner; bands are the 5 % quantile, the median and the 95 % quantile over searches.

    Missing numbers are null: a regret that was not reached, a test figure of a choice without rounds.
    """
    course = replay.course
    trials = np.arange(1, replay.trials + 1)
    budgets = np.linspace(0.0, float(course.seconds.max()), 101)[1:]
    return {
        "sampler": replay.sampler,
        "pruner": replay.pruner,
        "searches": replay.searches,
        "trials": replay.trials,
        "seconds": float(course.seconds[:, -1].mean()),
        "needed": [
            {
                "regret": one.regret,
                "reached": one.reached,
                "trials": _json(one.trials),
                "seconds": _json(one.seconds),
            }
            for one in needed([replay], regrets)
        ],
        "by_trials": {"trials": trials.tolist(), "regret": _json(quantiles(course.regret))},
        "by_seconds": {"seconds": budgets.tolist(), "regret": _json(quantiles(course.at_seconds(budgets)))},
        "test": _test_json(table, replay),
    }


def _test_json(table: StudyTable, replay: Replay) -> dict[str, Any] | None:
    figure = test_figure(table)
    if figure is None:
        return None
    known = np.isfinite(replay.course.test)
    return {
        "figure": figure,
        "evaluated": losses(table).evaluated,
        "known": known.mean(axis=0).tolist(),
        "regret": [
            _json(quantiles(column[has])) if has.any() else [None] * 3
            for column, has in zip(replay.course.test.T, known.T, strict=True)
        ],
    }


def stopping_json(stopping: Stopping) -> dict[str, Any]:
    return {
        "pruner": stopping.pruner,
        "setting": {RULES[stopping.pruner].what: stopping.setting},
        "usual": stopping.usual,
        "searches": stopping.searches,
        "saved": stopping.saved,
        "lost": stopping.lost,
        "lost_interval": stopping.interval,
        "regret": dict(zip(map(str, (LOW, MIDDLE, HIGH)), quantiles(stopping.regret).tolist(), strict=True)),
    }


def _json(numbers: FloatArray) -> list[Any]:
    """Return the numbers as nested lists, with None for those that are not finite."""
    plain = numbers.astype(object)
    plain[~np.isfinite(numbers)] = None
    listed: list[Any] = plain.tolist()
    return listed
