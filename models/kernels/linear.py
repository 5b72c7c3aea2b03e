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


def _input_gradient(masked: bool) -> Any:
    @vector_kernel
    def eight_inputs(
        e: Emitter, dy: Address, w: Address, w_row: Count, vectors: Count, x: Address, dx: Address
    ) -> None:
        """dx[0:8] = Σ over outputs of dy · w[0:8, output], zero where x ≤ 0 if masked."""
        sums = [e.variable(e.zeros()) for _ in range(LANES)]
        with e.loop(vectors) as vector:
            gradient = e.load(e.at(dy, e.mul(vector, LANES)))
            here = e.at(w, e.mul(vector, LANES))
            for row in range(LANES):
                e.set(sums[row], e.fma(gradient, e.load(e.at(here, e.mul(row, w_row))), e.get(sums[row])))
        result = e.sum_lanes([e.get(place) for place in sums])
        if masked:
            result = e.select(e.positive(e.load(x)), result, e.zeros())
        e.store(result, dx)

    return eight_inputs


_eight_inputs = _input_gradient(masked=False)
_eight_inputs_masked = _input_gradient(masked=True)


@compiled
def input_gradient(
    dy: Floats, dyo: int, w: Floats, wo: int, x: Floats, xo: int, dx: Floats, dxo: int,
    rows: int, inputs: int, columns: int, masked: bool,
) -> None:  # fmt: skip
    """dx (rows, inputs) = dy (rows, columns) · w (inputs, columns) transposed; with `masked`, 0 where x ≤ 0.

    `masked` is the gradient of the ReLU that made x.
    """
    for i in range(0, inputs, LANES):
        for r in range(rows):
            at = r * inputs + i
            if masked:
                _eight_inputs_masked(dy, dyo + r * columns, w, wo + i * columns, columns, columns // LANES,
                                     x, xo + at, dx, dxo + at)  # fmt: skip
            else:
                _eight_inputs(dy, dyo + r * columns, w, wo + i * columns, columns, columns // LANES,
                              x, xo + at, dx, dxo + at)  # fmt: skip


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
