"""Conditions on the points of a grid: a small language of expressions over parameters.

A definition may come from a database, so a condition must not be able to run anything. Python's parser reads it, each
kind of node that is known here becomes a function of the parameters, and any other is refused. Numbers cannot grow
beyond `MOST_BITS`, and texts not at all.
"""

from __future__ import annotations

import ast
import itertools
import operator
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pairsearch.studies.configuration import Params

MOST_CHARACTERS = 1000
LONGEST_SHOWN = 120
"""Characters of a condition that messages show."""
MOST_NESTED = 50
"""How deeply expressions may stand in each other."""
MOST_BITS = 1024
"""The largest whole number that a condition may compute has this many bits."""

KNOWN = "parameters, numbers, texts, + - * / // % **, comparisons, and, or, not, in, min, max, abs, lists in brackets"
# What a text has that is meant as a condition, where it could be a value of a parameter called `where` too.
_COMPARES = re.compile(r"[<>=]|\S\s+(?:in|and|or)\s+\S|^\s*not\s")

_Evaluate = Callable[[Params], Any]


class Condition:
    """What every point of a table has to fulfil: an expression over `names`, the parameters of the table.

    Raises:
        ValueError: on construction, where the text is no such expression; the message is one line.
    """

    def __init__(self, text: str, names: Collection[str]) -> None:
        self.text, self._names = text, names
        try:
            if len(text) > MOST_CHARACTERS or not text.isprintable():
                raise ValueError(f"expected a line of at most {MOST_CHARACTERS} printable characters")
            with warnings.catch_warnings():
                # About a backslash in a text.
                warnings.simplefilter("ignore")
                expression = ast.parse(text.strip(), mode="eval")
            self._holds = _truth(_parsed(expression.body, names))
        except SyntaxError as error:
            raise ValueError(f"{self._shown}: not a condition ({error.msg}): expected {KNOWN}") from None
        except (MemoryError, RecursionError):
            raise ValueError(f"{self._shown}: nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"{self._shown}: {error}") from None

    def __reduce__(self) -> tuple[type[Condition], tuple[str, Collection[str]]]:
        """Pickle the text, since functions that are made here cannot be pickled."""
        return Condition, (self.text, self._names)

    def holds(self, params: Params) -> bool:
        """Whether a point fulfils it; raises a ValueError that says why it cannot be computed."""
        try:
            holds: bool = self._holds(params)
        except OverflowError:
            raise ValueError(f"{self._shown}: a number that is too large") from None
        except (ZeroDivisionError, TypeError, ValueError) as error:
            raise ValueError(f"{self._shown}: {error}") from None
        return holds

    @property
    def _shown(self) -> str:
        return repr(self.text if len(self.text) <= LONGEST_SHOWN else f"{self.text[:LONGEST_SHOWN]}...")


def are_conditions(given: Any) -> bool:
    """Whether the value of `where` is a condition or a list of them, and not the values of a parameter of that name.

    A single text is a condition, as a parameter has a list. In a list, texts without a comparison are values, for
    grids have been written with such a parameter.

    Raises:
        ValueError: a list has both.
    """
    if isinstance(given, str):
        return True
    if not isinstance(given, list | tuple) or not given or not all(isinstance(one, str) for one in given):
        return False
    others = [one for one in given if not _COMPARES.search(one)]
    if others and len(others) < len(given):
        raise ValueError(
            f"{others[0]!r} compares nothing: expected conditions only, or values of a parameter called where only"
        )
    return not others


def _parsed(node: ast.expr, names: Collection[str], depth: int = 0) -> _Evaluate:  # noqa: PLR0911 - a line for each kind
    """Return what computes a node, which stands inside of `depth` others."""
    if depth > MOST_NESTED:
        raise ValueError(f"nested too deeply: expected at most {MOST_NESTED} levels")

    def inner(*nodes: ast.expr) -> list[_Evaluate]:
        return [_parsed(one, names, depth + 1) for one in nodes]

    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return lambda _: value
        case ast.Name() | ast.Attribute():
            return _named(ast.unparse(node), names)
        case ast.UnaryOp(op=ast.Not()):
            (operand,) = map(_truth, inner(node.operand))
            return lambda params: not operand(params)
        case ast.UnaryOp() if type(node.op) in _OPERATORS:
            return _arithmetic(_OPERATORS[type(node.op)], *inner(node.operand))
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _arithmetic(_OPERATORS[type(node.op)], *inner(node.left, node.right))
        case ast.BoolOp():
            operands, decide = [_truth(one) for one in inner(*node.values)], any
            if isinstance(node.op, ast.And):
                decide = all
            return lambda params: decide(one(params) for one in operands)
        case ast.Compare() if all(type(one) in _COMPARISONS for one in node.ops):
            signs = [_COMPARISONS[type(one)] for one in node.ops]
            return _compared(signs, inner(node.left, *node.comparators))
        case ast.Tuple() | ast.List():
            items = inner(*node.elts)
            return lambda params: tuple(one(params) for one in items)
        case ast.Call(func=ast.Name(id="min" | "max" | "abs" as name), keywords=[]):
            if len(node.args) < 2 if name != "abs" else len(node.args) != 1:
                raise ValueError(f"{name} takes {'a number' if name == 'abs' else 'two numbers or more'}")
            return _arithmetic(_FUNCTIONS[name], *inner(*node.args))
    raise ValueError(f"{ast.unparse(node)!r} is not allowed: expected {KNOWN}")


def _named(name: str, names: Collection[str]) -> _Evaluate:
    # Parameters may have dots in their names.
    if name in names:
        return lambda params: params[name]
    if name in _TOML:
        return lambda _: _TOML[name]
    raise ValueError(f"unknown name {name!r}: expected one of {', '.join(names)}")


def _truth(operand: _Evaluate) -> _Evaluate:
    """Make a function that demands true or false of an operand."""

    def truth(params: Params) -> bool:
        value = operand(params)
        if type(value) is not bool:
            raise TypeError(f"expected true or false, got {value!r}: compare it with something")
        return value

    return truth


def _arithmetic(function: Callable[..., Any], *operands: _Evaluate) -> _Evaluate:
    """Make a function of numbers: texts can neither be repeated nor formatted."""

    def compute(params: Params) -> int | float:
        values = [one(params) for one in operands]
        for value in values:
            if not isinstance(value, int | float):
                raise TypeError(f"expected a number, got {value!r}")
        result = function(*values)
        if isinstance(result, complex):
            raise ValueError(f"expected a real number, got {result!r}")
        if isinstance(result, int) and result.bit_length() > MOST_BITS:
            raise ValueError(f"a number of more than {MOST_BITS} bits")
        return result  # type: ignore[no-any-return] # of numbers each of the functions makes numbers

    return compute


def _power(base: float, exponent: float) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > 2 * MOST_BITS:
        raise ValueError(f"a number of more than {MOST_BITS} bits")
    return base**exponent


def _compared(signs: list[Callable[[Any, Any], bool]], operands: list[_Evaluate]) -> _Evaluate:
    """Make a function that compares each operand with the next, such as `1 < width <= depth`."""

    def compare(params: Params) -> bool:
        values = (one(params) for one in operands)
        return all(sign(*pair) for sign, pair in zip(signs, itertools.pairwise(values), strict=True))

    return compare


_OPERATORS: Mapping[type[ast.operator | ast.unaryop], Callable[..., Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
_TOML = {"true": True, "false": False}
