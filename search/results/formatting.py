"""How figures read: shares in per cent, spreads, durations."""

from __future__ import annotations

from pairsearch.search.results.evaluations import Spread

DASH = "–"


def per_cent(fraction: float | None) -> str:
    """`6.06` for 0.0606."""
    return DASH if fraction is None else f"{100 * fraction:.2f}"


def spread(value: Spread | None) -> str:
    """`6.06 ± 1.28`, in per cent."""
    if value is None:
        return DASH
    return per_cent(value.mean) + (f" ± {per_cent(value.std)}" if value.std is not None else "")


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
