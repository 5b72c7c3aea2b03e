"""Measures how far a verdict can be believed, on synthetic studies whose truth is known.

    python -m pairsearch.search.measure.calibration --studies 200

A study's figures are true mean + effect of the fold + noise. The noise of each configuration has its own scale
(log-normal), as configurations that train badly also vary more. Three layouts of the true means, in units of the
median noise of a fold, and four kinds of noise:

    equal     all the same: the hardest case, in which any exclusion is a false alarm
    cluster   one in sixteen is good, close together; the others are far worse
    spread    a few good ones, ever more of worse ones (gamma distribution)

    normal    independent, normal
    heavy     independent, Student's t with three degrees of freedom
    skewed    independent, log-normal with a skewness of about 2.3
    shared    four fifths of the variance from three factors that configurations share, as neighbours in a grid do

With `kfold` a part of each configuration's noise is the same in all folds, because they share their sample; its
share is the one that Nadeau & Bengio (2003) assume, test / (training + test).
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pairsearch.search.verdict.judging import judge
from pairsearch.search.verdict.sign_flips import FloatArray

LAYOUTS = ("equal", "cluster", "spread")
NOISES = ("normal", "heavy", "skewed", "shared")
SIGMA = 0.6
"""Of the log-normal noise before it is standardised."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What synthetic studies look like."""

    layout: str
    noise: str
    protocol: str = "resample"
    configurations: int = 192
    folds: int = 10
    test_fraction: float = 0.25
    """Validation pairs over training pairs of a fold."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What verdicts on synthetic studies said, and what was true; optimism in units of the median noise."""

    studies: int
    coverage: float
    """Share of studies whose set has the truly best configuration; nominal is 1 − alpha."""
    uncorrected: float
    """The same for uncorrected paired t-tests against the lowest mean, for comparison."""
    size: float
    """Share of the configurations that are in the set."""
    stated: float
    """Mean probability of being the best that was stated for the winner."""
    correct: float
    """Share of studies in which the winner is truly the best."""
    optimism: float
    """Mean optimism that was stated."""
    flattery: float
    """Mean optimism that was real: the winner's true mean minus its observed one."""
    flattery_error: float
    """Standard error of `flattery`."""


def synthetic(scenario: Scenario, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """True means (configurations,), lowest 0, and values (configurations, folds) without effects of folds."""
    count, folds = scenario.configurations, scenario.folds
    if scenario.layout == "equal":
        truth = np.zeros(count)
    elif scenario.layout == "cluster":
        truth = np.where(np.arange(count) < count / 16, random.normal(0.0, 0.5, count), 6.0)
    else:
        truth = random.gamma(1.5, 2.0, count)
    truth = truth - truth.min()
    # The last column is what all folds of `kfold` have in common.
    noise, common = np.hsplit(_noise(scenario.noise, (count, folds + 1), random), [folds])
    if scenario.protocol == "kfold":
        share = scenario.test_fraction / (1.0 + scenario.test_fraction)
        noise = math.sqrt(1.0 - share) * noise + math.sqrt(share) * common
    return truth, truth[:, None] + random.lognormal(0.0, 0.5, count)[:, None] * noise


def _noise(kind: str, shape: tuple[int, int], random: np.random.Generator) -> FloatArray:
    """Noise of mean 0 and variance 1."""
    noise = random.standard_normal(shape)
    if kind == "heavy":
        noise = random.standard_t(3, shape) / math.sqrt(3.0)
    elif kind == "skewed":
        deviation = math.sqrt(math.expm1(SIGMA**2) * math.exp(SIGMA**2))
        noise = (random.lognormal(0.0, SIGMA, shape) - math.exp(SIGMA**2 / 2)) / deviation
    elif kind == "shared":
        loadings = random.standard_normal((shape[0], 3)) / math.sqrt(3.0)
        noise = math.sqrt(0.8) * loadings @ random.standard_normal((3, shape[1])) + math.sqrt(0.2) * noise
    return noise


def uncorrected_set(values_CK: FloatArray, alpha: float) -> FloatArray:
    """Whether each configuration passes a one-sided paired t-test against the lowest mean, uncorrected."""
    best = values_CK.mean(axis=1).argmin()
    others = np.delete(values_CK, best, axis=0)
    p = stats.ttest_rel(others, values_CK[best][None, :], axis=1, alternative="greater").pvalue
    return np.insert(np.asarray(p) > alpha, best, True)


def measure(scenario: Scenario, studies: int, *, alpha: float = 0.05, seed: int = 0) -> Measured:
    """Judge so many synthetic studies; equal arguments give equal figures."""
    random = np.random.default_rng(seed)
    keys = [str(index) for index in range(scenario.configurations)]
    rows = []
    for _ in range(studies):
        truth, values = synthetic(scenario, random)
        best = np.flatnonzero(truth == 0.0)
        # The same for all configurations of a fold; it must not matter.
        effects = 3.0 * random.standard_normal(scenario.folds)
        verdict = judge(
            values + effects,
            keys,
            np.ones(len(keys)),
            overlap=scenario.test_fraction if scenario.protocol == "kfold" else 0.0,
            alpha=alpha,
        )
        members = np.isin(np.arange(len(keys)), [int(member.key) for member in verdict.members])
        winner = int(verdict.winner)
        rows.append(
            [
                members[best].mean(),
                uncorrected_set(values, alpha)[best].mean(),
                members.mean(),
                verdict.candidates[0].probability_best,
                float(winner in best) / len(best),
                verdict.optimism or 0.0,
                truth[winner] - values[winner].mean(),
            ]
        )
    figures = np.array(rows)
    means = figures.mean(axis=0)
    return Measured(
        studies=studies,
        coverage=float(means[0]),
        uncorrected=float(means[1]),
        size=float(means[2]),
        stated=float(means[3]),
        correct=float(means[4]),
        optimism=float(means[5]),
        flattery=float(means[6]),
        flattery_error=float(figures[:, 6].std(ddof=1) / math.sqrt(studies)),
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m pairsearch.search.measure.calibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--studies", type=int, default=200, help="synthetic studies of each scenario")
    parser.add_argument("--configurations", type=int, default=192, help="configurations of a study")
    options = parser.parse_args()
    say(
        "| protocol | means | noise | in the set | uncorrected | size | stated best | truly best | optimism | true |"
    )
    say("|---|---|---|---|---|---|---|---|---|---|")
    for protocol, layout, noise in itertools.product(("resample", "kfold"), LAYOUTS, NOISES):
        fraction = 0.25 if protocol == "resample" else 1 / 9
        scenario = Scenario(layout, noise, protocol, options.configurations, test_fraction=fraction)
        found = measure(scenario, options.studies)
        say(
            f"| {protocol} | {layout} | {noise} | {found.coverage:.3f} | {found.uncorrected:.3f} "
            f"| {found.size:.3f} | {found.stated:.2f} | {found.correct:.2f} | {found.optimism:.2f} "
            f"| {found.flattery:.2f} ± {found.flattery_error:.2f} |"
        )


def say(text: str) -> None:
    """A line of the table."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
