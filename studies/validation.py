"""Says in one line what is wrong with values that a Pydantic model refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, TypeAdapter, ValidationError

from pairsearch.studies.errors import DefinitionError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

COMPLETE = ("missing", "extra_forbidden", "unexpected_keyword_argument", "value_error", "union_tag_not_found")
"""Kinds of errors whose messages are complete without the value that was given."""


def first_error(error: ValidationError, expected: Mapping[str, str]) -> tuple[Location, str]:
    """Return where the first error lies, and its message.

    `expected` has what to say instead of Pydantic's message, by the kind of the error, or by the pattern that a text
    does not match.
    """
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    for name in (first["type"], first.get("ctx", {}).get("pattern", "")):
        message = expected.get(name, message)
    location = tuple(part for part in first["loc"] if part != "[key]")
    return location, message if first["type"] in COMPLETE else f"{message}, got {first['input']!r}"


def demands(kind: Any, expected: str) -> PlainValidator:
    """Return a validator for values of a type, which says of others in words what was expected."""
    adapter = TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))

    def check(given: Any) -> Any:
        try:
            return adapter.validate_python(given)
        except ValidationError:
            raise ValueError(f"expected {expected}, got {given!r}") from None

    return PlainValidator(check)


def read_fields(
    model: type[Model],
    raw: Any,
    origin: str,
    expected: Mapping[str, str],
    place: Callable[[Location], str],
    context: str | None = None,
) -> Model:
    """Validate what a TOML file holds and return it as the model.

    A DefinitionError names the file, `origin`, the first wrong field, what was given and what was expected
    (`first_error`). `place` says where a field stands in the file: `name: `, or nothing for the whole of it.
    """
    try:
        return model.model_validate(raw, context=context)
    except ValidationError as error:
        location, message = first_error(error, expected)
        # Where an element of a list is invalid, Pydantic may report the list as empty too: that is no further error.
        first, *others = (one["loc"] for one in error.errors())
        further = sum(first[: len(other)] != other for other in others)
    more = f" (and {further} more)" if further else ""
    raise DefinitionError(f"{origin}: {place(location)}{message}{more}")


def read_settings(model: type[Model], given: Mapping[str, Any], beside: Sequence[str] = ()) -> Model:
    """Validate the [settings] of a problem and return them as the model; raises a ValueError for the first wrong one.

    `beside` are names of further settings that the problem takes, for the message about an unknown one.
    """
    unknown = f"unknown setting: expected one of {', '.join((*model.model_fields, *beside))}"
    try:
        return model.model_validate(given)
    except ValidationError as error:
        location, message = first_error(error, {"extra_forbidden": unknown, "missing": "missing"})
    place = ".".join(map(str, location))
    raise ValueError(f"settings.{place}: {message}" if place else message)
