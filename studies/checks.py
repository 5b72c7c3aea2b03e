"""What one check found: a line of `pairsearch doctor` or `pairsearch check`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """`good` is None for a fact that cannot be wrong."""

    name: str
    good: bool | None
    finding: str
