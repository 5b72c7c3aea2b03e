"""What a user's function or class takes: whether settings fit its arguments, and which kind of problem it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from pairsearch.studies.errors import ProblemError


def check_arguments(
    function: Callable[..., Any], positional: tuple[Any, ...], settings: Mapping[str, Any]
) -> None:
    """Refuse settings that do not fit a function's arguments; raises ProblemError."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some compiled functions have no signature
        return
    try:
        signature.bind(*positional, **settings)
    except TypeError as error:
        raise ProblemError(f"its [settings] and --set do not fit its arguments: {error}") from None


def check_taken(method: Callable[..., Any]) -> None:
    """Refuse a `fit` or `train` that does not take three positional arguments."""
    try:
        signature = inspect.signature(method)
    except ValueError:  # some compiled functions have no signature
        return
    given = signature.parameters.values()
    several = any(one.kind == one.VAR_POSITIONAL for one in given)
    places = [one for one in given if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    too_few = len(places) < 3 and not several
    # A plain function takes the settings as further arguments.
    too_many = sum(one.default is one.empty for one in places) > 3 and not isinstance(method, FunctionType)
    if too_few or too_many:
        name = getattr(method, "__name__", "")
        runs = "runs" if name == "train" else "run"
        raise ProblemError(
            f"{name}{signature}: expected {name}(params, {runs}, report), or an objective of Optuna's of one argument"
        )


def takes_trial(function: Callable[..., Any], settings: Mapping[str, Any]) -> bool:
    """Whether a function is an objective: its first argument is called `trial`, or it takes one beside the settings."""
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some compiled functions have no signature
        return False
    places = [
        one
        for one in given
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and one.name not in settings
    ]
    if places and places[0].name == "trial":
        return True
    required = [one for one in places if one.default is one.empty]
    several = any(one.kind == one.VAR_POSITIONAL for one in given)
    return len(required) == 1 and len(places) < 3 and not several
