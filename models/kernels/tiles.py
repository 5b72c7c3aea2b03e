"""The tile under every dense kernel: a few rows times a few vectors of columns, kept in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.kernels.emit import LANES, Address, Count, Emitter, Index, vector_kernel

# Steps of the sum: (how often, stride in x, stride in w), outermost first.
Steps = Sequence[tuple[Index, Index, Index]]


def accumulate(
    e: Emitter, rows: int, vectors: int, x: Any, x_row: Index, w: Any, start: Any, steps: Steps
) -> list[list[Any]]:
    """Variables holding start + Σ x[row] · w[column vector], the sum in the order of `steps`.

    Twelve sums (6 rows × 2 vectors) leave room for the operands in sixteen registers and keep two
    multiply-adds a cycle in flight at a latency of four.
    """
    sums = [
        [e.variable(e.load(e.at(start, vector * LANES))) for vector in range(vectors)] for _ in range(rows)
    ]

    def descend(x_here: Any, w_here: Any, remaining: Steps) -> None:
        if remaining:
            (count, x_stride, w_stride), *rest = remaining
            with e.loop(count) as step:
                descend(e.at(x_here, e.mul(step, x_stride)), e.at(w_here, e.mul(step, w_stride)), rest)
            return
        columns = [e.load(e.at(w_here, vector * LANES)) for vector in range(vectors)]
        for row in range(rows):
            factor = e.broadcast(e.at(x_here, e.mul(row, x_row)))
            for vector, column in enumerate(columns):
                e.set(sums[row][vector], e.fma(factor, column, e.get(sums[row][vector])))

    descend(x, w, steps)
    return sums


def _tile(rows: int, vectors: int) -> Any:
    @vector_kernel
    def tile(
        e: Emitter, x: Address, x_row: Count, x_step: Count, w: Address, w_step: Count, start: Address,
        y: Address, y_row: Count, steps: Count,
    ) -> None:  # fmt: skip
        """y[row, :] = start + Σ over steps of x[row, step] · w[step, :]."""
        sums = accumulate(e, rows, vectors, x, x_row, w, start, [(steps, x_step, w_step)])
        for row in range(rows):
            for vector in range(vectors):
                e.store(e.get(sums[row][vector]), e.at(y, e.mul(row, y_row), vector * LANES))

    return tile


tile_6x2 = _tile(6, 2)
tile_6x1 = _tile(6, 1)
tile_2x5 = _tile(2, 5)
tile_2x1 = _tile(2, 1)
tile_1x5 = _tile(1, 5)
tile_1x1 = _tile(1, 1)
