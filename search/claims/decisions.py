"""Decisions that follow from intervals. Pure statistics: no database, no study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum

from pairsearch.studies.intervals import LEVEL, Interval


class Decision(StrEnum):
    """The decision about a claim, or about one piece of its evidence."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"


def decide_by(effect: Interval | None, threshold: float, *, strict: bool) -> Decision:
    """Decide whether the true value is above the threshold (`strict`), or at least the threshold.

    An interval without width, as of two configurations that are the same, decides too.
    """
    if effect is None:
        return Decision.UNDECIDED
    if effect.low > threshold or (effect.low == threshold and not strict):
        return Decision.HOLDS
    if effect.high < threshold or (effect.high == threshold and strict):
        return Decision.FAILS
    return Decision.UNDECIDED


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
