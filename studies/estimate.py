"""Estimates the total over a population from a stratified random sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance

from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated total and its confidence interval, in the unit of the figures."""

    total: float
    low: float
    high: float


def expand(sizes: Sequence[int], samples: Sequence[Sequence[float]]) -> Estimate:
    """Estimate the total over a population from a stratified random sample, with a 95 % interval.

    Cochran, "Sampling Techniques", 3rd edition 1977, section 5.3 to 5.4: the total is estimated by Σ N y̅ over strata,
    its variance by Σ N (N − n) s² / n, which includes the finite population correction; the interval has the quantile
    of t at Satterthwaite's effective degrees of freedom (5.16).

    Args:
        sizes: N, the size of each stratum.
        samples: n figures from each stratum; n is at least two, unless it is N.
    """
    total = sum(size * fmean(sample) for size, sample in zip(sizes, samples, strict=True))
    parts = [
        (size * (size - len(sample)) / len(sample) * variance(sample), len(sample) - 1)
        for size, sample in zip(sizes, samples, strict=True)
        if size > len(sample)
    ]
    spread = sum(part for part, _ in parts)
    if spread == 0:
        return Estimate(total, total, total)
    freedom = spread**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * sqrt(spread)
    return Estimate(total, total - half, total + half)
