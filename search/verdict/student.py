"""Student's t distribution for whole degrees of freedom, without SciPy, whose import takes longer than a verdict."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def upper_tail(t: FloatArray, degrees: int) -> FloatArray:
    """Return P(T > t), elementwise, with an absolute error below 1e-14, so that far tails may become 0.

    It uses the finite sums of Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
    """
    angle = np.arctan(np.abs(t) / math.sqrt(degrees))
    sine, square = np.sin(angle), np.cos(angle) ** 2
    if degrees % 2:
        term, total = np.cos(angle), np.zeros_like(angle)
        for index in range(1, degrees - 1, 2):
            total += term
            term = term * square * (index + 1) / (index + 2)
        within = 2 / math.pi * (angle + sine * total)
    else:
        term, total = np.ones_like(angle), np.zeros_like(angle)
        for index in range(0, degrees - 1, 2):
            total += term
            term = term * square * (index + 1) / (index + 2)
        within = sine * total
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
