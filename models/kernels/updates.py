"""The optimisers' updates over one model's flat parameters, as vector kernels.

Formulas as in `models.optim`; parameters, gradients and state are flat float32 of a whole number of vectors.
"""

from __future__ import annotations

import math

from models.kernels.emit import LANES, Address, Count, Emitter, vector_kernel
from models.kernels.jit import Floats, compiled
from models.optim import SGD, Adam

ADAM, SGD_MOMENTUM = 0, 1
# The compiled form of each registered rule, by its class; a rule that is not here trains in PyTorch
# operations.
COMPILED_RULES: dict[type, int] = {Adam: ADAM, SGD: SGD_MOMENTUM}

RATES = 8  # float32 places that `update` needs.
_BETA1, _BETA2, _EPS = Adam.beta1, Adam.beta2, Adam.eps
_MOMENTUM = SGD.momentum


@vector_kernel
def _adam_vectors(
    e: Emitter, parameters: Address, gradients: Address, means: Address, squares: Address, rates: Address,
    vectors: Count,
) -> None:  # fmt: skip
    """One Adam step; rates: weight decay, step size, 1/√(1-β2ᵗ), β1, 1-β1, β2, 1-β2, eps."""
    decay, size, unbias, beta1, rest1, beta2, rest2, eps = (e.broadcast(e.at(rates, n)) for n in range(8))
    with e.loop(vectors) as vector:
        at = e.mul(vector, LANES)
        parameter = e.load(e.at(parameters, at))
        gradient = e.fma(decay, parameter, e.load(e.at(gradients, at)))
        mean = e.fma(beta1, e.load(e.at(means, at)), e.multiply(rest1, gradient))
        square = e.fma(beta2, e.load(e.at(squares, at)), e.multiply(e.multiply(rest2, gradient), gradient))
        e.store(e.without_traces(mean), e.at(means, at))
        e.store(e.without_traces(square), e.at(squares, at))
        denominator = e.fma(e.sqrt(square), unbias, eps)
        e.store(e.fma(size, e.divide(mean, denominator), parameter), e.at(parameters, at))


@vector_kernel
def _sgd_vectors(
    e: Emitter, parameters: Address, gradients: Address, velocities: Address, rates: Address, vectors: Count
) -> None:
    """One step with momentum; rates: weight decay, step size, momentum."""
    decay, size, momentum = (e.broadcast(e.at(rates, n)) for n in range(3))
    with e.loop(vectors) as vector:
        at = e.mul(vector, LANES)
        parameter = e.load(e.at(parameters, at))
        gradient = e.fma(decay, parameter, e.load(e.at(gradients, at)))
        velocity = e.fma(momentum, e.load(e.at(velocities, at)), gradient)
        e.store(e.without_traces(velocity), e.at(velocities, at))
        e.store(e.fma(size, velocity, parameter), e.at(parameters, at))


@compiled
def update(
    rule: int, parameters: Floats, gradients: Floats, state: Floats, rates: Floats, step: int,
    learning_rate: float, weight_decay: float,
) -> None:  # fmt: skip
    """Step number `step` (from 1) of a rule; `state` holds the rule's tensors one after the other."""
    size = len(parameters)
    rates[0] = weight_decay
    if rule == ADAM:
        rates[1] = -learning_rate / (1 - math.pow(_BETA1, step))
        rates[2] = 1 / math.sqrt(1 - math.pow(_BETA2, step))
        rates[3] = _BETA1
        rates[4] = 1 - _BETA1
        rates[5] = _BETA2
        rates[6] = 1 - _BETA2
        rates[7] = _EPS
        _adam_vectors(parameters, 0, gradients, 0, state, 0, state, size, rates, 0, size // LANES)
    else:
        rates[1] = -learning_rate
        rates[2] = _MOMENTUM
        _sgd_vectors(parameters, 0, gradients, 0, state, 0, rates, 0, size // LANES)
