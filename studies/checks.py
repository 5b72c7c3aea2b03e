"""The result of one check, which is a line of `pairsearch doctor` or `pairsearch check`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    """What was checked, in a word."""
    good: bool | None
    """Whether all is well; None for a fact that cannot be wrong."""
    finding: str
    """What the check found, in a line."""
