"""Linear layers over a batch: gradient of the input, sums of rows, ReLU. Products are `models.kernels.matmul`'s.

All arrays are flat float32 with an offset. Weights are [input][output], rows padded with zeros to whole units of 8,
so that a row of a layer's output is the next layer's input as it lies.
"""

from __future__ import annotations

from typing import Any

from models.kernels.emit import LANES, UNIT, WIDE, Emitter
from models.kernels.intrinsic import Address, Count, vector_kernel
from models.kernels.jit import Floats, compiled
from models.kernels.matmul import PANEL, matmul

# Inputs whose gradients are computed together: as many as a panel of `matmul` has columns.
BLOCK = PANEL * LANES
# With fewer rows than this, turning the weights costs more than adding across lanes.
FEW_ROWS = 8


def _across(rows: int) -> Any:
    @vector_kernel
    def across(e: Emitter, dy: Address, w: Address, columns: Count, dx: Address, inputs: Count) -> None:
        """dx[row, 0:8] = Σ over outputs of dy[row] · w[0:8, output], in sixteen partial sums."""
        # Eight inputs at once where there are 32 registers, else as many as sixteen of eight lanes hold.
        group = UNIT if LANES == WIDE else UNIT // 2 // rows
        wholes, left = e.divided(columns, WIDE)
        results: list[list[Any]] = [[] for _ in range(rows)]
        for first in range(0, UNIT, group):
            sums = [[e.variable(e.zeros(WIDE)) for _ in range(group)] for _ in range(rows)]

            def add(
                at: Any, lanes: int, first: int = first, sums: list[list[Any]] = sums, group: int = group
            ) -> None:
                def read(base: Any) -> Any:
                    vector = e.load(e.at(base, at), lanes)
                    return vector if lanes == WIDE else e.widened(vector)

                gradients = [read(e.at(dy, e.mul(row, columns))) for row in range(rows)]
                for number in range(group):
                    weights = read(e.at(w, e.mul(first + number, columns)))
                    for row in range(rows):
                        place = sums[row][number]
                        e.set(place, e.fma(gradients[row], weights, e.get(place)))

            with e.loop(wholes) as vector:
                add(e.mul(vector, WIDE), WIDE)
            with e.when(e.is_equal(left, UNIT)):
                add(e.mul(wholes, WIDE), UNIT)
            for row in range(rows):
                results[row] += [e.get(place) for place in sums[row]]
        for row in range(rows):
            e.store(e.sum_lanes(results[row]), e.at(dx, e.mul(row, inputs)))

    return across


_across_one, _across_two = _across(1), _across(2)


@vector_kernel
def _turn(e: Emitter, w: Address, height: Count, columns: Count, turned: Address) -> None:
    """Rows of weights (height, columns) as (columns, BLOCK); both multiples of 8."""
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
    """dx (rows, height of `inputs`) = dy (rows, columns) · w (height, columns) transposed; height at most BLOCK.

    `scratch` holds BLOCK zeros at `zeros`, and takes the turned weights, (columns, BLOCK), at `turned`. Which of the two
    orders of addition is taken depends on the number of rows alone.
    """
    if rows >= FEW_ROWS:
        _turn(w, wo, height, columns, scratch, turned)
        matmul(dy, dyo, columns, 1, scratch, turned, BLOCK, scratch, zeros, dx, dxo, inputs, rows, height, columns)
        return
    for i in range(0, height, UNIT):
        for r in range(0, rows - 1, 2):
            _across_two(dy, dyo + r * columns, w, wo + i * columns, columns, dx, dxo + r * inputs + i, inputs)
        if rows % 2:
            r = rows - 1
            _across_one(dy, dyo + r * columns, w, wo + i * columns, columns, dx, dxo + r * inputs + i, inputs)


@vector_kernel
def mask_vectors(e: Emitter, x: Address, dx: Address, units: Count) -> None:
    """dx = 0 where x ≤ 0 or is NaN: the gradient of the ReLU that made x."""

    def mask(at: Any, lanes: int) -> None:
        passed = e.positive(e.load(e.at(x, at), lanes))
        e.store(e.select(passed, e.load(e.at(dx, at), lanes), e.zeros(lanes)), e.at(dx, at))

    e.over_units(units, mask)


def _sums_of(lanes: int) -> Any:
    @vector_kernel
    def column_sums(e: Emitter, x: Address, rows: Count, columns: Count, y: Address) -> None:
        """y[:lanes] = Σ over rows of x[row, :lanes]."""
        total = e.variable(e.zeros(lanes))
        with e.loop(rows) as row:
            e.set(total, e.add(e.get(total), e.load(e.at(x, e.mul(row, columns)), lanes)))
        e.store(e.get(total), y)

    return column_sums


_column_sums_wide, _column_sums = _sums_of(4 * UNIT), _sums_of(UNIT)


@compiled
def sum_rows(x: Floats, xo: int, rows: int, columns: int, y: Floats, yo: int) -> None:
    """y (columns) = Σ over rows of x (rows, columns); columns a multiple of 8."""
    c = 0
    while c < columns:
        if columns - c >= 4 * UNIT:
            _column_sums_wide(x, xo + c, rows, columns, y, yo + c)
            c += 4 * UNIT
        else:
            _column_sums(x, xo + c, rows, columns, y, yo + c)
            c += UNIT


@vector_kernel
def relu_vectors(e: Emitter, x: Address, units: Count) -> None:
    """x = max(x, 0) in place; NaN stays NaN."""
    e.over_units(units, lambda at, lanes: e.store(e.relu(e.load(e.at(x, at), lanes)), e.at(x, at)))
