"""The optimisers' updates of consecutive parameters of a model, as vector kernels.

The formulas are those of `models.optim`. Parameters, gradients and state are flat float32, in whole units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from pairsearch.jit.compiling import Floats, compiled
from pairsearch.models.kernels.emit import LANES, UNIT, WIDE, Emitter
from pairsearch.models.kernels.intrinsic import Address, Count, vector_kernel
from pairsearch.models.optim import SGD, Adam

ADAM, SGD_MOMENTUM = 0, 1
# The compiled form of each registered optimiser, by its class; others train in PyTorch's operations.
COMPILED_RULES: dict[type, int] = {Adam: ADAM, SGD: SGD_MOMENTUM}

AHEAD = 512  # how far ahead a pass over weights and state prefetches, in elements
RATES = 7  # how many float32 values `set_rates` writes
_BETA1, _BETA2, _EPS = Adam.beta1, Adam.beta2, Adam.eps
_MOMENTUM = SGD.momentum


def _adam_step(
    e: Emitter, parameters: Any, means: Any, squares: Any, rates: Sequence[Any], gradient: Any, lanes: int
) -> None:
    """Make a step of Adam; rates are weight decay, step size, 1/√(1-β2ᵗ), β1, 1-β1, 1-β2, eps."""
    decay, size, unbias, beta1, rest1, rest2, eps = (e.spread(rate, lanes) for rate in rates)
    parameter = e.load(parameters, lanes)
    gradient = e.fma(decay, parameter, gradient)
    mean = e.fma(beta1, e.load(means, lanes), e.multiply(rest1, gradient))
    # β2 · v + (1-β2) · g² takes two operations as v + (1-β2) · (g² - v).
    before = e.load(squares, lanes)
    square = e.fma(rest2, e.fma(gradient, gradient, e.negative(before)), before)
    e.store(mean, means)
    e.store(square, squares)
    denominator = e.fma(e.sqrt(square), unbias, eps)
    e.store(e.fma(size, e.divide(mean, denominator), parameter), parameters)


def _sgd_step(
    e: Emitter, parameters: Any, velocities: Any, _: Any, rates: Sequence[Any], gradient: Any, lanes: int
) -> None:
    """Make a step of SGD with momentum; rates are weight decay, step size, momentum."""
    decay, size, momentum = (e.spread(rate, lanes) for rate in rates[:3])
    parameter = e.load(parameters, lanes)
    gradient = e.fma(decay, parameter, gradient)
    velocity = e.fma(momentum, e.load(velocities, lanes), gradient)
    e.store(velocity, velocities)
    e.store(e.fma(size, velocity, parameter), parameters)


# By the number of the rule.
_STEPS: tuple[Callable[..., None], ...] = (_adam_step, _sgd_step)


@vector_kernel
def _update(
    e: Emitter, rule: Count, parameters: Address, gradients: Address, first: Address, second: Address,
    rates: Address, units: Count,
) -> None:  # fmt: skip
    for number in e.cases(rule, range(len(_STEPS))):
        numbers = [e.get(e.at(rates, n)) for n in range(RATES)]
        for at, lanes in e.over_units(units):
            places = [e.at(base, at) for base in (parameters, first, second)]
            _STEPS[number](e, *places, numbers, e.load(e.at(gradients, at), lanes), lanes)


@compiled
def update(
    rule: int, parameters: Floats, place: int, gradients: Floats, gradient: int, state: Floats, rates: Floats,
    count: int,
) -> None:  # fmt: skip
    """Make an optimiser's step on parameters[place : place + count]; count is a multiple of 8.

    Their gradients begin at `gradient`. `state` holds the optimiser's tensors one after the other, each as long as all
    parameters.
    """
    second = place + (len(parameters) if rule == ADAM else 0)
    _update(
        rule, parameters, place, gradients, gradient, state, place, state, second, rates, 0, count // UNIT
    )


@vector_kernel
def _step_rows(
    e: Emitter, rule: Count, rows: Count, parameters: Address, x: Address, inputs: Count, dy: Address, columns: Count,
    dx: Address, first: Address, second: Address, rates: Address,
) -> None:  # fmt: skip
    for number in e.cases(rule, range(len(_STEPS))):
        for height in e.cases(rows, (1, 2)):
            _pass(e, _STEPS[number], height, parameters, x, inputs, dy, columns, dx, first, second, rates)


def _pass(
    e: Emitter, step: Callable[..., None], rows: int, parameters: Any, x: Any, inputs: Any, dy: Any, columns: Any,
    dx: Any, first: Any, second: Any, rates: Any,
) -> None:  # fmt: skip
    numbers = [e.get(e.at(rates, n)) for n in range(RATES)]
    row_of_dy = e.mul(columns, 2)

    def read(address: Any, lanes: int) -> Any:
        vector = e.load(address, lanes)
        return vector if lanes == WIDE else e.joined(vector, e.zeros(lanes))

    def input_gradient(i: Any) -> None:
        sums = [e.variable(e.zeros(WIDE)) for _ in range(rows)]
        for at, lanes in e.over_units(e.quotient(columns, UNIT), WIDE):
            weight = read(e.at(parameters, e.mul(i, columns), at), lanes)
            for row, place in enumerate(sums):
                dy_here = read(e.at(dy, e.mul(row_of_dy, row), at), lanes)
                e.set(place, e.fma(dy_here, weight, e.get(place)))
        for row, place in enumerate(sums):
            e.set(e.at(dx, e.mul(inputs, row), i), e.total(e.get(place)))

    def one(i: Any, at: Any, factors: list[Any]) -> None:
        gradient = e.zeros()
        for row, factor in enumerate(factors):
            gradient = e.fma(factor, e.load(e.at(dy, e.mul(row_of_dy, row), at)), gradient)
        weights = e.mul(i, columns)
        places = [e.at(base, weights, at) for base in (parameters, first, second)]
        for place in places:
            e.prefetch(e.at(place, AHEAD))
        step(e, *places, numbers, gradient, LANES)

    def factors_of(i: Any) -> list[Any]:
        return [e.broadcast(e.at(x, e.mul(inputs, row), i)) for row in range(rows)]

    wholes, left = e.divided(columns, LANES)
    with e.when(e.is_equal(left, 0)), e.loop(inputs) as i:
        input_gradient(i)
        factors = factors_of(i)
        with e.loop(wholes) as vector:
            one(i, e.mul(vector, LANES), factors)
    if LANES > UNIT:
        # Two rows of weights make whole vectors: the middle one has the end of the first and the start of the
        # second.
        with e.when(e.is_equal(left, UNIT)), e.loop(e.quotient(inputs, 2)) as two:
            i = e.mul(two, 2)
            input_gradient(i)
            input_gradient(e.sum(i, 1))
            low, high = factors_of(i), factors_of(e.sum(i, 1))
            with e.loop(wholes) as vector:
                one(i, e.mul(vector, LANES), low)
            middle = e.mul(wholes, LANES)
            one(i, middle, [e.halves(a, b) for a, b in zip(low, high, strict=True)])
            with e.loop(wholes) as vector:
                one(i, e.sum(e.sum(middle, LANES), e.mul(vector, LANES)), high)


@compiled
def step_rows(
    rule: int, parameters: Floats, place: int, floats: Floats, x: int, dy: int, dx: int, rows: int, inputs: int,
    columns: int, state: Floats, rates: Floats,
) -> None:  # fmt: skip
    """Compute dx = dy · w transposed for a linear layer with one or two rows, and update w by x transposed · dy.

    x is (rows, inputs), with an even number of inputs; dy is (rows, 2, columns), with every row twice side by side; w
    is (inputs, columns), at `place`. There is a single pass over weights and state, which is bound by moving them; the
    gradient is never stored. An input's gradient is summed in sixteen parts.
    """
    second = place + (len(parameters) if rule == ADAM else 0)
    _step_rows(rule, rows, parameters, place, floats, x, inputs, floats, dy, columns, floats, dx,
               state, place, state, second, rates, 0)  # fmt: skip


@compiled
def _power(base: float, exponent: int) -> float:
    """Compute a power by squaring, as C libraries differ in the last bit."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@compiled
def set_rates(rule: int, rates: Floats, step: int, learning_rate: float, weight_decay: float) -> None:
    """Write the rates that `update` needs for step number `step`, from 1."""
    rates[0] = weight_decay
    if rule == ADAM:
        rates[1] = -learning_rate / (1 - _power(_BETA1, step))
        rates[2] = 1 / math.sqrt(1 - _power(_BETA2, step))
        rates[3] = _BETA1
        rates[4] = 1 - _BETA1
        rates[5] = 1 - _BETA2
        rates[6] = _EPS
    else:
        rates[1] = -learning_rate
        rates[2] = _MOMENTUM
