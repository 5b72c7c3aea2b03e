"""What a user's function or class takes: whether settings fit its arguments, and which kind of problem it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from pairsearch.studies.errors import ProblemError

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function or a class; some compiled functions have none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def check_arguments(
    function: Callable[..., Any], positional: tuple[Any, ...], settings: Mapping[str, Any]
) -> None:
    """Refuse settings that do not fit a function's arguments; raises ProblemError."""
    if signature := signature_of(function):
        try:
            signature.bind(*positional, **settings)
        except TypeError as error:
            raise ProblemError(f"its [settings] and --set do not fit its arguments: {error}") from None


def check_taken(method: Callable[..., Any]) -> None:
    """Refuse a `fit` or `train` that does not take three positional arguments."""
    if signature := signature_of(method):
        # A plain function takes the settings as further arguments.
        bind = signature.bind_partial if isinstance(method, FunctionType) else signature.bind
        try:
            bind(None, None, None)
        except TypeError:
            name = getattr(method, "__name__", "")
            runs = "runs" if name == "train" else "run"
            raise ProblemError(
                f"{name}{signature}: expected {name}(params, {runs}, report), or an objective of Optuna's of one "
                "argument"
            ) from None


def takes_trial(function: Callable[..., Any], settings: Mapping[str, Any]) -> bool:
    """Whether a function is an objective: its first argument is called `trial`, or it takes one beside the settings."""
    signature = signature_of(function)
    given = signature.parameters.values() if signature else ()
    places = [one for one in given if one.kind in POSITIONAL and one.name not in settings]
    if places and places[0].name == "trial":
        return True
    required = [one for one in places if one.default is one.empty]
    several = any(one.kind == one.VAR_POSITIONAL for one in given)
    return len(required) == 1 and len(places) < 3 and not several
