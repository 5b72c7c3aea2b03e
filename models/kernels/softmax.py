"""Cross entropy of one row of logits and its gradient, in float32 as PyTorch computes it.

Exponential and logarithm are computed here by operations that IEEE 754 rounds correctly: those of C libraries differ in
the last bit between processors and versions.
"""

from __future__ import annotations

import math

import numpy as np

from pairsearch.jit.compiling import Floats, compiled
from pairsearch.models.kernels.emit import UNIT, Emitter
from pairsearch.models.kernels.intrinsic import Address, Count, vector_kernel

# log 2 in two parts: the first has so few bits that its products with small integers are exact.
_LOG2_HIGH = 0x162E42FEE / 2**33
_LOG2_LOW = 1.908214929270587700016e-10
_SQRT2 = math.sqrt(2)


@vector_kernel
def _powers(e: Emitter, logits: Address, largest: Address, powers: Address, count: Count) -> None:
    """Write exp(logits - largest) to `powers`, then zeros up to a whole unit."""
    for at, lanes in e.over_units(e.quotient(e.sum(count, UNIT - 1), UNIT)):
        differences = e.subtract(e.load(e.at(logits, at), lanes), e.broadcast(largest, lanes))
        inside = e.before(at, count, lanes)
        e.store(e.select(inside, e.exponential(differences), e.zeros(lanes)), e.at(powers, at))


@compiled
def logarithm(x: np.float32) -> np.float32:
    """Return the natural logarithm of x, from 1 to some hundreds, rounded from an error below 1e-12; NaN for NaN."""
    value = float(x)
    halvings = 0
    while value > _SQRT2:
        value *= 0.5
        halvings += 1
    # log y = 2 artanh(s) with s = (y - 1) / (y + 1), by the series up to the 17th power; |s| ≤ 0.1716.
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
    """Return the loss -log softmax(logits)[label], and write scale · (softmax - one-hot) to `gradients`.

    Rows of logits and gradients are padded to whole units. NaN or infinite logits give NaN, as in PyTorch.
    """
    largest = at
    for n in range(at + 1, at + count):
        if logits[n] > logits[largest]:
            largest = n
    _powers(logits, at, logits, largest, gradients, to, count)
    total = np.float32(0)
    for n in range(count):
        total += gradients[to + n]
    factor = np.float32(scale / total)
    for n in range(count):
        gradients[to + n] *= factor
    gradients[to + label] -= scale
    return np.float32(logarithm(total) - (logits[at + label] - logits[largest]))


@compiled
def answers_one(zero: np.float32, one: np.float32) -> bool:
    """Whether the second of two logits is larger; a tie answers 0, and NaN counts as largest, as in torch.argmax."""
    return bool(one > zero or (np.isnan(one) and not np.isnan(zero)))
