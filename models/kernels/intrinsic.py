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
    addresses = [operand in ("Address", Address) for operand in operands]

    def typed(typing_context: Any, *arguments: Any) -> Any:
        given = iter(arguments)
        casts: list[Any] = []
        for is_address in addresses:
            casts += [next(given)] if is_address else []
            next(given)
            casts.append(types.intp)

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            given = zip(signature.args, values, strict=True)
            operands = []
            for is_address in addresses:
                kind, value = next(given)
                if is_address:
                    array = context.make_array(kind)(context, builder, value)
                    _, offset = next(given)
                    value = builder.gep(array.data, [offset])
                operands.append(value)
            generate(Emitter(builder), *operands)
            return context.get_dummy_value()

        return types.void(*casts), code

    # Numba matches arguments by name, so the signature must not have *arguments.
    names = ["typing_context", *(f"operand{number}" for number in range(len(addresses) + sum(addresses)))]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typed.__name__ = generate.__name__
    typed.__doc__ = generate.__doc__
    return intrinsic(typed)
