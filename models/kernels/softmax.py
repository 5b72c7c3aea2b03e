"""Cross entropy of one row of logits and its gradient, in float32 as PyTorch computes it."""

from __future__ import annotations

import math

import numpy as np

from models.kernels.jit import Floats, compiled


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
        power = np.float32(math.exp(logits[at + n] - largest))
        gradients[to + n] = power
        total += power
    factor = np.float32(scale / total)
    for n in range(count):
        gradients[to + n] *= factor
    gradients[to + label] -= scale
    return np.float32(np.float32(math.log(total)) - (logits[at + label] - largest))


@compiled
def answers_one(zero: np.float32, one: np.float32) -> bool:
    """Whether the second of two logits is larger: a tie answers 0, NaN counts as largest (torch.argmax)."""
    return bool(one > zero or (np.isnan(one) and not np.isnan(zero)))
