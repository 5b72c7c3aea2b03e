"""Intervals of means and shares, and the decisions that follow from them. Pure statistics: no database, no study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEVEL = 0.95
"""Level of the intervals that are shown and that decide claims."""


class Decision(StrEnum):
    """The decision about a claim, or about one piece of its evidence."""

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
        """Decide whether the true value is above the threshold (`strict`), or at least the threshold.

        An interval without width, as of two configurations that are the same, decides too.
        """
        if self.low > threshold or (self.low == threshold and not strict):
            return Decision.HOLDS
        if self.high < threshold or (self.high == threshold and strict):
            return Decision.FAILS
        return Decision.UNDECIDED


def mean_interval(values: Sequence[float], level: float = LEVEL, overlap: float = 0.0) -> Interval | None:
    """Return the t interval of a mean (Student 1908), None for fewer than two values.

    It is mean ± t(n − 1) · s · √(1/n + overlap), for values that are about normal.

    Args:
        values: the values, independent if `overlap` is 0.
        level: the level of the interval.
        overlap: validation over training examples, if the values are of folds that share one sample (Nadeau & Bengio,
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
    """Return the exact interval of a share (Clopper & Pearson, Biometrika 26, 1934), None if `of` is 0."""
    if of == 0:
        return None
    from scipy.special import betaincinv  # noqa: PLC0415

    tail = (1 - level) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return Interval(count / of, low, high)


def combined(decisions: Sequence[Decision], corrected: Sequence[Decision]) -> Decision:
    """Combine the decisions about pieces of evidence for a claim that holds only if all of them do.

    Deciding that all hold needs no correction for their number: where one part of the claim is false, the error rate is
    at most that of this part (intersection-union test: Berger, Technometrics 24, 1982). A single failure decides
    against the claim, so that there the level is corrected for their number (Bonferroni).

    Args:
        decisions: about each piece, at `LEVEL`.
        corrected: about each piece, at `corrected_level`.
    """
    if Decision.FAILS in corrected:
        return Decision.FAILS
    holds = all(decision is Decision.HOLDS for decision in decisions)
    return Decision.HOLDS if holds else Decision.UNDECIDED


def corrected_level(pieces: int) -> float:
    """Return the level at which one of `pieces` pieces of evidence decides against a claim."""
    return 1 - (1 - LEVEL) / max(1, pieces)


def values_for_width(values: Sequence[float]) -> int | None:
    """Return how many values of this spread would make the interval of the mean as narrow as the mean is far from 0.

    By the normal distribution this is n = (2 · 1.96 · s / mean)². It is None if the mean is 0.
    """
    mean = statistics.fmean(values)
    if mean == 0:
        return None
    return math.ceil((2 * 1.96 * statistics.stdev(values) / mean) ** 2)
