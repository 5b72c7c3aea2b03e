"""A small vocabulary for writing vector kernels as LLVM IR, called from Numba functions.

A kernel is a Python function over an `Emitter` that *generates* code: Python loops unroll, `Emitter.loop`
makes a loop at run time, and values are vectors of 8 float32 lanes (or fewer, at the edge of a row). LLVM
turns them into the processor's own vectors, whatever their width, so that a kernel is said once for every
processor; and because every kernel fixes its own order of additions, its result is the same bits however it
is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

LANES = 8
WIDE = 2 * LANES  # One register where there are 512-bit ones, else two.

cgutils: Any = _cgutils  # Without annotations.

_FLOAT = ir.FloatType()
_INT32 = ir.IntType(32)
_INDEX = ir.IntType(64)

Value = Any  # An llvmlite value; llvmlite is untyped.
Index = Any  # An int, known while generating, or a 64-bit integer value.


def chunks(width: int) -> list[tuple[int, int]]:
    """A row of `width` lanes as (offset, lanes) vectors: full ones, then a smaller one for what is left."""
    return [(at, min(LANES, width - at)) for at in range(0, width, LANES)]


class Emitter:
    """Generates instructions at the present place of one kernel."""

    def __init__(self, builder: Any) -> None:
        self._b = builder

    def index(self, value: Index) -> Value:
        """An integer as a run-time index."""
        return ir.Constant(_INDEX, value) if isinstance(value, int) else value

    def at(self, base: Value, *terms: Index) -> Value:
        """The address `base` plus the sum of terms, in elements."""
        for term in terms:
            if not (isinstance(term, int) and term == 0):
                base = self._b.gep(base, [self.index(term)])
        return base

    def mul(self, a: Index, b: Index) -> Index:
        """Product of two indices."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        return self._b.mul(self.index(a), self.index(b))

    def sum(self, a: Index, b: Index) -> Index:
        """Sum of two indices."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        return self._b.add(self.index(a), self.index(b))

    def load(self, address: Value, lanes: int = LANES) -> Value:
        """`lanes` consecutive elements, without any demand on alignment."""
        element = address.type.pointee
        return self._b.load(self._b.bitcast(address, ir.VectorType(element, lanes).as_pointer()), align=4)

    def store(self, value: Value, address: Value) -> None:
        """Writes a vector to consecutive elements."""
        self._b.store(value, self._b.bitcast(address, value.type.as_pointer()), align=4)

    def broadcast(self, address: Value, lanes: int = LANES) -> Value:
        """One element in every lane."""
        return self.spread(self._b.load(address), lanes)

    def scalar(self, address: Value) -> Value:
        """One element."""
        return self._b.load(address)

    def scalar_index(self, address: Value) -> Value:
        """One 32-bit integer as an index."""
        return self._b.sext(self._b.load(address), _INDEX)

    def spread(self, scalar: Value, lanes: int = LANES) -> Value:
        """A scalar in every lane."""
        vector = ir.VectorType(scalar.type, lanes)
        single = self._b.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_INT32, 0))
        zeros = ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
        return self._b.shuffle_vector(single, ir.Constant(vector, ir.Undefined), zeros)

    def zeros(self, lanes: int = LANES) -> Value:
        """Float zeros."""
        return ir.Constant(ir.VectorType(_FLOAT, lanes), [0.0] * lanes)

    def half(self, lanes: int = LANES) -> Value:
        """One half in every lane."""
        return ir.Constant(ir.VectorType(_FLOAT, lanes), [0.5] * lanes)

    def integers(self, value: int, lanes: int = LANES) -> Value:
        """One 32-bit integer constant in every lane."""
        return ir.Constant(ir.VectorType(_INT32, lanes), [value] * lanes)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a · b + c, fused where the processor can."""
        vector = a.type
        function = cgutils.get_or_insert_function(
            self._b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{vector.count}f32"
        )
        return self._b.call(function, [a, b, c])

    def add(self, a: Value, b: Value) -> Value:
        """a + b."""
        return self._b.fadd(a, b)

    def subtract(self, a: Value, b: Value) -> Value:
        """a - b."""
        return self._b.fsub(a, b)

    def positive(self, a: Value) -> Value:
        """Lanes above zero, as a mask; NaN is not above."""
        return self._b.fcmp_ordered(">", a, self.zeros(a.type.count))

    def relu(self, a: Value) -> Value:
        """max(a, 0), where NaN stays NaN as in PyTorch."""
        return self._b.select(
            self._b.fcmp_ordered("<=", a, self.zeros(a.type.count)), self.zeros(a.type.count), a
        )

    def equal(self, a: Value, number: Index) -> Value:
        """Lanes of 32-bit integers equal to a number, as a mask."""
        return self._b.icmp_signed("==", a, self._spread_index(number, a.type.count))

    def plus(self, a: Value, number: Index) -> Value:
        """32-bit integers plus a number."""
        return self._b.add(a, self._spread_index(number, a.type.count))

    def with_bit(self, bits: Value, mask: Value, number: Index) -> Value:
        """32-bit integers with bit `number` set where the mask is set."""
        one = self._b.shl(ir.Constant(_INDEX, 1), self.index(number))
        lanes = bits.type.count
        return self._b.or_(
            bits, self._b.select(mask, self._spread_index(one, lanes), self.integers(0, lanes))
        )

    def _spread_index(self, number: Index, lanes: int) -> Value:
        if isinstance(number, int):
            return self.integers(number, lanes)
        return self.spread(self._b.trunc(number, _INT32), lanes)

    def nonzero(self, a: Value) -> Value:
        """Lanes that are not zero, as a mask; NaN is not zero."""
        return self._b.fcmp_unordered("!=", a, self.zeros(a.type.count))

    def missing(self, bits: Value, full: int) -> Value:
        """The bits of `full` that an index lacks."""
        return self._b.and_(self._b.not_(bits), self.index(full))

    def quotient(self, a: Value, power: int) -> Value:
        """A non-negative index divided by a power of two, rounded down."""
        return self._b.lshr(a, self.index(power.bit_length() - 1))

    def both(self, a: Value, b: Value) -> Value:
        """Lanes set in two masks."""
        return self._b.and_(a, b)

    def bits(self, masks: Sequence[Value]) -> Value:
        """Up to four masks of eight lanes as one 32-bit integer, the first lane lowest."""
        result = ir.Constant(_INT32, 0)
        for number, mask in enumerate(masks):
            byte = self._b.zext(self._b.bitcast(mask, ir.IntType(LANES)), _INT32)
            result = self._b.or_(result, self._b.shl(byte, ir.Constant(_INT32, number * LANES)))
        return result

    @contextmanager
    def loop_over_bits(self, bits: Value) -> Iterator[Value]:
        """A run-time loop over the numbers of the bits set in a 32-bit integer or an index, from the lowest."""
        if bits.type != _INDEX:
            bits = self._b.zext(bits, _INDEX)
        left = self.variable(bits)
        with self.loop(self._b.ctpop(bits)):
            present = self.get(left)
            self.set(left, self._b.and_(present, self._b.sub(present, ir.Constant(_INDEX, 1))))
            yield self._b.cttz(present, ir.Constant(ir.IntType(1), 1))

    def select(self, mask: Value, a: Value, b: Value) -> Value:
        """Lanes of `a` where the mask is set, else of `b`."""
        return self._b.select(mask, a, b)

    def first_maximum(self, values: Sequence[Value], names: Sequence[int]) -> tuple[Value, Value]:
        """Lane by lane, the largest value and the name of the first that reaches it, as PyTorch pools.

        NaN wins over numbers (the name is then of no meaning).
        """
        best = values[0]
        for value in values[1:]:
            # A larger number or a NaN replaces, unless a NaN is already there.
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

    def sum_lanes(self, vectors: Sequence[Value]) -> Value:
        """Eight vectors of eight lanes to one: lane i is the sum of vector i's lanes, in a fixed order."""
        level = list(vectors)
        for shift in (1, 2, 4):
            # Lane l of a pair's result holds, in the bit `shift` of l, which of the two it belongs to.
            even = [lane - (lane & shift) + (LANES if lane & shift else 0) for lane in range(LANES)]
            odd = [lane + shift for lane in even]
            level = [
                self.add(self._shuffle(a, b, even), self._shuffle(a, b, odd))
                for a, b in zip(level[::2], level[1::2], strict=True)
            ]
        return level[0]

    def transposed(self, rows: Sequence[Value]) -> list[Value]:
        """Eight vectors of eight lanes, transposed."""
        level = list(rows)
        for shift in (1, 2, 4):
            low = [lane - (lane & shift) + (LANES if lane & shift else 0) for lane in range(LANES)]
            high = [lane + shift for lane in low]
            result = list(level)
            for number in range(LANES):
                if not number & shift:
                    a, b = level[number], level[number + shift]
                    result[number] = self._shuffle(a, b, low)
                    result[number + shift] = self._shuffle(a, b, high)
            level = result
        return level

    def part(self, a: Value, first: int, lanes: int) -> Value:
        """Lanes first … first + lanes - 1 of a vector."""
        return self._shuffle(a, a, list(range(first, first + lanes)))

    def _shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        return self._b.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))

    def sqrt(self, a: Value) -> Value:
        """Correctly rounded square root."""
        function = cgutils.get_or_insert_function(
            self._b.module, ir.FunctionType(a.type, [a.type]), f"llvm.sqrt.v{a.type.count}f32"
        )
        return self._b.call(function, [a])

    def divide(self, a: Value, b: Value) -> Value:
        """a / b."""
        return self._b.fdiv(a, b)

    def multiply(self, a: Value, b: Value) -> Value:
        """a · b."""
        return self._b.fmul(a, b)

    def without_traces(self, a: Value) -> Value:
        """`a` with lanes below 1e-30 in size set to zero; NaN stays.

        Moments of units that died shrink for ever and would end as denormal numbers, on which some processors
        are a hundred times slower.
        """
        vector = a.type
        size = self._b.call(
            cgutils.get_or_insert_function(
                self._b.module, ir.FunctionType(vector, [vector]), f"llvm.fabs.v{vector.count}f32"
            ),
            [a],
        )
        least = ir.Constant(vector, [1e-30] * vector.count)
        return self._b.select(self._b.fcmp_ordered("<", size, least), self.zeros(vector.count), a)

    def variable(self, value: Value) -> Any:
        """A place that holds a value across run-time loops; LLVM keeps it in a register."""
        place = cgutils.alloca_once(self._b, value.type)
        self._b.store(value, place)
        return place

    def get(self, place: Any) -> Value:
        """The value of a variable."""
        return self._b.load(place)

    def set(self, place: Any, value: Value) -> None:
        """Gives a variable a new value."""
        self._b.store(value, place)

    @contextmanager
    def loop(self, count: Index) -> Iterator[Value]:
        """A run-time loop over 0 … count-1; gives the index."""
        with cgutils.for_range(self._b, self.index(count), intp=_INDEX) as loop:
            yield loop.index


def vector_kernel(generate: Callable[..., None]) -> Any:
    """A generating function as something Numba functions can call.

    The generating function takes an `Emitter`, then operands. An operand annotated `Address` is given, in the
    call, as two arguments, a one-dimensional array and an offset in elements; one annotated `Count` as one
    integer. Nothing is returned, and no bound is checked.
    """
    operands = [p.annotation for p in inspect.signature(generate).parameters.values()][1:]
    kinds = [operand if isinstance(operand, str) else operand.__name__ for operand in operands]
    wide = sum(2 if kind == "Address" else 1 for kind in kinds)

    def typed(typing_context: Any, *arguments: Any) -> Any:
        if len(arguments) != wide:
            raise TypeError(f"{generate.__name__}: expected {wide} arguments, got {len(arguments)}")
        casts = []
        position = 0
        for kind in kinds:
            if kind == "Address":
                casts.append(arguments[position])
                position += 1
            casts.append(types.intp)
            position += 1

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            given: list[Value] = []
            position = 0
            for kind in kinds:
                if kind == "Address":
                    array = context.make_array(signature.args[position])(context, builder, values[position])
                    given.append(builder.gep(array.data, [values[position + 1]]))
                    position += 2
                else:
                    given.append(values[position])
                    position += 1
            generate(Emitter(builder), *given)
            return context.get_dummy_value()

        return types.void(*casts), code

    # Numba folds arguments by name: it must not see *arguments.
    names = ["typing_context", *(f"operand{number}" for number in range(wide))]
    kind_of = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, kind_of) for name in names])
    typed.__signature__ = signature  # type: ignore[attr-defined]
    typed.__name__ = generate.__name__
    typed.__doc__ = generate.__doc__
    return intrinsic(typed)


class Address:
    """Annotation: an operand given as an array and an offset."""


class Count:
    """Annotation: an operand given as an integer."""
