"""The two compiled entry points, which train a model for an epoch and evaluate it, kept in Numba's cache.

The first process on a machine compiles them, and later ones load them. Numba's cache notices changes of this file
alone, so a fingerprint of all kernels' sources is part of the key: an edited kernel is compiled anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pairsearch.jit.compiling import Floats, Integers, Sums, compiled, compiled_and_cached
from pairsearch.models.kernels.network import (
    OUTPUT,
    OUTPUT_GRADIENT,
    OUTPUTS,
    PairArrays,
    Plan,
    Workspace,
    forward,
    prepare,
    step,
)
from pairsearch.models.kernels.softmax import answers_one, cross_entropy
from pairsearch.models.kernels.updates import set_rates

DIGITS = 10
EVALUATION_PAIRS = 32  # pairs that are evaluated at once, few enough for the processor's cache


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
        at = last[OUTPUT] + n * last[OUTPUTS]
        to = last[OUTPUT_GRADIENT] + n * last[OUTPUTS]
        main = cross_entropy(floats, at, 2, target, floats, to, scale)
        total = main
        if plan.digits >= 0:
            digits = layers[plan.digits]
            aux = np.float32(0)
            for side in range(2):
                row = (2 * n + side) * digits[OUTPUTS]
                aux += cross_entropy(
                    floats, digits[OUTPUT] + row, DIGITS, classes[side],
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
        prepare(plan, parameters, space.floats)
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            forward(plan, layers, parameters, space, pairs, chosen)
            _losses(plan, layers, space.floats, pairs, chosen, weight, results)
            steps += 1
            set_rates(plan.rule, space.rates, steps, learning_rate, weight_decay)
            step(plan, trained, parameters, state, space, pairs, chosen)
            prepare(plan, parameters, space.floats)

    @compiled_and_cached
    def evaluate(
        plan: Plan, layers: Integers, parameters: Floats, space: Workspace, pairs: PairArrays, weight: float,
        results: Sums,
    ) -> None:  # fmt: skip
        """Run all pairs forward; `results` gets the sums of main loss, total loss and wrong answers."""
        version = fingerprint  # noqa: F841
        results[:] = 0
        prepare(plan, parameters, space.floats)
        everything = np.arange(len(pairs.target))
        for first in range(0, len(everything), EVALUATION_PAIRS):
            chosen = everything[first : first + EVALUATION_PAIRS]
            forward(plan, layers, parameters, space, pairs, chosen)
            _losses(plan, layers, space.floats, pairs, chosen, weight, results)

    return train_epoch, evaluate


train_epoch, evaluate = _entries(sources_fingerprint())
