"""The two convolutions of CLeNet with their ReLU and max-pooling, one image at a time, and their gradients.

Channels lie last, so that vectors run over them. Layouts of one image, flat float32 unless said:

* image: (C, 16, 16), the 14×14 image within a border of zeros
* first weights: (C, 3, 3, 12); first pooled output: (8, 8, 12), 7×7 after a first row and column of zeros
* second weights: (32, 3, 3, 12), and for the forward pass also (3, 3, 12, 32)
* second pooled output: (3, 3, 32)
* positions: which of a pooling window's four places held the maximum, 32-bit integers like the pooled output
  (without the border)
"""

from __future__ import annotations

from typing import Any

from models.kernels.emit import LANES, Address, Count, Emitter, chunks, vector_kernel
from models.kernels.jit import Floats, Positions, compiled
from models.kernels.tiles import accumulate

IMAGE = 16  # Side of an image with its border.
MAPS1, MAPS2 = 12, 32
SIDE1, SIDE2 = 7, 3  # Sides of the pooled outputs.
ROW1 = (SIDE1 + 1) * MAPS1  # One row of the first output, with its border.
SIZE1 = (SIDE1 + 1) * ROW1
PLACES1 = SIDE1 * SIDE1 * MAPS1
SIZE2 = SIDE2 * SIDE2 * MAPS2
RUN = 3 * MAPS1  # The inputs of three neighbouring taps lie side by side.
TAPS2 = 3 * RUN
SCRATCH2 = 2 * 2 * SIDE2 * MAPS2  # What `forward2` needs.
SURVIVORS = SIDE2 * SIDE2 + 1  # What `backward2` needs; the list is written one beyond its end.

# Where a window's four places and a kernel's nine taps meet the 4×4 pixels around it.
_PIXELS = [(row, column) for row in range(4) for column in range(4)]
_WINDOW = [(row, column) for row in range(2) for column in range(2)]


def _meetings(row: int, column: int) -> list[tuple[int, int]]:
    """The (place, tap) pairs that read one of the 4×4 pixels."""
    return [
        (place, 3 * (row - dy) + column - dx)
        for place, (dy, dx) in enumerate(_WINDOW)
        if 0 <= row - dy < 3 and 0 <= column - dx < 3
    ]


def _forward1(channels: int) -> Any:
    @vector_kernel
    def forward1(
        e: Emitter, image: Address, weights: Address, bias: Address, output: Address, positions: Address
    ) -> None:
        """First convolution, ReLU and pooling of one image; the border of the output is not touched."""
        for first, lanes in chunks(MAPS1):
            start = e.load(e.at(bias, first), lanes)
            with e.loop(SIDE1) as y, e.loop(SIDE1) as x:
                corner = e.at(image, e.mul(y, 2 * IMAGE), e.mul(x, 2))
                sums = [start] * len(_WINDOW)
                for channel in range(channels):
                    for row, column in _PIXELS:
                        pixel = e.broadcast(e.at(corner, (channel * IMAGE + row) * IMAGE + column), lanes)
                        for place, tap in _meetings(row, column):
                            weight = e.load(e.at(weights, (9 * channel + tap) * MAPS1 + first), lanes)
                            sums[place] = e.fma(pixel, weight, sums[place])
                best, position = e.first_maximum(sums)
                e.store(e.relu(best), e.at(output, ROW1 + MAPS1 + first, e.mul(y, ROW1), e.mul(x, MAPS1)))
                e.store(position, e.at(positions, first, e.mul(y, SIDE1 * MAPS1), e.mul(x, MAPS1)))

    return forward1


def _backward1(channels: int) -> Any:
    @vector_kernel
    def backward1(
        e: Emitter, image: Address, output: Address, positions: Address, gradient: Address,
        weights: Address, bias: Address,
    ) -> None:  # fmt: skip
        """Adds one image's gradients of the first weights and bias, given that of the pooled output."""
        for first, lanes in chunks(MAPS1):
            for channel in range(channels):
                taps = [e.at(weights, (9 * channel + tap) * MAPS1 + first) for tap in range(9)]
                sums = [e.variable(e.load(tap, lanes)) for tap in taps]
                total = e.variable(e.load(e.at(bias, first), lanes))
                with e.loop(SIDE1) as y, e.loop(SIDE1) as x:
                    here = e.at(gradient, ROW1 + MAPS1 + first, e.mul(y, ROW1), e.mul(x, MAPS1))
                    there = e.at(output, ROW1 + MAPS1 + first, e.mul(y, ROW1), e.mul(x, MAPS1))
                    position = e.load(e.at(positions, first, e.mul(y, SIDE1 * MAPS1), e.mul(x, MAPS1)), lanes)
                    alive = e.select(e.positive(e.load(there, lanes)), e.load(here, lanes), e.zeros(lanes))
                    places = [e.select(e.equal(position, n), alive, e.zeros(lanes)) for n in range(4)]
                    if channel == 0:
                        e.set(total, e.add(e.get(total), alive))
                    corner = e.at(image, channel * IMAGE * IMAGE, e.mul(y, 2 * IMAGE), e.mul(x, 2))
                    for row, column in _PIXELS:
                        pixel = e.broadcast(e.at(corner, row * IMAGE + column), lanes)
                        for place, tap in _meetings(row, column):
                            e.set(sums[tap], e.fma(pixel, places[place], e.get(sums[tap])))
                for place, tap_at in zip(sums, taps, strict=True):
                    e.store(e.get(place), tap_at)
                if channel == 0:
                    e.store(e.get(total), e.at(bias, first))

    return backward1


forward1_single, forward1_pair = _forward1(1), _forward1(2)
backward1_single, backward1_pair = _backward1(1), _backward1(2)


@vector_kernel
def forward2(
    e: Emitter, source: Address, weights: Address, bias: Address, scratch: Address, output: Address,
    positions: Address,
) -> None:  # fmt: skip
    """Second convolution, ReLU and pooling of one image; `scratch` holds (2, 6, 32)."""
    width = 2 * SIDE2
    with e.loop(SIDE2) as cell_row:
        with e.loop(2) as dy, e.loop(MAPS2 // (2 * LANES)) as half:
            first = e.mul(half, 2 * LANES)
            sums = accumulate(
                e, width, 2, e.at(source, e.mul(cell_row, 2 * ROW1), e.mul(dy, ROW1)), MAPS1,
                e.at(weights, first), e.at(bias, first), [(3, ROW1, RUN * MAPS2), (RUN, 1, MAPS2)],
            )  # fmt: skip
            for x in range(width):
                for vector in range(2):
                    where = e.at(scratch, e.mul(dy, width * MAPS2), first, x * MAPS2 + vector * LANES)
                    e.store(e.get(sums[x][vector]), where)
        for cell in range(SIDE2):
            for first, _ in chunks(MAPS2):
                values = [
                    e.load(e.at(scratch, (dy * width + 2 * cell + dx) * MAPS2 + first)) for dy, dx in _WINDOW
                ]
                best, position = e.first_maximum(values)
                where = cell * MAPS2 + first
                e.store(e.relu(best), e.at(output, e.mul(cell_row, SIDE2 * MAPS2), where))
                e.store(position, e.at(positions, e.mul(cell_row, SIDE2 * MAPS2), where))


@vector_kernel
def _backward2_map(
    e: Emitter, source: Address, source_gradient: Address, weights: Address, weight_gradient: Address,
    corners: Address, gradients: Address, count: Count,
) -> None:  # fmt: skip
    """One output map: adds the outer products of its `count` surviving maxima with the inputs they read."""
    runs = [(row, at, lanes) for row in range(3) for at, lanes in chunks(RUN)]
    sums = [e.variable(e.load(e.at(weight_gradient, row * RUN + at), lanes)) for row, at, lanes in runs]
    with e.loop(count) as number:
        corner = e.scalar_index(e.at(corners, number))
        here, there = e.at(source, corner), e.at(source_gradient, corner)
        for place, (row, at, lanes) in zip(sums, runs, strict=True):
            gradient = e.broadcast(e.at(gradients, number), lanes)
            e.set(place, e.fma(gradient, e.load(e.at(here, row * ROW1 + at), lanes), e.get(place)))
        for row, at, lanes in runs:
            gradient = e.broadcast(e.at(gradients, number), lanes)
            spot = e.at(there, row * ROW1 + at)
            weight = e.load(e.at(weights, row * RUN + at), lanes)
            e.store(e.fma(gradient, weight, e.load(spot, lanes)), spot)
    for place, (row, at, _) in zip(sums, runs, strict=True):
        e.store(e.get(place), e.at(weight_gradient, row * RUN + at))


@compiled
def backward2(
    source: Floats, so: int, source_gradient: Floats, go: int, weights: Floats, wo: int,
    weight_gradient: Floats, wgo: int, gradient: Floats, dyo: int, positions: Positions, po: int,
    corners: Positions, co: int, gradients: Floats, lo: int,
) -> None:  # fmt: skip
    """Adds one image's gradient of the second weights, and writes that of its first pooled output.

    Only a window's maximum passes a gradient on, and only where ReLU let it live: an eighth of the positions
    or so, listed per output map.
    """
    for n in range(SIZE1):
        source_gradient[go + n] = 0
    for m in range(MAPS2):
        count = 0
        for y in range(SIDE2):
            for x in range(SIDE2):
                n = (y * SIDE2 + x) * MAPS2 + m
                position = positions[po + n]
                corners[co + count] = (2 * y + (position >> 1)) * ROW1 + (2 * x + (position & 1)) * MAPS1
                gradients[lo + count] = gradient[dyo + n]
                count += gradient[dyo + n] != 0
        _backward2_map(
            source, so, source_gradient, go, weights, wo + m * TAPS2, weight_gradient, wgo + m * TAPS2,
            corners, co, gradients, lo, count,
        )  # fmt: skip


@compiled
def taps_first(weights: Floats, wo: int, turned: Floats, to: int) -> None:
    """Second weights (32, 108) as (108, 32), for the forward pass."""
    for tap in range(TAPS2):
        for m in range(MAPS2):
            turned[to + tap * MAPS2 + m] = weights[wo + m * TAPS2 + tap]
