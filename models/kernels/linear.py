"""Linear layers over a batch: gradient of the input, sums of rows, ReLU; `models.kernels.matmul` has the products.

All arrays are flat float32 with an offset. Weights are [input][output], with rows padded by zeros to whole units of 8,
so that the next layer reads a layer's output in place.
"""

from __future__ import annotations

from typing import Any

from pairsearch.jit.compiling import Floats, compiled
from pairsearch.models.kernels.emit import LANES, UNIT, Emitter
from pairsearch.models.kernels.intrinsic import Address, Count, vector_kernel
from pairsearch.models.kernels.matmul import PANEL, matmul

# How many inputs' gradients are computed together: as many as a panel of `matmul` has columns.
BLOCK = PANEL * LANES


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
def mask_vectors(e: Emitter, x: Address, dx: Address, units: Count) -> None:
    """Set dx to 0 where x ≤ 0 or x is NaN: the gradient of the ReLU whose output is x."""

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
    """Set x to max(x, 0) in place; NaN stays NaN."""
    e.over_units(units, lambda at, lanes: e.store(e.relu(e.load(e.at(x, at), lanes)), e.at(x, at)))
