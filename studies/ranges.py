"""Values of a parameter that are given as a range: `{ log = [1e-4, 1e-1], count = 4 }`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

MOST_VALUES = 10_000
"""A range of more values is a mistake, and would fill the memory."""
LEAST_DIGITS = 6
"""What tables show of a number, which is therefore all of it where that is exact enough."""
EXACT_DIGITS = 17
"""Digits that say every number of 64 bits."""
TOLERANCE = 1e-3
"""How far a value may lie from its exact place, in steps of the range."""

FORMS = "{ log = [LOW, HIGH], count = N }, { linear = [LOW, HIGH], count = N } or { integers = [LOW, HIGH], step = N }"


def values_of(given: dict[str, Any]) -> list[Any]:
    """Return the values that a range gives.

    Those of `log` and `linear` are rounded to the shortest decimals that lie within a thousandth of a step of their
    exact places, but to no less than six digits. The two ends stay as they were given.

    Raises:
        ValueError: it is no range; the message is one line.
    """
    match given:
        case {"log": ends, "count": count, **others} if not others:
            low, high = _ends("log", ends, (int, float))
            if low <= 0:
                raise ValueError(f"log: expected numbers above 0, got {low!r}")
            return _spaced(low, high, _counted(count), math.log, math.exp)
        case {"linear": ends, "count": count, **others} if not others:
            low, high = _ends("linear", ends, (int, float))
            return _spaced(low, high, _counted(count), float, float)
        case {"integers": ends, **others} if others.keys() <= {"step"}:
            low, high = _ends("integers", ends, (int,))
            step = others.get("step", 1)
            if type(step) is not int or step < 1:
                raise ValueError(f"step: expected an integer of at least 1, got {step!r}")
            whole = range(low, high + 1, step)
            # The length of a longer range would overflow.
            _counted(1 + (high - low) // step, least=1)
            return list(whole)
    raise ValueError(f"expected a list, or one of {FORMS}, got {given!r}")


def _ends(name: str, given: Any, types: tuple[type, ...]) -> tuple[Any, Any]:
    numbers = (
        isinstance(given, list | tuple)
        and len(given) == 2
        and all(
            type(one) in types and (abs(one) < 2**63 if type(one) is int else math.isfinite(one))
            for one in given
        )
    )
    if not numbers or given[0] >= given[1]:
        kind = "integers" if float not in types else "finite numbers"
        raise ValueError(f"{name}: expected two {kind}, the lower one first, got {given!r}")
    return given[0], given[1]


def _counted(count: Any, least: int = 2) -> int:
    if type(count) is not int or not least <= count <= MOST_VALUES:
        raise ValueError(f"expected {least} to {MOST_VALUES:,} values, got {count!r}")
    return count


def _spaced(
    low: float, high: float, count: int, scale: Callable[[float], float], back: Callable[[float], float]
) -> list[float]:
    """Return numbers at equal distances on a scale."""
    first, last = scale(low), scale(high)
    step = (last - first) / (count - 1)
    inner = [_shortest(first + place * step, step, scale, back) for place in range(1, count - 1)]
    return [float(low), *inner, float(high)]


def _shortest(
    place: float, step: float, scale: Callable[[float], float], back: Callable[[float], float]
) -> float:
    for digits in range(LEAST_DIGITS, EXACT_DIGITS):
        value = float(f"{back(place):.{digits}g}")
        if abs(scale(value) - place) <= TOLERANCE * step:
            return value
    return back(place)
