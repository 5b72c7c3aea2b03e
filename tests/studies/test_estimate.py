"""The estimate of a total from a stratified sample is unbiased, and its interval is as wide as it says."""

from __future__ import annotations

from itertools import combinations, product
from math import sqrt
from statistics import fmean, pvariance

import numpy as np
import pytest
from scipy import stats

from pairsearch.studies.estimate import expand


def test_over_all_samples_the_estimate_and_its_variance_are_those_of_the_population() -> None:
    population = [[1.0, 2.0, 4.0, 9.0], [10.0, 11.0, 15.0], [3.0, 3.5]]
    sizes = [len(stratum) for stratum in population]
    totals, variances = [], []
    for samples in product(*(combinations(stratum, 2) for stratum in population)):
        estimate = expand(sizes, samples)
        totals.append(estimate.total)
        assert estimate.total - estimate.low == pytest.approx(estimate.high - estimate.total)
        # The quantile at the effective degrees of freedom (Cochran 5.16), computed independently.
        spreads = [n * (n - 2) / 2 * np.var(s, ddof=1) for n, s in zip(sizes, samples, strict=True)]
        quantile = stats.t.ppf(0.975, sum(spreads) ** 2 / sum(spread**2 for spread in spreads))
        variances.append(((estimate.high - estimate.total) / quantile) ** 2)
        assert sqrt(variances[-1]) == pytest.approx(sqrt(sum(spreads)))
    assert fmean(totals) == pytest.approx(sum(map(sum, population)))
    assert fmean(variances) == pytest.approx(pvariance(totals))


def test_a_whole_population_leaves_nothing_to_estimate() -> None:
    estimate = expand([3, 1], [[1.0, 2.0, 6.0], [5.0]])
    assert (estimate.total, estimate.low, estimate.high) == (14.0, 14.0, 14.0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    population = [random.gamma(4.0, size / 4, 40) for size in (1, 2, 3, 5)]
    truth = float(sum(stratum.sum() for stratum in population))
    held = 0
    for _ in range(400):
        estimate = expand([40] * 4, [random.permutation(stratum)[:8].tolist() for stratum in population])
        held += estimate.low <= truth <= estimate.high
    assert 0.90 < held / 400 < 0.99
