"""Measures the error rates of the verdict on synthetic studies whose truth is known.

    python benchmarks/calibration.py --studies 200

A figure of a study is true mean + effect of the fold + noise. The noise of each configuration has its own scale
(log-normal), because configurations that train badly also vary more. The layouts of the true means, in units of the
median standard deviation of a fold, and the kinds of noise:

    equal      all are equal: the hardest case, in which every exclusion is an error
    two        two are good, 0.3 apart; the others are worse by 2
    cluster    one in sixteen is good, close together; the others are far worse
    spread     a few are good, and more and more are worse (gamma distribution)

    normal     independent, normal
    heavy      independent, Student's t with three degrees of freedom
    right      independent, skewed to the right (gamma distribution of shape one half: skewness 2.8)
    left       the same, skewed to the left
    collapses  normal, and one fold in twenty is worse by four standard deviations
    shared     four fifths of the variance from three factors that configurations share, as neighbours in a grid do

With `kfold`, a part of each configuration's noise is the same in all folds, because folds share one sample. Its share
is the one that Nadeau & Bengio (2003) assume, test / (training + test). Every second study has effects of the folds,
three times as large as the noise.
"""

from __future__ import annotations

# Thread pools are limited before the imports that create them.
from pairsearch.search.common import machine, threads

threads.limit()

import argparse
import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from benchfile import say
from scipy import stats

from pairsearch.search.verdict.judging import judge
from pairsearch.studies.intervals import FloatArray

LAYOUTS = ("equal", "two", "cluster", "spread")
NOISES = ("normal", "heavy", "right", "left", "collapses", "shared")
PROTOCOLS = ("resample", "kfold")
ALPHA = 0.05
CONFIGURATIONS = (64, 192, 960)
FOLDS = (5, 10, 20)
COLUMNS = (
    "protocol",
    "folds",
    "n",
    "means",
    "noise",
    "best in the set",
    "uncorrected",
    "size",
    "mean in its interval",
    "regret within its bound",
    "optimism",
    "true",
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of synthetic studies."""

    layout: str
    noise: str
    protocol: str = "resample"
    configurations: int = 192
    folds: int = 10
    alike: bool = False
    """Whether the noise of all configurations has the same scale."""

    @property
    def overlap(self) -> float:
        """Validation over training examples of a fold if folds share one sample, else 0."""
        return 1.0 / (self.folds - 1) if self.protocol == "kfold" else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """The verdicts on synthetic studies compared with the truth; optimism is in units of the median noise."""

    coverage: float
    """Share of studies whose set contains the truly best configuration; nominally 1 − ALPHA."""
    uncorrected: float
    """The same for uncorrected paired t-tests against the lowest mean, for comparison."""
    size: float
    """Mean number of configurations in the set."""
    interval: float
    """Share of studies in which the winner's true mean lies in its interval."""
    regret: float
    """Share of studies in which the winner's true regret is within its bound."""
    optimism: float
    """Mean optimism of the verdicts."""
    flattery: float
    """Mean true optimism: the winner's true mean minus its observed one."""
    flattery_error: float
    """Standard error of `flattery`."""


def synthetic(scenario: Scenario, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw a study without effects of folds.

    Returns:
        True means (configurations,), the lowest 0, and values (configurations, folds).
    """
    count, folds = scenario.configurations, scenario.folds
    places = np.arange(count)
    if scenario.layout == "equal":
        truth = np.zeros(count)
    elif scenario.layout == "two":
        truth = np.where(places < 2, 0.3 * places, 2.0)
    elif scenario.layout == "cluster":
        truth = np.where(places < count / 16, random.normal(0.0, 0.5, count), 6.0)
    else:
        truth = random.gamma(1.5, 2.0, count)
    truth = truth - truth.min()
    # The last column is the noise that all folds of `kfold` have in common.
    noise, common = np.hsplit(_noise(scenario.noise, (count, folds + 1), random), [folds])
    if scenario.protocol == "kfold":
        share = scenario.overlap / (1.0 + scenario.overlap)
        noise = math.sqrt(1.0 - share) * noise + math.sqrt(share) * common
    scale = np.ones(count) if scenario.alike else random.lognormal(0.0, 0.5, count)
    return truth, truth[:, None] + scale[:, None] * noise


def _noise(kind: str, shape: tuple[int, int], random: np.random.Generator) -> FloatArray:
    """Draw noise of mean 0 and variance 1; collapses add to that variance."""
    if kind == "heavy":
        return random.standard_t(3, shape) / math.sqrt(3.0)
    if kind in ("right", "left"):
        skewed = (random.gamma(0.5, 1.0, shape) - 0.5) / math.sqrt(0.5)
        return skewed if kind == "right" else -skewed
    noise = random.standard_normal(shape)
    if kind == "collapses":
        return noise + 4.0 * (random.random(shape) < 0.05) - 0.2
    if kind == "shared":
        loadings = random.standard_normal((shape[0], 3)) / math.sqrt(3.0)
        return math.sqrt(0.8) * loadings @ random.standard_normal((3, shape[1])) + math.sqrt(0.2) * noise
    if kind != "normal":
        raise ValueError(f"unknown noise {kind!r}")
    return noise


def uncorrected_set(values_CK: FloatArray) -> FloatArray:
    """Whether each configuration passes a one-sided paired t-test against the lowest mean, uncorrected."""
    best = values_CK.mean(axis=1).argmin()
    others = np.delete(values_CK, best, axis=0)
    p = stats.ttest_rel(others, values_CK[best][None, :], axis=1, alternative="greater").pvalue
    return np.insert(np.asarray(p) > ALPHA, best, True)


def measure(scenario: Scenario, studies: int) -> Measured:
    """Judge `studies` synthetic studies. Equal arguments give equal figures."""
    random = np.random.default_rng(0)
    keys = [str(index) for index in range(scenario.configurations)]
    rows = []
    for number in range(studies):
        truth, values = synthetic(scenario, random)
        best = np.flatnonzero(truth == 0.0)
        effects = 3.0 * (number % 2) * random.standard_normal(scenario.folds)
        verdict = judge(values + effects, keys, np.ones(len(keys)), overlap=scenario.overlap, alpha=ALPHA)
        members = np.isin(np.arange(len(keys)), [int(member.key) for member in verdict.members])
        winner = int(verdict.winner)
        low, high = verdict.interval or (-math.inf, math.inf)
        rows.append(
            [
                members[best].mean(),
                uncorrected_set(values)[best].mean(),
                members.sum(),
                low <= truth[winner] <= high,
                verdict.regret is None or truth[winner] <= verdict.regret,
                verdict.optimism or 0.0,
                truth[winner] - values[winner].mean(),
            ]
        )
    figures = np.array(rows, dtype=float)
    error = figures[:, -1].std(ddof=1) / math.sqrt(studies)
    coverage, uncorrected, size, interval, regret, optimism, flattery = map(float, figures.mean(axis=0))
    return Measured(
        coverage=coverage,
        uncorrected=uncorrected,
        size=size,
        interval=interval,
        regret=regret,
        optimism=optimism,
        flattery=flattery,
        flattery_error=float(error),
    )


def table(scenarios: Sequence[Scenario], studies: int, workers: int) -> None:
    """Measure the scenarios, and print a row for each as it is done."""
    say(f"| {' | '.join(COLUMNS)} |")
    say("|---" * len(COLUMNS) + "|")
    with ProcessPoolExecutor(workers) as pool:
        measured = pool.map(partial(measure, studies=studies), scenarios)
        for scenario, found in zip(scenarios, measured, strict=True):
            noise = f"{scenario.noise}, alike" if scenario.alike else scenario.noise
            say(
                f"| {scenario.protocol} | {scenario.folds} | {scenario.configurations} | {scenario.layout} | {noise} "
                f"| {found.coverage:.3f} | {found.uncorrected:.3f} | {found.size:.1f} | {found.interval:.3f} "
                f"| {found.regret:.3f} | {found.optimism:.2f} | {found.flattery:.2f} ± {found.flattery_error:.2f} |"
            )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=200, help="synthetic studies of each scenario")
    parser.add_argument("--configurations", type=int, nargs="+", default=CONFIGURATIONS, help="of a study")
    parser.add_argument("--folds", type=int, nargs="+", default=FOLDS, help="of a study")
    parser.add_argument("--alike", action="store_true", help="give the noise of all configurations one scale")
    options = parser.parse_args()
    scenarios = [
        Scenario(layout, noise, protocol, count, folds, options.alike)
        for count, folds, protocol, layout, noise in itertools.product(
            options.configurations, options.folds, PROTOCOLS, LAYOUTS, NOISES
        )
    ]
    table(scenarios, options.studies, machine.cores())


if __name__ == "__main__":
    main()
