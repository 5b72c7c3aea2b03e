"""The two compiled entry points, which train a model for an epoch and evaluate it, kept in Numba's cache.

The first process on a machine compiles them, and later ones load them. Numba's cache notices changes of this file
alone, so a fingerprint of all kernels' sources is part of the key: an edited kernel is compiled anew.

The loss, cross entropy, is in float32 as PyTorch computes it. Exponential and logarithm are computed here by operations
that IEEE 754 rounds correctly: those of C libraries differ in the last bit between processors and versions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pairsearch.jit.compiling import Floats, Integers, Sums, compiled, compiled_and_cached
from pairsearch.models.kernels import network
from pairsearch.models.kernels.emit import UNIT, Emitter
from pairsearch.models.kernels.intrinsic import Address, Count, vector_kernel
from pairsearch.models.kernels.network import PairArrays, Plan, Workspace
from pairsearch.models.kernels.updates import set_rates

DIGITS = 10
EVALUATION_PAIRS = 32  # pairs that are evaluated at once, few enough for the processor's cache

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


@compiled
def _losses(
    plan: Plan, layers: Integers, floats: Floats, pairs: PairArrays, chosen: Integers, weight: float, results: Sums
) -> None:  # fmt: skip
    """Add the batch's main loss, total loss and wrong answers to `results`, and write the logits' gradients."""
    last = layers[len(layers) - 1]
    scale = np.float32(1 / len(chosen))
    main_sum = np.float32(0)
    total_sum = np.float32(0)
    for n in range(len(chosen)):
        target, classes = pairs.target[chosen[n]], pairs.classes[chosen[n]]
        at = last[network.OUTPUT] + n * last[network.OUTPUTS]
        to = last[network.OUTPUT_GRADIENT] + n * last[network.OUTPUTS]
        main = cross_entropy(floats, at, 2, target, floats, to, scale)
        total = main
        if plan.digits >= 0:
            digits = layers[plan.digits]
            aux = np.float32(0)
            for side in range(2):
                row = (2 * n + side) * digits[network.OUTPUTS]
                aux += cross_entropy(
                    floats, digits[network.OUTPUT] + row, DIGITS, classes[side],
                    floats, plan.digits_gradient + row, np.float32(scale * weight),
                )  # fmt: skip
            total = np.float32(main + np.float32(weight) * aux)
        main_sum += main
        total_sum += total
        results[2] += answers_one(floats[at], floats[at + 1]) != (target == 1)
    results[0] += main_sum
    results[1] += total_sum


def sources_fingerprint() -> str:
    """Return the SHA-256 over the sources of all kernels and of the optimisers whose formulas they follow."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), here.parent / "optim.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _entries(fingerprint: str) -> tuple[Callable[..., None], Callable[..., None]]:
    # The variable `version` is unused: it makes the fingerprint a free variable, whose value Numba has in the key.
    @compiled_and_cached
    def train_epoch(
        plan: Plan, layers: Integers, trained: Integers, parameters: Floats, state: Floats, space: Workspace,
        pairs: PairArrays, order: Integers, batch_size: int, steps: int, learning_rate: float, weight_decay: float,
        weight: float, results: Sums,
    ) -> None:  # fmt: skip
        """Train for an epoch in the order given, with a step for each batch.

        `results` gets the sums of main loss, total loss and wrong answers. `trained` are the linear layers that are
        trained, and `steps` is how many steps the optimiser has made before.
        """
        version = fingerprint  # noqa: F841
        results[:] = 0
        network.prepare(plan, parameters, space.floats)
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            network.forward(plan, layers, parameters, space, pairs, chosen)
            _losses(plan, layers, space.floats, pairs, chosen, weight, results)
            steps += 1
            set_rates(plan.rule, space.rates, steps, learning_rate, weight_decay)
            network.step(plan, trained, parameters, state, space, pairs, chosen)
            network.prepare(plan, parameters, space.floats)

    @compiled_and_cached
    def evaluate(
        plan: Plan, layers: Integers, parameters: Floats, space: Workspace, pairs: PairArrays, weight: float,
        results: Sums,
    ) -> None:  # fmt: skip
        """Run all pairs forward; `results` gets the sums of main loss, total loss and wrong answers."""
        version = fingerprint  # noqa: F841
        results[:] = 0
        network.prepare(plan, parameters, space.floats)
        everything = np.arange(len(pairs.target))
        for first in range(0, len(everything), EVALUATION_PAIRS):
            chosen = everything[first : first + EVALUATION_PAIRS]
            network.forward(plan, layers, parameters, space, pairs, chosen)
            _losses(plan, layers, space.floats, pairs, chosen, weight, results)

    return train_epoch, evaluate


train_epoch, evaluate = _entries(sources_fingerprint())
