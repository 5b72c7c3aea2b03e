"""Counts what a worker did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass


@dataclass(slots=True)
class Tally:
    """How many configurations a worker ended, and how many of its claims failed, were lost or handed back."""

    finished: int = 0
    failed: int = 0
    superseded: int = 0
    handed_back: int = 0
    rounds: int = 0


def total(tallies: Sequence[Tally]) -> Tally:
    """Add up several tallies."""
    return Tally(*map(sum, zip(*map(astuple, tallies), strict=True)))
