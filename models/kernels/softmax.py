"""Cross entropy of one row of logits and its gradient, in float32 as PyTorch computes it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(error_model="numpy", nogil=True)
def cross_entropy(logits, at, count, label, gradients, to, scale):  # type: ignore[no-untyped-def]
    """The loss -log softmax(logits)[label]; writes scale · (softmax - one-hot) to `gradients`.

    NaN or infinite logits give NaN, as in PyTorch.
    """
    largest = logits[at]
    for n in range(1, count):
        largest = max(largest, logits[at + n])
    total = np.float32(0)
    for n in range(count):
        power = np.float32(math.exp(logits[at + n] - largest))
        gradients[to + n] = power
        total += power
    factor = np.float32(scale / total)
    for n in range(count):
        gradients[to + n] *= factor
    gradients[to + label] -= scale
    return np.float32(np.float32(math.log(total)) - (logits[at + label] - largest))


@njit(error_model="numpy", nogil=True)
def answers_one(zero, one):  # type: ignore[no-untyped-def]
    """Whether the larger of two logits is the second: a tie answers 0, NaN counts as largest (torch.argmax)."""
    return one > zero or (one != one and zero == zero)  # noqa: PLR0124
