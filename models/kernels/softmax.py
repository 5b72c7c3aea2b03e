"""Cross entropy of one row of logits and its gradient, in float32 as PyTorch computes it.

Exponential and logarithm are our own, in float64 from operations that IEEE 754 rounds correctly: a C library has
variants of them for each processor and version, which differ in the last bit.
"""

from __future__ import annotations

import math

import numpy as np

from models.kernels.jit import Floats, compiled

_LOG2_E = 1 / math.log(2)
# log 2 in two parts: the first has so few bits that its products with the whole numbers met here are exact.
_LOG2_HIGH = 0x162E42FEE / 2**33
_LOG2_LOW = 1.908214929270587700016e-10
_SMALLEST = -104.0  # Its exponential is below half the smallest float32.
_POWERS = np.ldexp(1.0, np.arange(-151, 1))
_SQRT2 = math.sqrt(2)


@compiled
def exponential(x: np.float32) -> np.float32:
    """e to the power of x ≤ 0, rounded from a relative error below 1e-12; NaN stays NaN."""
    value = float(x)
    if value < _SMALLEST:
        value = _SMALLEST
    if np.isnan(value):
        return x
    power = int(math.floor(value * _LOG2_E + 0.5))
    r = (value - power * _LOG2_HIGH) - power * _LOG2_LOW
    # Taylor's series up to r¹¹/11!, |r| ≤ log(2)/2.
    series = 1.0 + r * (1.0 / 11.0)
    for n in (10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0):
        series = 1.0 + (r * series) * (1.0 / n)
    return np.float32(series * _POWERS[power + 151])


@compiled
def logarithm(x: np.float32) -> np.float32:
    """Natural logarithm of x from 1 to some hundreds, rounded from an error below 1e-12; NaN stays NaN."""
    value = float(x)
    halvings = 0
    while value > _SQRT2:
        value *= 0.5
        halvings += 1
    # log y = 2 artanh((y - 1) / (y + 1)), the series up to the 17th power; |s| ≤ 0.1716.
    s = (value - 1.0) / (value + 1.0)
    square = s * s
    series = 1.0 / 17.0
    for n in (15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
        series = 1.0 / n + square * series
    return np.float32(halvings * _LOG2_HIGH + (2.0 * s * series + halvings * _LOG2_LOW))


@compiled
def cross_entropy(
    logits: Floats, at: int, count: int, label: int, gradients: Floats, to: int, scale: np.float32
) -> np.float32:
    """The loss -log softmax(logits)[label]; writes scale · (softmax - one-hot) to `gradients`.

    NaN or infinite logits give NaN, as in PyTorch.
    """
    largest = logits[at]
    for n in range(1, count):
        largest = max(largest, logits[at + n])
    total = np.float32(0)
    for n in range(count):
        power = exponential(np.float32(logits[at + n] - largest))
        gradients[to + n] = power
        total += power
    factor = np.float32(scale / total)
    for n in range(count):
        gradients[to + n] *= factor
    gradients[to + label] -= scale
    return np.float32(logarithm(total) - (logits[at + label] - largest))


@compiled
def answers_one(zero: np.float32, one: np.float32) -> bool:
    """Whether the second of two logits is larger: a tie answers 0, NaN counts as largest (torch.argmax)."""
    return bool(one > zero or (np.isnan(one) and not np.isnan(zero)))
