"""Validates a problem's [settings] by a Pydantic model, and reports the first error in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


def read_settings(model: type[Model], given: Mapping[str, Any], beside: Sequence[str] = ()) -> Model:
    """Validate settings and return them as the model.

    Args:
        model: the model, with a field for each setting.
        given: the settings by name.
        beside: names of further settings that the problem takes, for the message about an unknown one.

    Raises:
        ValueError: naming the first wrong setting, what was given and what was expected.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown setting: expected one of {', '.join((*model.model_fields, *beside))}"
    elif first["type"] == "missing":
        message = "missing"
    elif first["type"] != "value_error":
        message = f"{message}, got {first['input']!r}"
    raise ValueError(f"settings.{place}: {message}" if place else message)
