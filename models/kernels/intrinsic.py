"""Makes functions that generate code with an `Emitter` callable from Numba functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import intrinsic

from pairsearch.models.kernels.emit import Emitter


class Address:
    """Annotates an operand for which a call has two arguments: a one-dimensional array and an offset in elements."""


class Count:
    """Annotates an operand for which a call has one argument, an integer."""


def vector_kernel(generate: Callable[..., None]) -> Any:
    """Make a kernel, which Numba functions can call, of a function that generates its code.

    The function takes an `Emitter` and then operands, each annotated as `Address` or `Count`. The kernel returns
    nothing and checks no bounds.
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
            given: list[Any] = []
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

    # Numba matches arguments by name, so the signature must not have *arguments.
    names = ["typing_context", *(f"operand{number}" for number in range(wide))]
    kind_of = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, kind_of) for name in names])
    typed.__signature__ = signature  # type: ignore[attr-defined]
    typed.__name__ = generate.__name__
    typed.__doc__ = generate.__doc__
    return intrinsic(typed)
