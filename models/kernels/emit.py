"""Writes vector kernels as LLVM IR that Numba functions can call.

A kernel is a Python function that *generates* code by calling an `Emitter`: Python loops unroll, `Emitter.loop` makes a
loop at run time, and values are vectors of float32 lanes. Lanes run over outputs, and every kernel fixes the order in
which an output's terms are added, so the width of the vectors changes no bit. Multiplication with addition is always
fused (`llvm.fma`), and never left to the compiler (`llvm.fmuladd`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils as _cgutils
from numba.core.registry import cpu_target


def _lanes() -> int:
    """Return the float32 lanes of the registers of the processor that Numba compiles for: 16 with AVX-512, else 8.

    For processors with four lanes LLVM splits the vectors of 8.
    """
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    wanted = {"+avx512f", "+avx512dq", "+avx512vl", "+avx512bw"}
    return 16 if wanted <= set(features.split(",")) else 8


LANES = _lanes()
UNIT = 8  # rows of the linear layers are padded to whole units; a vector holds one or two of them
WIDE = 16  # lanes of one register with AVX-512, else of two

cgutils: Any = _cgutils  # it has no annotations

_FLOAT = ir.FloatType()
_INT32 = ir.IntType(32)
_INDEX = ir.IntType(64)

Value = Any  # a value of llvmlite, which is untyped
Index = Any  # an int that is known while code is generated, or a 64-bit integer value


def chunks(width: int) -> list[tuple[int, int]]:
    """Divide a row of `width` lanes into (offset, lanes) vectors: full ones, then a smaller one for the rest."""
    return [(at, min(LANES, width - at)) for at in range(0, width, LANES)]


class Emitter:
    """Generates the instructions of a kernel, one after the other."""

    def __init__(self, builder: Any) -> None:
        self._b = builder
        # These are single instructions of LLVM's. Arithmetic of floats:
        self.add, self.subtract, self.multiply = builder.fadd, builder.fsub, builder.fmul
        self.negative = builder.fneg
        # lanes of a second value where a mask is set, else of a third, and the lanes that are set in two masks;
        self.select, self.both = builder.select, builder.and_
        # the difference of two indices;
        self.difference = builder.sub
        # the value of a variable, or of one element;
        self.get = builder.load
        # a block whose code runs only if a one-bit value is set.
        self.when = builder.if_then

    def index(self, value: Index) -> Value:
        return ir.Constant(_INDEX, value) if isinstance(value, int) else value

    def at(self, base: Value, *terms: Index) -> Value:
        """The address `base` plus the sum of terms, in elements."""
        for term in terms:
            base = self._b.gep(base, [self.index(term)])
        return base

    def mul(self, a: Index, b: Index) -> Value:
        return self._b.mul(self.index(a), self.index(b))

    def sum(self, a: Index, b: Index) -> Value:
        return self._b.add(self.index(a), self.index(b))

    def load(self, address: Value, lanes: int = LANES) -> Value:
        """Read `lanes` consecutive elements, which need not be aligned."""
        element = address.type.pointee
        return self._b.load(self._b.bitcast(address, ir.VectorType(element, lanes).as_pointer()), align=4)

    def prefetch(self, address: Value) -> None:
        """Prefetch the cache line of an address, which may lie beyond the array."""
        byte = self._b.bitcast(address, ir.IntType(8).as_pointer())
        self._call("llvm.prefetch.p0", ir.VoidType(), byte, *(ir.Constant(_INT32, n) for n in (0, 3, 1)))

    def _call(self, name: str, result: Any, *arguments: Value) -> Value:
        """Call an intrinsic function of LLVM's."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self._b.module, kind, name)
        return self._b.call(function, arguments)

    def store(self, value: Value, address: Value) -> None:
        """Write a vector to consecutive elements."""
        self._b.store(value, self._b.bitcast(address, value.type.as_pointer()), align=4)

    def broadcast(self, address: Value, lanes: int = LANES) -> Value:
        """Read one element into every lane."""
        return self.spread(self.get(address), lanes)

    def scalar_index(self, address: Value) -> Value:
        """Read a 32-bit integer as an index."""
        return self._b.sext(self.get(address), _INDEX)

    def spread(self, scalar: Value, lanes: int = LANES) -> Value:
        vector = ir.VectorType(scalar.type, lanes)
        single = self._b.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_INT32, 0))
        zeros = ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
        return self._b.shuffle_vector(single, ir.Constant(vector, ir.Undefined), zeros)

    def zeros(self, lanes: int = LANES) -> Value:
        return self.constant(0.0, lanes)

    def constant(self, value: float, lanes: int = LANES) -> Value:
        return ir.Constant(ir.VectorType(_FLOAT, lanes), [float(np.float32(value))] * lanes)

    def integers(self, value: int, lanes: int = LANES) -> Value:
        return ir.Constant(ir.VectorType(_INT32, lanes), [value] * lanes)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a · b + c, rounded once."""
        return self._call(f"llvm.fma.v{a.type.count}f32", a.type, a, b, c)

    def passed(self, output: Value, gradient: Value, lanes: int) -> Value:
        """Read a gradient where ReLU's output is above zero, else zeros; NaN is not above."""
        zeros = self.zeros(lanes)
        above = self._b.fcmp_ordered(">", self.load(output, lanes), zeros)
        return self._b.select(above, self.load(gradient, lanes), zeros)

    def relu(self, a: Value) -> Value:
        """max(a, 0), where NaN stays NaN as in PyTorch."""
        zeros = self.zeros(a.type.count)
        return self._b.select(self._b.fcmp_ordered("<=", a, zeros), zeros, a)

    def equal(self, a: Value, number: Index) -> Value:
        """Lanes of 32-bit integers equal to a number, as a mask."""
        return self._b.icmp_signed("==", a, self._spread_index(number, a.type.count))

    def plus(self, a: Value, number: Index) -> Value:
        return self._b.add(a, self._spread_index(number, a.type.count))

    def with_bit(self, words: Sequence[Value], mask: Value, number: Index) -> list[Value]:
        """Set bit `number` where the mask is set, in words of 64 bits given as vectors of their lower and upper 32."""
        bit = self._b.shl(ir.Constant(_INDEX, 1), self.index(number))
        lanes = mask.type.count
        halves = (bit, self._b.lshr(bit, self.index(32)))
        return [
            self._b.or_(word, self._b.select(mask, self._spread_index(half, lanes), self.integers(0, lanes)))
            for word, half in zip(words, halves, strict=True)
        ]

    def scalar_word(self, lower: Value, upper: Value) -> Value:
        """Read a word of 64 bits from the addresses of its halves."""
        low, high = (self._b.zext(self.get(half), _INDEX) for half in (lower, upper))
        return self._b.or_(low, self._b.shl(high, self.index(32)))

    def _spread_index(self, number: Index, lanes: int) -> Value:
        if isinstance(number, int):
            return self.integers(number, lanes)
        return self.spread(self._b.trunc(number, _INT32), lanes)

    def nonzero(self, a: Value) -> Value:
        """Lanes that are not zero, as a mask; NaN is not zero."""
        return self._b.fcmp_unordered("!=", a, self.zeros(a.type.count))

    def missing(self, bits: Value, full: int) -> Value:
        """The bits of `full` that are not set in `bits`."""
        return self._b.and_(self._b.not_(bits), self.index(full))

    def quotient(self, a: Value, power: int) -> Value:
        """A non-negative index divided by a power of two, rounded down."""
        return self._b.lshr(a, self.index(power.bit_length() - 1))

    def bits(self, masks: Sequence[Value]) -> Value:
        """Join masks of 32 lanes in all to a 32-bit integer, with the first lane as the lowest bit."""
        result, shift = ir.Constant(_INT32, 0), 0
        for mask in masks:
            lanes = mask.type.count
            part = self._b.zext(self._b.bitcast(mask, ir.IntType(lanes)), _INT32)
            result = self._b.or_(result, self._b.shl(part, ir.Constant(_INT32, shift)))
            shift += lanes
        return result

    @contextmanager
    def loop_over_bits(self, bits: Value) -> Iterator[Value]:
        """A run-time loop over the numbers of the bits that are set in a 32-bit integer or an index, lowest first."""
        if bits.type != _INDEX:
            bits = self._b.zext(bits, _INDEX)
        left = self.variable(bits)
        with self.loop(self._b.ctpop(bits)):
            present = self.get(left)
            self.set(left, self._b.and_(present, self._b.sub(present, ir.Constant(_INDEX, 1))))
            yield self._b.cttz(present, ir.Constant(ir.IntType(1), 1))

    def first_maximum(self, values: Sequence[Value], names: Sequence[int]) -> tuple[Value, Value]:
        """Return, lane by lane, the largest value and the name of the first value that is equal to it.

        NaN counts as largest, as in PyTorch's pooling; the name has no meaning then.
        """
        best = values[0]
        for value in values[1:]:
            # A larger number or a NaN replaces the best, unless that is NaN.
            keep = self._b.or_(
                self._b.fcmp_ordered(">=", best, value), self._b.fcmp_unordered("uno", best, best)
            )
            best = self._b.select(keep, best, value)
        lanes = best.type.count
        name = self.integers(names[-1], lanes)
        for number in range(len(values) - 2, -1, -1):
            hit = self._b.fcmp_ordered("==", values[number], best)
            name = self._b.select(hit, self.integers(names[number], lanes), name)
        return best, name

    def total(self, a: Value) -> Value:
        """Sum a vector's lanes to a scalar, by adding the upper half to the lower until one lane is left."""
        while a.type.count > 1:
            half = a.type.count // 2
            a = self.add(self.part(a, 0, half), self.part(a, half, half))
        return self._b.extract_element(a, ir.Constant(_INT32, 0))

    def transposed(self, rows: Sequence[Value]) -> list[Value]:
        """Transpose eight vectors of eight lanes."""
        level = list(rows)
        for shift in (1, 2, 4):
            low = [lane - (lane & shift) + (UNIT if lane & shift else 0) for lane in range(UNIT)]
            high = [lane + shift for lane in low]
            result = list(level)
            for number in range(UNIT):
                if not number & shift:
                    a, b = level[number], level[number + shift]
                    result[number] = self._shuffle(a, b, low)
                    result[number + shift] = self._shuffle(a, b, high)
            level = result
        return level

    def joined(self, a: Value, b: Value) -> Value:
        """The lanes of `a`, then those of `b`."""
        return self._shuffle(a, b, list(range(2 * a.type.count)))

    def halves(self, a: Value, b: Value) -> Value:
        """The first half of `a`'s lanes, then the second half of `b`'s."""
        lanes = a.type.count
        return self._shuffle(a, b, [*range(lanes // 2), *range(lanes + lanes // 2, 2 * lanes)])

    def part(self, a: Value, first: int, lanes: int) -> Value:
        """Lanes first … first + lanes - 1 of a vector."""
        return self._shuffle(a, a, list(range(first, first + lanes)))

    def _shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        return self._b.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))

    def sqrt(self, a: Value) -> Value:
        """The square root, correctly rounded."""
        return self._call(f"llvm.sqrt.v{a.type.count}f32", a.type, a)

    def exponential(self, a: Value) -> Value:
        """e to the power of a ≤ 0, to within two units in the last place; 0 below -87, NaN for NaN.

        e^a = 2^k · e^r with |r| ≤ log(2)/2, where e^r is Taylor's series. Adding 1.5 · 2²³ rounds to an integer k,
        whose bits are then the last ones of the sum. log 2 is subtracted in two parts, the first of which has few bits.
        """
        lanes = a.type.count
        integers = ir.VectorType(_INT32, lanes)
        least, magic = self.constant(-87.0, lanes), self.constant(1.5 * 2**23, lanes)
        tiny = self._b.fcmp_ordered("<", a, least)
        a = self._b.select(tiny, least, a)
        shifted = self.fma(a, self.constant(1 / math.log(2), lanes), magic)
        minus_k = self.negative(self.subtract(shifted, magic))
        high = 0.693359375
        r = self.fma(minus_k, self.constant(high, lanes), a)
        r = self.fma(minus_k, self.constant(math.log(2) - high, lanes), r)
        series = self.constant(1 / math.factorial(7), lanes)
        for n in range(6, -1, -1):
            series = self.fma(series, r, self.constant(1 / math.factorial(n), lanes))
        bits = self._b.shl(self._b.bitcast(shifted, integers), self.integers(23, lanes))
        power = self._b.bitcast(self._b.add(bits, self.integers(127 << 23, lanes)), a.type)
        return self._b.select(tiny, self.zeros(lanes), self.multiply(series, power))

    def before(self, first: Index, end: Value, lanes: int) -> Value:
        """Lanes whose number, with `first` for the first lane, is below `end`, as a mask."""
        numbers = self._b.add(
            self._spread_index(first, lanes), ir.Constant(ir.VectorType(_INT32, lanes), list(range(lanes)))
        )
        return self._b.icmp_signed("<", numbers, self._spread_index(end, lanes))

    def divide(self, a: Value, b: Value) -> Value:
        """a / b for normal positive b, to within two units in the last place; almost 0 for b = ∞, NaN for NaN.

        Newton's method uses the processor's multipliers, which are idle while its only divider computes square roots.
        The first guess complements the exponent's bits and is within 5.1 % of the reciprocal.
        """
        lanes = a.type.count
        vector, integers = a.type, ir.VectorType(_INT32, lanes)
        largest = self.constant(2.0**125, lanes)  # its reciprocal is still a normal number
        b = self._b.select(self._b.fcmp_ordered(">", b, largest), largest, b)
        guess = self._b.sub(self.integers(0x7EF31000, lanes), self._b.bitcast(b, integers))
        reciprocal = self._b.bitcast(guess, vector)
        one, minus_b = self.constant(1.0, lanes), self.negative(b)
        error = self.fma(minus_b, reciprocal, one)
        # r · (1 + e + e²) leaves an error of e³, and the last line squares that.
        reciprocal = self.fma(reciprocal, self.fma(error, error, error), reciprocal)
        quotient = self.multiply(a, reciprocal)
        return self.fma(quotient, self.fma(minus_b, reciprocal, one), quotient)

    def variable(self, value: Value) -> Any:
        """Make a variable, whose value outlives a turn of a run-time loop; LLVM keeps it in a register."""
        place = cgutils.alloca_once(self._b, value.type)
        self._b.store(value, place)
        return place

    def set(self, place: Any, value: Value) -> None:
        """Give a variable, or one element, a new value."""
        self._b.store(value, place)

    @contextmanager
    def loop(self, count: Index) -> Iterator[Value]:
        """A run-time loop over the indices 0 … count-1."""
        with cgutils.for_range(self._b, self.index(count), intp=_INDEX) as loop:
            yield loop.index

    def is_equal(self, a: Value, number: int) -> Value:
        return self._b.icmp_signed("==", a, self.index(number))

    def divided(self, a: Value, number: int) -> tuple[Value, Value]:
        """Divide a non-negative index by a number; returns quotient and remainder."""
        quotient = self._b.udiv(a, self.index(number))
        return quotient, self._b.sub(a, self._b.mul(quotient, self.index(number)))

    def cases(self, index: Value, numbers: Iterable[int]) -> Iterator[int]:
        """Generate the body of a `for` for each number that a run-time index may be; the right one will run."""
        for number in numbers:
            with self.when(self.is_equal(index, number)):
                yield number

    def over_units(self, units: Value, wide: int = LANES) -> Iterator[tuple[Value, int]]:
        """Generate the body of a `for`, with offset and lanes, for a loop over a run-time number of units.

        It is generated twice: for vectors of `wide` lanes, which is one or two units, and for a last unit.
        """
        wholes, left = self.divided(units, wide // UNIT)
        with self.loop(wholes) as vector:
            yield self.mul(vector, wide), wide
        if wide > UNIT:
            with self.when(self.is_equal(left, 1)):
                yield self.mul(wholes, wide), UNIT
