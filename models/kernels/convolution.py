"""The two convolutions of CLeNet with their ReLU and max-pooling, one image at a time, and their gradients.

Channels come last, so that vectors run over them. The layouts of one image, flat float32 unless stated otherwise; P is
16 where a register holds sixteen lanes, with zeros in the last four, and else 12:

* image: (C, 16, 16), the 14×14 image within a border of zeros
* first weights: (C, 3, 3, P); first pooled output: (8, 8, P), 7×7 after a first row and column of zeros
* second weights: (32, 3, 3, P), transformed to (4, 4, 12, 32) for the forward pass
* second pooled output: (3, 3, 32)
* windows: bit 8·y + x for each pooling window (y, x) of the first convolution whose 4×4 pixels are not all zero; the
  output of the other windows (two fifths of them, in MNIST) is the bias alone
* positions: where the maximum of each pooling window lies, 32-bit integers in the shape of the pooled output; for the
  first convolution one of the window's four places, (7, 8, 12), for the second the offset of the maximum's 3×3 patch in
  the first pooled outputs of the batch
"""

from __future__ import annotations

from itertools import product
from typing import Any

from pairsearch.models.kernels.emit import LANES, UNIT, WIDE, Emitter, chunks
from pairsearch.models.kernels.intrinsic import Address, Count, vector_kernel

IMAGE = 16  # side of an image with its border
MAPS1, MAPS2 = 12, 32
PIXEL = WIDE if LANES == WIDE else MAPS1  # floats of a pixel's maps, with padding
SIDE1, SIDE2 = 7, 3  # sides of the pooled outputs
ROW1 = (SIDE1 + 1) * PIXEL  # a row of the first output, with its border
SIZE1 = (SIDE1 + 1) * ROW1
PLACES1 = SIDE1 * ROW1
WINDOWS1 = sum(1 << (8 * y + x) for y in range(SIDE1) for x in range(SIDE1))  # a bit for each window
SIZE2 = SIDE2 * SIDE2 * MAPS2
TAPS2 = 9 * PIXEL
CELLS2 = SIDE2 * SIDE2
SPAN2 = 2 if LANES == WIDE else 1  # wide vectors of maps that `forward2` sums at once, in twelve registers
INPUTS2 = 16 * CELLS2 * WIDE  # the transformed inputs of `forward2`
SCRATCH2 = INPUTS2 + 16 * SIDE2 * SPAN2 * WIDE  # the scratch of `forward2`
SCRATCH_WEIGHTS = 9 * UNIT * WIDE  # the scratch of `winograd_weights`
CHUNK2 = 7  # images whose surviving maxima are marked in one word: 63 of its 64 bits

# The 4×4 pixels that a pooling window sees, and its four places, each of which reads 3×3 of them.
_PIXELS = list(product(range(4), range(4)))
_WINDOW = list(product(range(2), range(2)))
# Offsets of the patches of a window's four places in the second convolution, from the first place's patch.
_PATCHES = [row * ROW1 + column * PIXEL for row, column in _WINDOW]


def _meetings(row: int, column: int) -> list[tuple[int, int]]:
    """Return the (place, tap) pairs that read one of the 4×4 pixels."""
    return [
        (place, 3 * (row - dy) + column - dx)
        for place, (dy, dx) in enumerate(_WINDOW)
        if 0 <= row - dy < 3 and 0 <= column - dx < 3
    ]


def _window(e: Emitter, n: Any, image: Any) -> tuple[Any, Any]:
    """Return the address of window n's first pixel, and its offset in the output inside the border."""
    # With n = 8·y + x the pixel lies at 2·IMAGE·y + 2·x: this is what 2·n lacks of it.
    row = e.mul(e.quotient(n, 8), 2 * IMAGE - 2 * 8)
    return e.at(image, row, e.mul(n, 2)), e.mul(n, PIXEL)


@vector_kernel
def forward1(
    e: Emitter, channels: Count, image: Address, windows: Count, weights: Address, bias: Address, output: Address,
    positions: Address,
) -> None:  # fmt: skip
    """First convolution, ReLU and pooling of an image of one or two channels; the output's border is not written."""
    inside = e.at(output, ROW1 + PIXEL)
    for count in e.cases(channels, (1, 2)):
        for first, lanes in chunks(PIXEL):
            start = e.load(e.at(bias, first), lanes)
            # Weights are read once and stay in registers.
            taps = [e.load(e.at(weights, tap * PIXEL + first), lanes) for tap in range(9 * count)]
            with e.loop_over_bits(windows) as n:
                corner, at = _window(e, n, image)
                sums = [start] * len(_WINDOW)
                for channel, (row, column) in product(range(count), _PIXELS):
                    pixel = e.broadcast(e.at(corner, (channel * IMAGE + row) * IMAGE + column), lanes)
                    for place, tap in _meetings(row, column):
                        sums[place] = e.fma(pixel, taps[9 * channel + tap], sums[place])
                best, position = e.first_maximum(sums, range(4))
                e.store(e.relu(best), e.at(inside, first, at))
                e.store(position, e.at(positions, first, at))
            with e.loop_over_bits(e.missing(windows, WINDOWS1)) as n:
                at = e.mul(n, PIXEL)
                e.store(e.relu(start), e.at(inside, first, at))
                e.store(e.integers(0, lanes), e.at(positions, first, at))


@vector_kernel
def backward1(
    e: Emitter, channels: Count, image: Address, windows: Count, output: Address, positions: Address,
    gradient: Address, weights: Address, bias: Address,
) -> None:  # fmt: skip
    """Add an image's gradients of the first weights and bias, from the gradient of the pooled output."""
    output, gradient = (e.at(base, ROW1 + PIXEL) for base in (output, gradient))
    for count in e.cases(channels, (1, 2)):
        for (first, lanes), channel in product(chunks(PIXEL), range(count)):
            taps = [e.at(weights, (9 * channel + tap) * PIXEL + first) for tap in range(9)]
            sums = [e.variable(e.load(tap, lanes)) for tap in taps]
            total = e.variable(e.load(e.at(bias, first), lanes))
            with e.loop_over_bits(windows) as n:
                corner, at = _window(e, n, e.at(image, channel * IMAGE * IMAGE))
                position = e.load(e.at(positions, first, at), lanes)
                passed = e.passed(e.at(output, first, at), e.at(gradient, first, at), lanes)
                places = [e.select(e.equal(position, n), passed, e.zeros(lanes)) for n in range(4)]
                if channel == 0:
                    e.set(total, e.add(e.get(total), passed))
                for row, column in _PIXELS:
                    pixel = e.broadcast(e.at(corner, row * IMAGE + column), lanes)
                    for place, tap in _meetings(row, column):
                        e.set(sums[tap], e.fma(pixel, places[place], e.get(sums[tap])))
            for place, tap_at in zip(sums, taps, strict=True):
                e.store(e.get(place), tap_at)
            if channel == 0:
                with e.loop_over_bits(e.missing(windows, WINDOWS1)) as n:
                    at = e.mul(n, PIXEL)
                    passed = e.passed(e.at(output, first, at), e.at(gradient, first, at), lanes)
                    e.set(total, e.add(e.get(total), passed))
                e.store(e.get(total), e.at(bias, first))


# Winograd's minimal filtering F(2×2, 3×3) computes the four places of a pooling window, each a sum over a 3×3 patch,
# by sixteen products a channel instead of thirty-six (Lavin & Gray, "Fast Algorithms for Convolutional Neural
# Networks", 2015, section 4.1): Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A. Patches that are equal, because the inputs are
# constant along a row or a column or are zero, still give equal bits, so ties stay ties. Each place depends on the
# inputs of its own patch only.


def _input_transform(e: Emitter, d: list[Any]) -> list[Any]:
    """Compute Bᵀ d for four values d."""
    return [e.subtract(d[0], d[2]), e.add(d[1], d[2]), e.subtract(d[2], d[1]), e.subtract(d[1], d[3])]


def _weight_transform(e: Emitter, g: list[Any]) -> list[Any]:
    """Compute G g for three values g."""
    outer = e.add(g[0], g[2])
    half = e.constant(0.5, WIDE)
    return [g[0], e.multiply(half, e.add(outer, g[1])), e.multiply(half, e.subtract(outer, g[1])), g[2]]


def _output_transform(e: Emitter, m: list[Any]) -> list[Any]:
    """Compute Aᵀ m for four values m."""
    return [e.add(e.add(m[0], m[1]), m[2]), e.subtract(e.subtract(m[1], m[2]), m[3])]


def _both_ways(transform: Any, e: Emitter, square: list[list[Any]]) -> list[list[Any]]:
    """Apply a transform to a square's columns, then to its rows."""
    columns = [transform(e, list(column)) for column in zip(*square, strict=True)]
    return [transform(e, list(row)) for row in zip(*columns, strict=True)]


@vector_kernel
def winograd_weights(e: Emitter, weights: Address, scratch: Address, transformed: Address) -> None:
    """Transform the second weights (32, 3, 3, P) to (4, 4, 12, 32) for `forward2`; `scratch` holds (9, 8, 16)."""
    with e.loop(MAPS2 // WIDE) as part:
        maps = e.mul(part, WIDE)
        # Blocks of 8×8 are transposed; the second overlaps the first in four channels.
        for channels in (0, MAPS1 - UNIT):
            for tap in range(9):
                first = e.at(weights, e.mul(maps, TAPS2), tap * PIXEL + channels)
                low, high = (
                    e.transposed([e.load(e.at(first, (half + m) * TAPS2), UNIT) for m in range(UNIT)])
                    for half in (0, UNIT)
                )
                for number, (a, b) in enumerate(zip(low, high, strict=True)):
                    e.store(e.joined(a, b), e.at(scratch, (tap * UNIT + number) * WIDE))
            with e.loop(UNIT) as channel:
                source = e.at(scratch, e.mul(channel, WIDE))
                target = e.at(transformed, e.mul(e.sum(channel, channels), MAPS2), maps)
                taps = [
                    [e.load(e.at(source, (3 * row + column) * UNIT * WIDE), WIDE) for column in range(3)]
                    for row in range(3)
                ]
                for row, values in enumerate(_both_ways(_weight_transform, e, taps)):
                    for column, value in enumerate(values):
                        e.store(value, e.at(target, (4 * row + column) * MAPS1 * MAPS2))


@vector_kernel
def forward2(
    e: Emitter, source: Address, weights: Address, bias: Address, scratch: Address, output: Address,
    positions: Address, image: Count,
) -> None:  # fmt: skip
    """Second convolution, ReLU and pooling of one image, from weights transformed to (4, 4, 12, 32).

    `image` is the offset of the source in the first outputs of the batch. `scratch` holds the transformed inputs
    (4, 4, 3, 3, 16), whose last four lanes have no meaning, and for one row of cells the sums of products for the maps
    that are computed at once, (4, 4, 3, 16 or 32).
    """
    products = e.at(scratch, INPUTS2)
    span = SPAN2 * WIDE
    with e.loop(SIDE2) as y, e.loop(SIDE2) as x:
        corner = e.at(source, e.mul(y, 2 * ROW1), e.mul(x, 2 * PIXEL))
        cell = e.at(scratch, e.mul(y, SIDE2 * WIDE), e.mul(x, WIDE))
        pixels = [
            [e.load(e.at(corner, row * ROW1 + column * PIXEL), WIDE) for column in range(4)]
            for row in range(4)
        ]
        for row, values in enumerate(_both_ways(_input_transform, e, pixels)):
            for column, value in enumerate(values):
                e.store(value, e.at(cell, (4 * row + column) * CELLS2 * WIDE))
    with e.loop(MAPS2 // span) as part, e.loop(SIDE2) as y:
        first = e.mul(part, span)
        # Two of the sixteen products, three cells, and 16 or 32 maps make twelve sums in registers.
        with e.loop(16 // 2) as two:
            inputs = e.at(scratch, e.mul(two, 2 * CELLS2 * WIDE), e.mul(y, SIDE2 * WIDE))
            here = e.at(weights, e.mul(two, 2 * MAPS1 * MAPS2), first)
            sums: dict[tuple[int, int, int], Any] = {}
            for channel in range(MAPS1):
                for number in range(2):
                    columns = [
                        e.load(e.at(here, (number * MAPS1 + channel) * MAPS2 + at), WIDE)
                        for at in range(0, span, WIDE)
                    ]
                    for x in range(SIDE2):
                        factor = e.broadcast(e.at(inputs, (number * CELLS2 + x) * WIDE + channel), WIDE)
                        for vector, column in enumerate(columns):
                            before = sums.get((number, x, vector))
                            sums[number, x, vector] = (
                                e.fma(factor, column, before) if before else e.multiply(factor, column)
                            )
            for (number, x, vector), value in sums.items():
                place = (number * SIDE2 + x) * span + vector * WIDE
                e.store(value, e.at(products, e.mul(two, 2 * SIDE2 * span), place))
        for x, at in ((x, at) for x in range(SIDE2) for at in range(0, span, WIDE)):
            start = e.load(e.at(bias, first, at), WIDE)
            square = [
                [
                    e.load(e.at(products, ((4 * row + column) * SIDE2 + x) * span + at), WIDE)
                    for column in range(4)
                ]
                for row in range(4)
            ]
            values = [
                e.add(value, start) for row in _both_ways(_output_transform, e, square) for value in row
            ]
            best, patch = e.first_maximum(values, [x * 2 * PIXEL + offset for offset in _PATCHES])
            here = e.sum(e.mul(y, SIDE2 * MAPS2), e.sum(first, x * MAPS2 + at))
            e.store(e.relu(best), e.at(output, here))
            e.store(e.plus(patch, e.sum(image, e.mul(y, 2 * ROW1))), e.at(positions, here))


# The nine taps of a map as vectors: offset in the inputs, offset in the weights, lanes. The three taps of a row are
# contiguous. They make nine vectors of sixteen lanes, or fifteen of eight and four, which with one factor fill the
# registers.
_PIECES = [
    (row * ROW1 + at, row * 3 * PIXEL + at, lanes) for row in range(3) for at, lanes in chunks(3 * PIXEL)
]


@vector_kernel
def weight_gradient2(
    e: Emitter, source: Address, images: Count, gradient: Address, positions: Address, survivors: Address,
    weight_gradient: Address,
) -> None:  # fmt: skip
    """Add the gradient of the second weights from up to `CHUNK2` consecutive images.

    `source` holds the first outputs of the batch. Only a window's maximum passes a gradient on, and only where ReLU did
    not cut it off. These maxima are marked by bits in one word for each output map, so that the map's gradient stays in
    registers over all of them.
    """
    halves = [survivors, e.at(survivors, MAPS2)]
    words = [e.variable(e.integers(0, MAPS2)) for _ in halves]
    with e.loop(e.mul(images, CELLS2)) as cell:
        alive = e.nonzero(e.load(e.at(gradient, e.mul(cell, MAPS2)), MAPS2))
        for place, word in zip(words, e.with_bit([e.get(word) for word in words], alive, cell), strict=True):
            e.set(place, word)
    for place, half in zip(words, halves, strict=True):
        e.store(e.get(place), half)
    with e.loop(MAPS2) as m:
        taps = e.at(weight_gradient, e.mul(m, TAPS2))
        sums = [e.variable(e.load(e.at(taps, tap), lanes)) for _, tap, lanes in _PIECES]
        with e.loop_over_bits(e.scalar_word(*(e.at(half, m) for half in halves))) as cell:
            patch = e.at(source, e.scalar_index(e.at(positions, e.mul(cell, MAPS2), m)))
            value = e.get(e.at(gradient, e.mul(cell, MAPS2), m))
            for place, (at, _, lanes) in zip(sums, _PIECES, strict=True):
                e.set(place, e.fma(e.spread(value, lanes), e.load(e.at(patch, at), lanes), e.get(place)))
        for place, (_, tap, _) in zip(sums, _PIECES, strict=True):
            e.store(e.get(place), e.at(taps, tap))


@vector_kernel
def source_gradient2(
    e: Emitter, gradient: Address, positions: Address, image: Count, weights: Address, source_gradient: Address
) -> None:  # fmt: skip
    """Compute the gradient of an image's first pooled output from that of the second; its border is written too.

    `image` is the offset of that output in the first outputs of the batch.
    """
    with e.loop(SIZE1 // LANES) as vector:
        e.store(e.zeros(), e.at(source_gradient, e.mul(vector, LANES)))
    with e.loop(SIDE2) as y, e.loop(SIDE2) as x:
        cell = e.at(gradient, e.mul(y, SIDE2 * MAPS2), e.mul(x, MAPS2))
        held = e.at(positions, e.mul(y, SIDE2 * MAPS2), e.mul(x, MAPS2))
        first = e.sum(e.mul(y, 2 * ROW1), e.mul(x, 2 * PIXEL))
        for offset in _PATCHES:
            corner = e.at(source_gradient, first, offset)
            patch = e.sum(e.sum(image, first), offset)
            # A bit for each output map whose maximum lies at this place and passes a gradient on.
            masks = [
                e.both(e.equal(e.load(e.at(held, m), lanes), patch), e.nonzero(e.load(e.at(cell, m), lanes)))
                for m, lanes in chunks(MAPS2)
            ]
            sums = [e.variable(e.zeros(lanes)) for _, _, lanes in _PIECES]
            with e.loop_over_bits(e.bits(masks)) as m:
                value = e.get(e.at(cell, m))
                taps = e.at(weights, e.mul(m, TAPS2))
                for place, (_, tap, lanes) in zip(sums, _PIECES, strict=True):
                    e.set(place, e.fma(e.spread(value, lanes), e.load(e.at(taps, tap), lanes), e.get(place)))
            # These stores overlap those of the place before: by now they have left the processor's store buffer.
            for place, (at, _, lanes) in zip(sums, _PIECES, strict=True):
                here = e.at(corner, at)
                e.store(e.add(e.load(here, lanes), e.get(place)), here)
