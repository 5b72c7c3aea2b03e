"""Linear layers over a batch: products of matrices, gradient of the input, sums of rows, ReLU.

All arrays are flat float32 with an offset. Weights are [input][output], with rows padded by zeros to whole units of 8,
so that the next layer reads a layer's output in place. Matrices are multiplied by tiles of a few rows and vectors of
columns, kept in registers.
"""

from __future__ import annotations

from typing import Any

from pairsearch.jit.compiling import Floats, compiled
from pairsearch.models.kernels.emit import LANES, UNIT, WIDE, Emitter
from pairsearch.models.kernels.intrinsic import Address, Count, vector_kernel

# Vectors of columns in a panel, and rows of the tiles that run down it. Their 24 or 12 sums leave room for operands in
# 32 or 16 registers, and they keep two multiply-adds a cycle busy at a latency of four.
PANEL = 3
ROWS = (8, 4, 2, 1) if LANES == WIDE else (4, 2, 1)
# With one or two rows the weights are read only once, from a slower cache: wide panels read them almost in order.
PANEL_FEW = 8 if LANES == WIDE else 5

# How many inputs' gradients are computed together: as many as a panel has columns.
BLOCK = PANEL * LANES


def _tile(
    e: Emitter, widths: list[int], rows: int, x: Any, x_row: Any, x_step: Any, w: Any, w_step: Any,
    start: Any, y: Any, y_row: Any, steps: Any,
) -> None:  # fmt: skip
    """Compute y[row, :] = start + Σ over steps of x[row, step] · w[step, :], in vectors of the widths given."""
    places = [sum(widths[:number]) for number in range(len(widths))]
    vectors = list(zip(places, widths, strict=True))
    sums = [[e.variable(e.load(e.at(start, at), lanes)) for at, lanes in vectors] for _ in range(rows)]
    with e.loop(steps) as step:
        x_here, w_here = e.at(x, e.mul(step, x_step)), e.at(w, e.mul(step, w_step))
        columns = [e.load(e.at(w_here, at), lanes) for at, lanes in vectors]
        for row in range(rows):
            factor = e.get(e.at(x_here, e.mul(row, x_row)))
            for place, column in zip(sums[row], columns, strict=True):
                e.set(place, e.fma(e.spread(factor, column.type.count), column, e.get(place)))
    for row in range(rows):
        for place, at in zip(sums[row], places, strict=True):
            e.store(e.get(place), e.at(y, e.mul(row, y_row), at))


def _multiplier(vectors: int, heights: tuple[int, ...]) -> Any:
    """Make a kernel that multiplies in panels of so many vectors of columns, by tiles of these heights."""

    @vector_kernel
    def multiply(
        e: Emitter, x: Address, x_row: Count, x_step: Count, w: Address, w_step: Count, start: Address,
        y: Address, y_row: Count, rows: Count, columns: Count, steps: Count,
    ) -> None:  # fmt: skip
        def panel(c: Any, widths: list[int]) -> None:
            first = e.index(0)
            for height in heights:
                with e.loop(e.quotient(e.difference(rows, first), height)) as tile:
                    row = e.sum(first, e.mul(tile, height))
                    _tile(
                        e, widths, height, e.at(x, e.mul(row, x_row)), x_row, x_step, e.at(w, c), w_step,
                        e.at(start, c), e.at(y, e.mul(row, y_row), c), y_row, steps,
                    )  # fmt: skip
                # These tiles leave fewer rows than one of them has.
                first = e.mul(e.quotient(rows, height), height)

        width = vectors * LANES
        panels, left = e.divided(columns, width)
        with e.loop(panels) as number:
            panel(e.mul(number, width), [LANES] * vectors)
        for rest in e.cases(left, range(UNIT, width, UNIT)):
            panel(e.mul(panels, width), [LANES] * (rest // LANES) + [UNIT] * (rest % LANES // UNIT))

    return multiply


_multiply, _multiply_few = _multiplier(PANEL, ROWS), _multiplier(PANEL_FEW, (2, 1))


@compiled
def matmul(
    x: Floats, xo: int, x_row: int, x_step: int, w: Floats, wo: int, w_step: int, start: Floats, so: int,
    y: Floats, yo: int, y_row: int, rows: int, columns: int, steps: int,
) -> None:  # fmt: skip
    """y (rows, columns) = start (columns) + x (rows, steps) · w (steps, columns); columns is a multiple of 8.

    x is read with strides x_row and x_step, so that the same code multiplies by x transposed; w_step and y_row are the
    strides of the rows of w and y. Each output's sum begins with its start and adds the steps in order.
    """
    if rows <= 2:
        _multiply_few(x, xo, x_row, x_step, w, wo, w_step, start, so, y, yo, y_row, rows, columns, steps)
    else:
        _multiply(x, xo, x_row, x_step, w, wo, w_step, start, so, y, yo, y_row, rows, columns, steps)


@vector_kernel
def _turn(e: Emitter, w: Address, height: Count, columns: Count, turned: Address) -> None:
    """Transpose weights (height, columns), both multiples of 8, to (columns, BLOCK)."""
    with e.loop(e.quotient(height, UNIT)) as block, e.loop(e.quotient(columns, UNIT)) as part:
        source = e.at(w, e.mul(e.mul(block, UNIT), columns), e.mul(part, UNIT))
        target = e.at(turned, e.mul(part, UNIT * BLOCK), e.mul(block, UNIT))
        rows = [e.load(e.at(source, e.mul(number, columns)), UNIT) for number in range(UNIT)]
        for number, row in enumerate(e.transposed(rows)):
            e.store(row, e.at(target, number * BLOCK))


@compiled
def input_gradient(
    dy: Floats, dyo: int, w: Floats, wo: int, dx: Floats, dxo: int, scratch: Floats, turned: int, zeros: int,
    rows: int, inputs: int, height: int, columns: int,
) -> None:  # fmt: skip
    """dx = dy · w transposed, with dy (rows, columns), w (height, columns) and height at most BLOCK.

    dx has `inputs` columns, of which this writes `height`. `scratch` has BLOCK zeros at `zeros`, and at `turned` room
    for the transposed weights, (columns, BLOCK).
    """
    _turn(w, wo, height, columns, scratch, turned)
    matmul(
        dy, dyo, columns, 1, scratch, turned, BLOCK, scratch, zeros, dx, dxo, inputs, rows, height, columns
    )


@vector_kernel
def relu_vectors(e: Emitter, x: Address, units: Count) -> None:
    """Set x to max(x, 0) in place; NaN stays NaN."""
    for at, lanes in e.over_units(units):
        e.store(e.relu(e.load(e.at(x, at), lanes)), e.at(x, at))


@vector_kernel
def mask_vectors(e: Emitter, x: Address, dx: Address, units: Count) -> None:
    """Set dx to 0 where x ≤ 0 or x is NaN: the gradient of the ReLU whose output is x."""
    for at, lanes in e.over_units(units):
        e.store(e.passed(e.at(x, at), e.at(dx, at), lanes), e.at(dx, at))


@vector_kernel
def sum_rows(e: Emitter, x: Address, rows: Count, columns: Count, y: Address) -> None:
    """y (columns) = Σ over rows of x (rows, columns), by panels of four units; columns a multiple of 8."""
    panels, _ = e.divided(columns, 4 * UNIT)
    first = e.mul(panels, 4 * UNIT)
    rest = e.quotient(e.difference(columns, first), UNIT)
    for start, count, lanes in ((0, panels, 4 * UNIT), (first, rest, UNIT)):
        with e.loop(count) as number:
            column = e.sum(start, e.mul(number, lanes))
            total = e.variable(e.zeros(lanes))
            with e.loop(rows) as row:
                e.set(total, e.add(e.get(total), e.load(e.at(x, e.mul(row, columns), column), lanes)))
            e.store(e.get(total), e.at(y, column))
