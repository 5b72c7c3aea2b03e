"""Forward and backward pass of a model over a batch, by a plan of where parameters and values lie."""

from __future__ import annotations

from typing import NamedTuple

from pairsearch.jit.compiling import Floats, Integers, Positions, compiled
from pairsearch.models.kernels import convolution as conv
from pairsearch.models.kernels import linear
from pairsearch.models.kernels.emit import UNIT
from pairsearch.models.kernels.updates import step_rows, update

# Columns of the table of linear layers, which has a row for each layer in forward order. Sizes are padded to whole
# vectors. Weights and bias are offsets in the parameters, the others offsets in the float workspace.
ROWS_PER_PAIR, INPUTS, OUTPUTS, WEIGHTS, BIAS, INPUT, OUTPUT = range(7)
INPUT_GRADIENT, OUTPUT_GRADIENT, INPUT_IS_RELU, OUTPUT_IS_RELU = range(7, 11)


class Plan(NamedTuple):
    """Where a model's parameters and values lie: integers only, so that one compiled function serves every shape.

    Args:
        channels: channels of one CLeNet input, 1 or 2.
        images_per_pair: CLeNet inputs for each pair, 2 or 1.
        digits: row of the table of layers that gives digit logits under the auxiliary loss, or -1.
        joined: row of the table of trained layers to whose gradient the digit logits' is added, or -1.
        convolutions_frozen: whether the backward pass ends at the linear layers.
        rule: the optimiser, a value of `models.kernels.updates.COMPILED_RULES`.
        weights1, bias1, weights2, bias2: offsets in the flat parameters, and in the gradients.
        convolutions: how many parameters the convolutions have. They come first; in the gradients they are followed by
            the gradient of the bias or the block of weights that is being updated.
        transformed2, pooled1, pooled2, pooled1_gradient, pooled2_gradient, scratch, zeros, turned,
            twice, digits_gradient: offsets in the float workspace.
        positions1, positions2, survivors: offsets in the integer workspace.
    """

    channels: int
    images_per_pair: int
    digits: int
    joined: int
    convolutions_frozen: int
    rule: int
    weights1: int
    bias1: int
    weights2: int
    bias2: int
    convolutions: int
    transformed2: int
    pooled1: int
    pooled2: int
    pooled1_gradient: int
    pooled2_gradient: int
    scratch: int
    zeros: int
    turned: int
    twice: int
    digits_gradient: int
    positions1: int
    positions2: int
    survivors: int


class PairArrays(NamedTuple):
    """A set of pairs in the form that the kernels read.

    Args:
        images: (rows, 2, 16, 16) flat, with a border of zeros.
        windows: for each image a word with a bit for each pooling window that is not all black, numbered as in
            `forward1`.
        target: (rows,).
        classes: (rows, 2).
    """

    images: Floats
    windows: Integers
    target: Integers
    classes: Integers


class Workspace(NamedTuple):
    """The workspace of one thread. Every call writes what it reads later, so models can use it in turn."""

    gradients: Floats
    floats: Floats
    integers: Positions
    rates: Floats


@compiled
def _image(plan: Plan, windows: Integers, chosen: Integers, row: int) -> tuple[int, int]:
    """Return the offset of a row's image, and the bits of its windows that are not black in some channel."""
    pair = chosen[row // plan.images_per_pair]
    number = pair * plan.images_per_pair + row % plan.images_per_pair
    offset = number * plan.channels * conv.IMAGE * conv.IMAGE
    if plan.channels == 1:
        return offset, windows[number]
    return offset, windows[2 * number] | windows[2 * number + 1]


@compiled
def forward(
    plan: Plan, layers: Integers, parameters: Floats, space: Workspace, pairs: PairArrays, chosen: Integers
) -> None:  # fmt: skip
    """Run the pairs at the positions `chosen` forward; every layer's output stays in the workspace."""
    floats, integers = space.floats, space.integers
    for row in range(len(chosen) * plan.images_per_pair):
        image, seen = _image(plan, pairs.windows, chosen, row)
        first, second = row * conv.SIZE1, row * conv.SIZE2
        conv.forward1(
            plan.channels, pairs.images, image, seen, parameters, plan.weights1, parameters, plan.bias1,
            floats, plan.pooled1 + first, integers, plan.positions1 + row * conv.PLACES1,
        )  # fmt: skip
        conv.forward2(
            floats, plan.pooled1 + first, floats, plan.transformed2, parameters, plan.bias2, floats, plan.scratch,
            floats, plan.pooled2 + second, integers, plan.positions2 + second, first,
        )  # fmt: skip
    for n in range(len(layers)):
        layer = layers[n]
        rows = len(chosen) * layer[ROWS_PER_PAIR]
        linear.matmul(
            floats, layer[INPUT], layer[INPUTS], 1, parameters, layer[WEIGHTS], layer[OUTPUTS],
            parameters, layer[BIAS], floats, layer[OUTPUT], layer[OUTPUTS], rows, layer[OUTPUTS], layer[INPUTS],
        )  # fmt: skip
        if layer[OUTPUT_IS_RELU]:
            linear.relu_vectors(floats, layer[OUTPUT], rows * layer[OUTPUTS] // UNIT)


@compiled
def _step_linear(
    plan: Plan, layer: Integers, rows: int, parameters: Floats, state: Floats, space: Workspace
) -> None:  # fmt: skip
    """Compute the gradient of a layer's input, and update its weights and bias.

    The layer is processed by blocks of inputs: a block's weights are read for the input's gradient and updated while
    they are in the processor's nearest cache, and the gradient of the whole layer is never stored.
    """
    gradients, floats, rates = space.gradients, space.floats, space.rates
    inputs, outputs = layer[INPUTS], layer[OUTPUTS]
    dy, dx, here = layer[OUTPUT_GRADIENT], layer[INPUT_GRADIENT], plan.convolutions
    if rows <= 2:
        for row in range(rows):
            for n in range(outputs):
                value = floats[dy + row * outputs + n]
                floats[plan.twice + 2 * row * outputs + n] = value
                floats[plan.twice + (2 * row + 1) * outputs + n] = value
        step_rows(plan.rule, parameters, layer[WEIGHTS], floats, layer[INPUT], plan.twice, dx, rows, inputs, outputs,
                  state, rates)  # fmt: skip
    else:
        for i in range(0, inputs, linear.BLOCK):
            height = min(linear.BLOCK, inputs - i)
            weights = layer[WEIGHTS] + i * outputs
            linear.input_gradient(
                floats, dy, parameters, weights, floats, dx + i, floats, plan.turned, plan.zeros,
                rows, inputs, height, outputs,
            )  # fmt: skip
            for j in range(0, height, UNIT):
                few = weights + j * outputs
                linear.matmul(
                    floats, layer[INPUT] + i + j, 1, inputs, floats, dy, outputs, floats, plan.zeros,
                    gradients, here, outputs, UNIT, outputs, rows,
                )  # fmt: skip
                update(plan.rule, parameters, few, gradients, here, state, rates, UNIT * outputs)
    linear.sum_rows(floats, dy, rows, outputs, gradients, here)
    update(plan.rule, parameters, layer[BIAS], gradients, here, state, rates, outputs)
    if layer[INPUT_IS_RELU]:
        linear.mask_vectors(floats, layer[INPUT], floats, dx, rows * inputs // UNIT)


@compiled
def step(
    plan: Plan, trained: Integers, parameters: Floats, state: Floats, space: Workspace, pairs: PairArrays,
    chosen: Integers,
) -> None:  # fmt: skip
    """Run the last batch backward, and update all parameters that are trained.

    The workspace has the output gradient of the last trained layer and, where there is one, that of the digit logits,
    and the rates of this step.
    """
    gradients, floats, integers = space.gradients, space.floats, space.integers
    for n in range(len(trained) - 1, -1, -1):
        layer = trained[n]
        rows = len(chosen) * layer[ROWS_PER_PAIR]
        if n == plan.joined:
            for place in range(rows * layer[OUTPUTS]):
                floats[layer[OUTPUT_GRADIENT] + place] += floats[plan.digits_gradient + place]
        _step_linear(plan, layer, rows, parameters, state, space)
    if plan.convolutions_frozen:
        return
    rows = len(chosen) * plan.images_per_pair
    for n in range(plan.convolutions):
        gradients[n] = 0
    linear.sum_rows(floats, plan.pooled2_gradient, rows * 9, conv.MAPS2, gradients, plan.bias2)
    for row in range(0, rows, conv.CHUNK2):
        second = row * conv.SIZE2
        conv.weight_gradient2(
            floats, plan.pooled1, min(conv.CHUNK2, rows - row), floats, plan.pooled2_gradient + second,
            integers, plan.positions2 + second, integers, plan.survivors, gradients, plan.weights2,
        )  # fmt: skip
    for row in range(rows):
        image, seen = _image(plan, pairs.windows, chosen, row)
        first, second = row * conv.SIZE1, row * conv.SIZE2
        conv.source_gradient2(
            floats, plan.pooled2_gradient + second, integers, plan.positions2 + second, first,
            parameters, plan.weights2, floats, plan.pooled1_gradient,
        )  # fmt: skip
        conv.backward1(
            plan.channels, pairs.images, image, seen, floats, plan.pooled1 + first,
            integers, plan.positions1 + row * conv.PLACES1, floats, plan.pooled1_gradient,
            gradients, plan.weights1, gradients, plan.bias1,
        )  # fmt: skip
    update(plan.rule, parameters, 0, gradients, 0, state, space.rates, plan.convolutions)


@compiled
def prepare(plan: Plan, parameters: Floats, floats: Floats) -> None:
    """Transform the second weights for the forward pass, which is needed after every change of parameters."""
    conv.winograd_weights(parameters, plan.weights2, floats, plan.scratch, floats, plan.transformed2)
