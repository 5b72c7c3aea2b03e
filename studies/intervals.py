"""Estimates with their confidence intervals, and Student's t distribution behind them; it knows no study.

Student's distribution for whole degrees of freedom stands here without SciPy, whose import takes longer than a verdict.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
"""Level of the intervals that are shown and that decide claims."""


def upper_tail(t: FloatArray, degrees: int) -> FloatArray:
    """Return P(T > t) of Student's t distribution, elementwise.

    The absolute error is below 1e-14, so that far tails may become 0. The finite sums are those of Abramowitz & Stegun,
    "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    angle = np.arctan(np.abs(t) / math.sqrt(degrees))
    sine, square = np.sin(angle), np.cos(angle) ** 2
    odd = degrees % 2
    term, total = np.cos(angle) if odd else np.ones_like(angle), np.zeros_like(angle)
    for index in range(odd, degrees - 1, 2):
        total += term
        term = term * square * (index + 1) / (index + 2)
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return np.asarray(np.where(t < 0, 0.5 + within / 2, np.maximum(0.0, 0.5 - within / 2)))


@cache
def quantile(tail: float, degrees: int) -> float:
    """Return the t with P(T > t) = `tail`, for 0 < tail < 0.5, by bisection."""
    low, high = 0.0, 1.0
    while upper_tail(np.array(high), degrees) > tail:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(np.array(middle), degrees) > tail else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    @classmethod
    def around(cls, estimate: float, half: float) -> Interval:
        """Make an interval that reaches as far below the estimate as above it."""
        return cls(estimate, estimate - half, estimate + half)


def mean_interval(
    values: Sequence[float], level: float = LEVEL, overlap: float = 0.0, *, shares: bool = False
) -> Interval | None:
    """Return the t interval of a mean (Student 1908), None for fewer than two values.

    It is mean ± t(n − 1) · s · √(1/n + overlap), for values that are about normal.

    Args:
        values: the values, independent if `overlap` is 0.
        overlap: validation over training examples, if the values are of folds that share one sample (Nadeau & Bengio,
            Machine Learning 52, 2003).
        shares: whether they are fractions: where all are in [0, 1], the interval is clipped to it.
    """
    n = len(values)
    if n < 2:
        return None
    error = statistics.stdev(values) * math.sqrt(1 / n + overlap)
    found = Interval.around(statistics.fmean(values), quantile((1 - level) / 2, n - 1) * error)
    if shares and min(values) >= 0 and max(values) <= 1:
        return Interval(found.estimate, max(0.0, found.low), min(1.0, found.high))
    return found


def share_interval(count: int, of: int, level: float = LEVEL) -> Interval | None:
    """Return the exact interval of a share (Clopper & Pearson, Biometrika 26, 1934), None if `of` is 0."""
    if of == 0:
        return None
    from scipy.special import betaincinv  # noqa: PLC0415 - slow to import

    tail = (1 - level) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return Interval(count / of, low, high)


def total_interval(sizes: Sequence[int], samples: Sequence[Sequence[float]]) -> Interval:
    """Estimate the total over a population from a stratified random sample, with its interval at `LEVEL`.

    Cochran, "Sampling Techniques", 3rd edition 1977, section 5.3 to 5.4: the total is estimated by Σ N y̅ over strata,
    its variance by Σ N (N − n) s² / n, which includes the finite population correction; the interval has the quantile
    of t at Satterthwaite's effective degrees of freedom (5.16).

    Args:
        sizes: N, the size of each stratum.
        samples: n figures from each stratum; n is at least two, unless it is N.
    """
    total = sum(size * statistics.fmean(sample) for size, sample in zip(sizes, samples, strict=True))
    parts = [
        (size * (size - len(sample)) / len(sample) * statistics.variance(sample), len(sample) - 1)
        for size, sample in zip(sizes, samples, strict=True)
        if size > len(sample)
    ]
    spread = sum(part for part, _ in parts)
    if spread == 0:
        return Interval.around(total, 0.0)
    freedom = spread**2 / sum(part**2 / degrees for part, degrees in parts)
    from scipy.special import stdtrit  # noqa: PLC0415 - the degrees of freedom are no whole number

    return Interval.around(total, float(stdtrit(freedom, 0.5 + LEVEL / 2)) * math.sqrt(spread))
