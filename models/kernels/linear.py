"""Linear layers over a batch: forward, gradient of the weights, gradient of the input.

All arrays are flat float32 with an offset. Weights are [input][output], rows padded with zeros to whole
vectors of 8, so that a row of a layer's output is the next layer's input as it lies.
"""

from __future__ import annotations

from typing import Any

from models.kernels.emit import LANES, Address, Count, Emitter, vector_kernel
from models.kernels.jit import Floats, compiled
from models.kernels.tiles import tile_1x1, tile_1x5, tile_2x1, tile_2x5, tile_6x1, tile_6x2

_WIDE = 5 * LANES


@compiled
def matmul(
    x: Floats, xo: int, x_row: int, x_step: int, w: Floats, wo: int, start: Floats, so: int,
    y: Floats, yo: int, rows: int, columns: int, steps: int,
) -> None:  # fmt: skip
    """y (rows, columns) = start (columns) + x (rows, steps) · w (steps, columns); columns a multiple of 8.

    x is read at strides x_row and x_step, so that the same code multiplies by x transposed.
    """
    six = rows - rows % 6
    for c in range(0, columns - columns % (2 * LANES), 2 * LANES):
        for r in range(0, six, 6):
            tile_6x2(x, xo + r * x_row, x_row, x_step, w, wo + c, columns, start, so + c,
                     y, yo + r * columns + c, columns, steps)  # fmt: skip
    if columns % (2 * LANES):
        c = columns - LANES
        for r in range(0, six, 6):
            tile_6x1(x, xo + r * x_row, x_row, x_step, w, wo + c, columns, start, so + c,
                     y, yo + r * columns + c, columns, steps)  # fmt: skip
    r = six
    while r < rows:
        two = rows - r > 1
        c = 0
        while c < columns:
            if columns - c >= _WIDE:
                if two:
                    tile_2x5(x, xo + r * x_row, x_row, x_step, w, wo + c, columns, start, so + c,
                             y, yo + r * columns + c, columns, steps)  # fmt: skip
                else:
                    tile_1x5(x, xo + r * x_row, x_row, x_step, w, wo + c, columns, start, so + c,
                             y, yo + r * columns + c, columns, steps)  # fmt: skip
                c += _WIDE
            else:
                if two:
                    tile_2x1(x, xo + r * x_row, x_row, x_step, w, wo + c, columns, start, so + c,
                             y, yo + r * columns + c, columns, steps)  # fmt: skip
                else:
                    tile_1x1(x, xo + r * x_row, x_row, x_step, w, wo + c, columns, start, so + c,
                             y, yo + r * columns + c, columns, steps)  # fmt: skip
                c += LANES
        r += 2 if two else 1


def _input_gradient(rows: int) -> Any:
    @vector_kernel
    def eight_inputs(e: Emitter, dy: Address, w: Address, columns: Count, dx: Address, inputs: Count) -> None:
        """dx[row, 0:8] = Σ over outputs of dy[row] · w[0:8, output]."""
        # Eight sums at least for the latency; three rows' twelve leave room for the operands in sixteen registers.
        group = LANES if rows == 1 else 4
        results: list[list[Any]] = [[] for _ in range(rows)]
        for first in range(0, LANES, group):
            sums = [[e.variable(e.zeros()) for _ in range(group)] for _ in range(rows)]
            with e.loop(e.quotient(columns, LANES)) as vector:
                at = e.mul(vector, LANES)
                gradients = [e.load(e.at(dy, e.mul(row, columns), at)) for row in range(rows)]
                for number in range(group):
                    weights = e.load(e.at(w, e.mul(first + number, columns), at))
                    for row in range(rows):
                        place = sums[row][number]
                        e.set(place, e.fma(gradients[row], weights, e.get(place)))
            for row in range(rows):
                results[row] += [e.get(place) for place in sums[row]]
        for row in range(rows):
            e.store(e.sum_lanes(results[row]), e.at(dx, e.mul(row, inputs)))

    return eight_inputs


_one_row, _two_rows, _three_rows = (_input_gradient(rows) for rows in (1, 2, 3))


@vector_kernel
def _mask_vectors(e: Emitter, x: Address, dx: Address, vectors: Count) -> None:
    """dx = 0 where x ≤ 0 or is NaN."""
    with e.loop(vectors) as vector:
        at = e.mul(vector, LANES)
        e.store(e.select(e.positive(e.load(e.at(x, at))), e.load(e.at(dx, at)), e.zeros()), e.at(dx, at))


@compiled
def input_gradient(
    dy: Floats, dyo: int, w: Floats, wo: int, x: Floats, xo: int, dx: Floats, dxo: int,
    rows: int, inputs: int, columns: int, masked: bool,
) -> None:  # fmt: skip
    """dx (rows, inputs) = dy (rows, columns) · w (inputs, columns) transposed; with `masked`, 0 where x ≤ 0.

    `masked` is the gradient of the ReLU that made x.
    """
    three = rows - rows % 3
    for i in range(0, inputs, LANES):
        here = wo + i * columns
        for r in range(0, three, 3):
            _three_rows(dy, dyo + r * columns, w, here, columns, dx, dxo + r * inputs + i, inputs)
        if rows - three == 2:
            _two_rows(dy, dyo + three * columns, w, here, columns, dx, dxo + three * inputs + i, inputs)
        elif rows - three == 1:
            _one_row(dy, dyo + three * columns, w, here, columns, dx, dxo + three * inputs + i, inputs)
    if masked:
        _mask_vectors(x, xo, dx, dxo, rows * inputs // LANES)


def _sums_of(lanes: int) -> Any:
    @vector_kernel
    def column_sums(e: Emitter, x: Address, rows: Count, columns: Count, y: Address) -> None:
        """y[:lanes] = Σ over rows of x[row, :lanes]."""
        total = e.variable(e.zeros(lanes))
        with e.loop(rows) as row:
            e.set(total, e.add(e.get(total), e.load(e.at(x, e.mul(row, columns)), lanes)))
        e.store(e.get(total), y)

    return column_sums


_column_sums_wide, _column_sums = _sums_of(4 * LANES), _sums_of(LANES)


@compiled
def sum_rows(x: Floats, xo: int, rows: int, columns: int, y: Floats, yo: int) -> None:
    """y (columns) = Σ over rows of x (rows, columns); columns a multiple of 8."""
    c = 0
    while c < columns:
        if columns - c >= 4 * LANES:
            _column_sums_wide(x, xo + c, rows, columns, y, yo + c)
            c += 4 * LANES
        else:
            _column_sums(x, xo + c, rows, columns, y, yo + c)
            c += LANES


@vector_kernel
def relu_vectors(e: Emitter, x: Address, vectors: Count) -> None:
    """x = max(x, 0) in place; NaN stays NaN."""
    with e.loop(vectors) as vector:
        here = e.at(x, e.mul(vector, LANES))
        e.store(e.relu(e.load(here)), here)
