"""Intervals of means and shares, and what they say about a claim. Pure statistics: no database, no study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEVEL = 0.95
"""Of the intervals that are shown and that decide."""


class Decision(StrEnum):
    """What is said of a claim, or of one piece of its evidence."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    def decide(self, threshold: float, *, strict: bool) -> Decision:
        """Whether the true value is above the threshold, or, unless `strict`, at least the threshold.

        An interval of no width, as of two configurations that are the same, decides too.
        """
        if self.low > threshold or (self.low == threshold and not strict):
            return Decision.HOLDS
        if self.high < threshold or (self.high == threshold and strict):
            return Decision.FAILS
        return Decision.UNDECIDED


def mean_interval(values: Sequence[float], level: float = LEVEL, overlap: float = 0.0) -> Interval | None:
    """The t interval of a mean (Student 1908), None of fewer than two values.

    It is mean ± t(n − 1) · s · √(1/n + overlap), for values that are about normal.

    Args:
        values: independent for an overlap of 0.
        overlap: validation over training examples, where values are of folds that share one sample (Nadeau & Bengio,
            Machine Learning 52, 2003).
    """
    n = len(values)
    if n < 2:
        return None
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import for commands that decide nothing

    mean = statistics.fmean(values)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * statistics.stdev(values) * math.sqrt(1 / n + overlap)
    return Interval(mean, mean - half, mean + half)


def share_interval(count: int, of: int, level: float = LEVEL) -> Interval | None:
    """The exact interval of a share (Clopper & Pearson, Biometrika 26, 1934), None of nothing."""
    if of == 0:
        return None
    from scipy.special import betaincinv  # noqa: PLC0415

    tail = (1 - level) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return Interval(count / of, low, high)


def combined(decisions: Sequence[Decision], corrected: Sequence[Decision]) -> Decision:
    """What pieces of evidence say together of a claim that holds only where all of them do.

    That all hold needs no correction for their number: the chance of saying so of a claim of which any part is false
    is at most that of this part (intersection-union test: Berger, Technometrics 24, 1982). That one fails is enough
    against a claim, so there the number counts (Bonferroni).

    Args:
        decisions: of each piece at `LEVEL`.
        corrected: of each at `corrected_level`.
    """
    if Decision.FAILS in corrected:
        return Decision.FAILS
    holds = all(decision is Decision.HOLDS for decision in decisions)
    return Decision.HOLDS if holds else Decision.UNDECIDED


def corrected_level(pieces: int) -> float:
    """The level at which one of so many pieces of evidence decides against a claim."""
    return 1 - (1 - LEVEL) / max(1, pieces)


def values_for_width(values: Sequence[float]) -> int | None:
    """How many values, of this spread, would make the interval of the mean as narrow as the mean is far from 0.

    None where it is 0 itself. By the normal distribution: n = (2 · 1.96 · s / mean)².
    """
    mean = statistics.fmean(values)
    if mean == 0:
        return None
    return math.ceil((2 * 1.96 * statistics.stdev(values) / mean) ** 2)
