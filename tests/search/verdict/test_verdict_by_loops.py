"""The verdict is that of its definition, written once more in plain loops over configurations, folds and samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np
import pytest
from scipy import stats

from pairsearch.search.verdict.judging import expected_optimism, judge

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Some:
    """Configurations that are compared by their mean: which, that mean by fold, and their typical deviation from it."""

    which: list[int]
    mean: list[float]
    spread: float


def some(values: Rows, which: Sequence[int]) -> Some:
    mean = [fmean(fold) for fold in zip(*(values[one] for one in which), strict=True)]
    return Some(list(which), mean, median(stdev(minus(values[one], mean)) for one in which))


def minus(left: Sequence[float], right: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(left, right, strict=True)]


def chance(values: Rows, group: Some, overlap: float, level: float) -> float:
    """How many standard errors below the mean the luckiest of as many equals is in the worst of bootstrap samples."""
    folds = len(values[0])
    random = np.random.default_rng(0)
    counts = random.multinomial(folds, np.full(folds, 1 / folds), size=200)
    common = random.integers(folds, size=200)
    residuals = []
    for one in group.which:
        from_mean = minus(values[one], group.mean)
        residuals.append([(value - fmean(from_mean)) * math.sqrt(folds / (folds - 1)) for value in from_mean])
    largest = []
    for count, fold in zip(counts, common, strict=True):
        lucks = [0.0]
        for place, residual in enumerate(residuals):
            sample = [value for value, times in zip(residual, count, strict=True) for _ in range(times)]
            variance = folds / (folds - 1) * (fmean(value**2 for value in sample) - fmean(sample) ** 2)
            error = math.sqrt(max(variance, group.spread**2) / folds)
            noise = math.sqrt(overlap) * residuals[place - 1][fold]
            lucks.append(-(fmean(sample) + noise) / error if error else 0.0)
        largest.append(max(lucks))
    return float(np.quantile(largest, 1 - level))


def leading(values: Rows, size: int, overlap: float) -> tuple[Some, Some]:
    folds = len(values[0])
    bound = sorted(map(fmean, values))[size - 1]
    group = before = some(values, [one for one, row in enumerate(values) if fmean(row) <= bound])
    while len(group.which) > 1:
        luck = chance(values, group, overlap, 0.005 if overlap else 0.025)
        ahead = [
            one
            for one in group.which
            if fmean(minus(values[one], group.mean))
            < -luck * max(stdev(minus(values[one], group.mean)), group.spread) / math.sqrt(folds)
        ]
        if not ahead:
            break
        before, group = group, some(values, ahead)
    return group, before


def worse_than_rivals(values: Rows, size: int, overlap: float) -> list[list[float]]:
    """By configuration and fold: how much worse it is there than those that lead on the other folds."""
    rows: list[list[float]] = [[] for _ in values]
    for fold in range(len(values[0])):
        others = [[*row[:fold], *row[fold + 1 :]] for row in values]
        group, before = leading(others, size, overlap)
        for one, row in enumerate(rows):
            rivals = before if group.which == [one] else group
            against = [values[other][fold] for other in rivals.which if other != one]
            row.append(values[one][fold] - fmean(against))
    return rows


@dataclass(frozen=True)
class Judged:
    """What the definition says of configurations, the best first."""

    p: list[float]
    at_least: list[float]
    interval: tuple[float, float]
    regret: float


def by_loops(values: Rows, overlap: float, alpha: float) -> Judged:
    count, folds = len(values), len(values[0])
    correction = 4 if overlap else 3
    critical = float(stats.t.isf(alpha / correction, folds - 1))
    error = math.sqrt(1 / folds + overlap)
    ps, bounds = [], []
    for size in sorted({max(min(8, count), math.ceil(count / part)) for part in (2, 8)}):
        rows = worse_than_rivals(values, size, overlap)
        group, before = leading(values, size, overlap)
        leaders = group if len(group.which) > 1 else before
        typical = median(stdev(rows[one]) for one in leaders.which)
        errors = [error * max(stdev(row), typical) for row in rows]
        tested = list(zip(rows, errors, strict=True))
        ps.append([correction * stats.t.sf(fmean(row) / one, folds - 1) for row, one in tested])
        bounds.append([fmean(row) - critical * one for row, one in tested])
    p = [min(1.0, *found) for found in zip(*ps, strict=True)]
    p[0] = 1.0
    members = [one for one in range(count) if p[one] > alpha]
    group = some(values, members) if len(members) > 1 else leaders
    best = values[0]
    luck = max(critical * error, chance(values, group, overlap, alpha / 2) / math.sqrt(folds))
    chosen, shared = max(stdev(minus(best, group.mean)), group.spread), stdev(group.mean)
    below = critical * error * math.hypot(chosen, shared)
    above = math.hypot(luck * chosen, critical * error * shared)
    reach = luck if overlap else critical * error
    regrets = [
        fmean(minus(best, values[one])) + reach * max(stdev(minus(best, values[one])), group.spread)
        for one in members[1:]
    ]
    interval = (fmean(best) - below, fmean(best) + above)
    return Judged(p, list(map(max, zip(*bounds, strict=True))), interval, max([0.0, *regrets]))


def study(configurations: int, folds: int, spread: float, ahead: int) -> np.ndarray:
    """Figures by fold, the lowest mean first; the first `ahead` are better than chance would have it."""
    random = np.random.default_rng(configurations)
    values = spread * random.gamma(1.5, 2.0, (configurations, 1)) + random.lognormal(
        0.0, 0.3, (configurations, 1)
    ) * random.standard_normal((configurations, folds))
    values[:ahead] -= 8.0
    return values[np.argsort(values.mean(axis=1))]


@pytest.mark.parametrize("overlap", [0.0, 0.2])
@pytest.mark.parametrize(
    ("configurations", "folds", "spread", "ahead"),
    [(2, 5, 1.0, 1), (6, 6, 0.3, 0), (12, 5, 0.5, 3), (20, 6, 0.5, 1), (24, 5, 1.0, 12), (16, 20, 0.0, 0)],
)
def test_the_verdict_is_that_of_its_definition(
    configurations: int, folds: int, spread: float, ahead: int, overlap: float
) -> None:
    values = study(configurations, folds, spread, ahead)
    keys = [str(one) for one in range(configurations)]
    found = judge(values, keys, np.ones(configurations), overlap=overlap, alpha=0.05)
    expected = by_loops(values.tolist(), overlap, 0.05)
    inside = [one for one in range(configurations) if expected.p[one] > 0.05]
    assert [member.key for member in found.members] == [keys[one] for one in inside]
    assert [member.p for member in found.members] == pytest.approx([expected.p[one] for one in inside])
    assert found.interval == pytest.approx(expected.interval)
    assert found.regret == pytest.approx(expected.regret)
    bounds = [expected.at_least[one] for one in range(configurations) if one not in inside]
    assert (found.others is None) == (not bounds)
    if found.others is not None:
        assert found.others.at_least == pytest.approx(median(bounds))
    # The deviations are widened until the folds may count as independent.
    means = values.mean(axis=1, keepdims=True)
    widened = means + math.sqrt(1 + folds * overlap) * (values - means)
    assert found.optimism == pytest.approx(expected_optimism(widened))
