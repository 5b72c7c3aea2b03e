"""The optimisers' updates of a run of one model's flat parameters, as vector kernels.

Formulas as in `models.optim`; parameters, gradients and state are flat float32 of a whole number of units.
"""

from __future__ import annotations

import math
from typing import Any

from models.kernels.emit import UNIT, Emitter
from models.kernels.intrinsic import Address, Count, vector_kernel
from models.kernels.jit import Floats, compiled
from models.optim import SGD, Adam

ADAM, SGD_MOMENTUM = 0, 1
# The compiled form of each registered rule, by its class; a rule that is not here trains in PyTorch
# operations.
COMPILED_RULES: dict[type, int] = {Adam: ADAM, SGD: SGD_MOMENTUM}

RATES = 8  # float32 places that `set_rates` fills.
_BETA1, _BETA2, _EPS = Adam.beta1, Adam.beta2, Adam.eps
_MOMENTUM = SGD.momentum


@vector_kernel
def _adam(
    e: Emitter, parameters: Address, gradients: Address, means: Address, squares: Address, rates: Address,
    units: Count,
) -> None:  # fmt: skip
    """One Adam step; rates: weight decay, step size, 1/√(1-β2ᵗ), β1, 1-β1, β2, 1-β2, eps."""
    scalars = [e.scalar(e.at(rates, n)) for n in range(RATES)]

    def step(at: Any, lanes: int) -> None:
        decay, size, unbias, beta1, rest1, beta2, rest2, eps = (e.spread(rate, lanes) for rate in scalars)
        parameter = e.load(e.at(parameters, at), lanes)
        gradient = e.fma(decay, parameter, e.load(e.at(gradients, at), lanes))
        mean = e.fma(beta1, e.load(e.at(means, at), lanes), e.multiply(rest1, gradient))
        square = e.fma(
            beta2, e.load(e.at(squares, at), lanes), e.multiply(e.multiply(rest2, gradient), gradient)
        )
        e.store(mean, e.at(means, at))
        e.store(square, e.at(squares, at))
        denominator = e.fma(e.sqrt(square), unbias, eps)
        e.store(e.fma(size, e.divide(mean, denominator), parameter), e.at(parameters, at))

    e.over_units(units, step)


@vector_kernel
def _sgd(
    e: Emitter, parameters: Address, gradients: Address, velocities: Address, rates: Address, units: Count
) -> None:
    """One step with momentum; rates: weight decay, step size, momentum."""
    scalars = [e.scalar(e.at(rates, n)) for n in range(3)]

    def step(at: Any, lanes: int) -> None:
        decay, size, momentum = (e.spread(rate, lanes) for rate in scalars)
        parameter = e.load(e.at(parameters, at), lanes)
        gradient = e.fma(decay, parameter, e.load(e.at(gradients, at), lanes))
        velocity = e.fma(momentum, e.load(e.at(velocities, at), lanes), gradient)
        e.store(velocity, e.at(velocities, at))
        e.store(e.fma(size, velocity, parameter), e.at(parameters, at))

    e.over_units(units, step)


@compiled
def _power(base: float, exponent: int) -> float:
    """A power by squaring: the C library's differs in its last bit from one version to the next."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@compiled
def set_rates(rule: int, rates: Floats, step: int, learning_rate: float, weight_decay: float) -> None:
    """What `update` needs to know of step number `step` (from 1)."""
    rates[0] = weight_decay
    if rule == ADAM:
        rates[1] = -learning_rate / (1 - _power(_BETA1, step))
        rates[2] = 1 / math.sqrt(1 - _power(_BETA2, step))
        rates[3] = _BETA1
        rates[4] = 1 - _BETA1
        rates[5] = _BETA2
        rates[6] = 1 - _BETA2
        rates[7] = _EPS
    else:
        rates[1] = -learning_rate
        rates[2] = _MOMENTUM


@compiled
def update(
    rule: int, parameters: Floats, place: int, gradients: Floats, gradient: int, state: Floats, rates: Floats, count: int
) -> None:
    """One step of a rule on parameters[place : place + count], count a multiple of 8.

    Their gradients begin at `gradient`; `state` holds the rule's tensors one after the other, each as long as all the
    parameters.
    """
    units = count // UNIT
    if rule == ADAM:
        second = len(parameters) + place
        _adam(parameters, place, gradients, gradient, state, place, state, second, rates, 0, units)
    else:
        _sgd(parameters, place, gradients, gradient, state, place, rates, 0, units)
