"""The grid of a definition: tables of parameters with their values, and the conditions that points have to fulfil."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    RootModel,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from pairsearch.studies.conditions import Condition, are_conditions
from pairsearch.studies.configuration import Configuration, Params, Value, canonical, describe
from pairsearch.studies.ranges import values_of

# Names of parameters and figures stand before `=` in keys, and become columns of exports.
IDENTIFIER_PATTERN = r"^[^\W\d][\w.-]{0,62}$"
LARGEST_VALUE = 2**63 - 1
"""The largest whole number that a parameter may be, which a column of an export holds."""
WHERE = "where"
"""The key of the conditions in a table of a grid."""
STORED = "all"
"""Beneath it, the key of the list of conditions in a stored definition, and the context of reading one."""


def _value(given: Any) -> Value:
    """Check a value of a parameter and keep its type."""
    if type(given) is bool:
        return given
    if type(given) is int and abs(given) <= LARGEST_VALUE:
        return given
    if type(given) is float and math.isfinite(given):
        return canonical(given)
    if type(given) is str and given.isprintable():
        return given
    raise ValueError(
        f"expected a boolean, an integer of at most 64 bits, a finite number or a printable text, got {given!r}"
    )


def _distinct(values: tuple[Value, ...]) -> tuple[Value, ...]:
    if not values:
        raise ValueError("expected at least one value, got an empty list")
    seen: set[str] = set()
    for value in values:
        if repr(value) in seen:
            raise ValueError(f"expected distinct values, got {value!r} twice")
        seen.add(repr(value))
    return values


Identifier = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
AnyValue = Annotated[Any, PlainValidator(_value)]
Values = Annotated[
    tuple[AnyValue, ...],
    BeforeValidator(lambda given: values_of(given) if isinstance(given, dict) else given),
    AfterValidator(_distinct),
]


class Exact(BaseModel):
    """A model that equals another if both hold the same values of the same types: 1, 1.0 and true differ."""

    def __eq__(self, other: object) -> bool:
        """Whether both are of the same class and hold the same values of the same types."""
        return type(self) is type(other) and self._canonical == other._canonical

    def __hash__(self) -> int:
        """Return the hash of the values."""
        return hash(self._canonical)

    @property
    def _canonical(self) -> str:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


class Table(Exact, RootModel[dict[Identifier, Values]]):
    """One table of a grid: parameters with their values, and conditions."""

    model_config = ConfigDict(frozen=True)

    _conditions: tuple[Condition, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _conditions_apart(
        cls, raw: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        if not isinstance(raw, dict) or WHERE not in raw:
            return handler(raw)
        given = raw[WHERE]
        try:
            if isinstance(given, dict) and given.keys() == {STORED}:
                given = given[STORED]
            elif info.context == STORED or not are_conditions(given):
                return handler(raw)
            table = handler({name: values for name, values in raw.items() if name != WHERE})
            names, texts = tuple(table.root), [given] if isinstance(given, str) else given
            lines = (" ".join(map(str.strip, str(text).strip().splitlines())) for text in texts)
            table._conditions = tuple(Condition(line, names) for line in lines)
            return table
        except ValidationError:
            raise
        except ValueError as error:
            wrong = PydanticCustomError("value_error", "{reason}", {"reason": str(error)})
            raise ValidationError.from_exception_data(
                "Table", [InitErrorDetails(type=wrong, loc=(WHERE,), input=given)]
            ) from None

    @model_serializer(mode="wrap")
    def _with_conditions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        # A list would be that of a parameter called `where`, which studies had before there were conditions.
        return dumped | ({WHERE: {STORED: list(self.where)}} if self.where else {})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show the conditions too."""
        yield from super().__repr_args__()
        if self.where:
            yield WHERE, self.where

    @property
    def where(self) -> tuple[str, ...]:
        """The texts of the conditions."""
        return tuple(one.text for one in self._conditions)

    @property
    def combinations(self) -> int:
        """How many points there would be without conditions."""
        return math.prod(map(len, self.root.values()))

    def points(self) -> Iterator[Configuration]:
        """Yield every point, the last parameter varying fastest; raises what `kept` raises."""
        for params in self._combined():
            if self.broken(params) is None:
                yield Configuration(params)

    def broken(self, params: Params) -> str | None:
        """Return the first condition that a point does not fulfil, None if it fulfils all.

        Raises:
            ValueError: a condition cannot be computed; the message is one line that names the point.
        """
        for condition in self._conditions:
            try:
                if not condition.holds(params):
                    return condition.text
            except ValueError as error:
                raise ValueError(f"{WHERE}: {error} ({describe(params)})") from None
        return None

    def dropped(self) -> Iterator[tuple[Params, str]]:
        """Yield the combinations that are no points, each with the first condition that it does not fulfil."""
        for params in self._combined():
            if (condition := self.broken(params)) is not None:
                yield params, condition

    @cached_property
    def choices(self) -> dict[str, tuple[Value, ...]]:
        """The values of each parameter that some point has, in their order."""
        if not self._conditions:
            return self.root
        met = {(name, repr(value)) for point in self.points() for name, value in point.params.items()}
        return {
            name: tuple(value for value in values if (name, repr(value)) in met)
            for name, values in self.root.items()
        }

    @cached_property
    def size(self) -> int:
        """The number of points."""
        if not self._conditions:
            return self.combinations
        return sum(self.broken(params) is None for params in self._combined())

    def _combined(self) -> Iterator[dict[str, Value]]:
        for values in itertools.product(*self.root.values()):
            yield dict(zip(self.root, values, strict=True))


class Grid(Exact, RootModel[tuple[Table, ...]]):
    """The points that are searched: every combination of the listed values.

    Each key is the name of a parameter, and its value the list of what is tried: at least one integer of at most 64
    bits, finite number, boolean or text, none of them twice. What the parameters mean is up to the problem.

    A range stands for the values that it gives, which are stored and shown: `{ log = [1e-4, 1e-1], count = 4 }`,
    `{ linear = [0, 1], count = 5 }` or `{ integers = [1, 9], step = 2 }`. Both ends belong to it; numbers between them
    are rounded to the shortest decimals that are exact to a thousandth of a step, of six digits or more.

    `where = "width * depth <= 512 and optimiser != 'sgd'"` keeps those points only that fulfil a condition, which may
    take several lines; a list of such texts keeps those that fulfil all. It may have the parameters of its table,
    numbers, texts, `true` and `false`, `+ - * / // % **`, comparisons, `and`, `or`, `not`, `in`, `min`, `max`, `abs`,
    and lists in brackets. A list of texts that compare nothing, or of other values, is that of a parameter called
    `where`.

    `[[grid]]`, written several times, is a union of grids for conditional spaces: a point has the parameters of its
    own table only, and one that two tables have counts once.
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _one_table(cls, raw: Any) -> Any:
        return [raw] if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.root or not all(table.root for table in self.root):
            raise ValueError("expected at least one parameter with its values")
        return self

    def lay_out(self) -> None:
        """Compute the conditions for every point.

        Raises:
            ValueError: a condition cannot be computed for a point, or a table has no point left; the message is one
                line.
        """
        for place, table in enumerate(self.root):
            name = "grid" if len(self.root) == 1 else f"grid.{place}"
            try:
                left = table.size
            except ValueError as error:
                raise ValueError(f"{name}.{error}") from None
            if not left:
                params, condition = next(table.dropped())
                raise ValueError(
                    f"{name}.{WHERE}: none of {table.combinations:,} points is left: {condition!r} drops "
                    f"{describe(params)}, for example"
                )

    @cached_property
    def choices(self) -> dict[str, tuple[Value, ...]]:
        """The values of each parameter over all points, in their order; 1 and 1.0 are two values."""
        found: dict[str, dict[str, Value]] = {}
        for table in self.root:
            for name, values in table.choices.items():
                found.setdefault(name, {}).update({repr(value): value for value in values})
        return {name: tuple(values.values()) for name, values in found.items()}

    def points(self) -> Iterator[Configuration]:
        """Yield every point of each table, the last parameter varying fastest; a point of two tables comes twice."""
        for table in self.root:
            yield from table.points()

    def configurations(self) -> list[Configuration]:
        """Return every point once."""
        return list(dict.fromkeys(self.points()))

    def __len__(self) -> int:
        """Return the number of distinct points."""
        if len(self.root) > 1:
            return len(self.configurations())
        return self.root[0].size
