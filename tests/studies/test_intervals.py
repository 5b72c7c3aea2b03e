"""Intervals of means, shares and totals, and the distribution behind them."""

from __future__ import annotations

from itertools import combinations, product
from math import sqrt
from statistics import fmean, pvariance

import numpy as np
import pytest
from scipy import stats

from pairsearch.studies.intervals import mean_interval, quantile, share_interval, total_interval, upper_tail


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 19, 40])
def test_students_t_is_that_of_scipy(degrees: int) -> None:
    t = np.linspace(-20.0, 20.0, 401)
    assert upper_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), abs=1e-14)
    assert quantile(0.025, degrees) == pytest.approx(stats.t.isf(0.025, degrees), rel=1e-12)


def test_intervals_are_those_of_scipy() -> None:
    values = np.random.default_rng(7).normal(size=12).tolist()
    for level in (0.95, 0.99):
        ours = mean_interval(values, level)
        assert ours is not None
        theirs = stats.ttest_1samp(values, 0).confidence_interval(level)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
        for count in (0, 7, 12):
            share = share_interval(count, 12, level)
            exact = stats.binomtest(count, 12).proportion_ci(level, method="exact")
            assert share is not None
            assert (share.low, share.high) == pytest.approx((exact.low, exact.high))
    # Of k-fold cross-validation with overlap 1/9 and ten folds: (1/10 + 1/9) s² instead of s²/10.
    wide, narrow = mean_interval(values[:10], overlap=1 / 9), mean_interval(values[:10])
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low == pytest.approx((narrow.high - narrow.low) * np.sqrt(1 + 10 / 9))
    assert mean_interval([1.0]) is None
    assert share_interval(0, 0) is None


def test_over_all_samples_the_estimate_and_its_variance_are_those_of_the_population() -> None:
    population = [[1.0, 2.0, 4.0, 9.0], [10.0, 11.0, 15.0], [3.0, 3.5]]
    sizes = [len(stratum) for stratum in population]
    totals, variances = [], []
    for samples in product(*(combinations(stratum, 2) for stratum in population)):
        total = total_interval(sizes, samples)
        totals.append(total.estimate)
        assert total.estimate - total.low == pytest.approx(total.high - total.estimate)
        # The quantile at the effective degrees of freedom (Cochran 5.16), computed independently.
        spreads = [n * (n - 2) / 2 * np.var(s, ddof=1) for n, s in zip(sizes, samples, strict=True)]
        critical = stats.t.ppf(0.975, sum(spreads) ** 2 / sum(spread**2 for spread in spreads))
        variances.append(((total.high - total.estimate) / critical) ** 2)
        assert sqrt(variances[-1]) == pytest.approx(sqrt(sum(spreads)))
    assert fmean(totals) == pytest.approx(sum(map(sum, population)))
    assert fmean(variances) == pytest.approx(pvariance(totals))


def test_a_whole_population_leaves_nothing_to_estimate() -> None:
    total = total_interval([3, 1], [[1.0, 2.0, 6.0], [5.0]])
    assert (total.estimate, total.low, total.high) == (14.0, 14.0, 14.0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    population = [random.gamma(4.0, size / 4, 40) for size in (1, 2, 3, 5)]
    truth = float(sum(stratum.sum() for stratum in population))
    held = 0
    for _ in range(400):
        total = total_interval([40] * 4, [random.permutation(stratum)[:8].tolist() for stratum in population])
        held += total.low <= truth <= total.high
    assert 0.90 < held / 400 < 0.99
