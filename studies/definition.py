"""The validated definition of a study, and the fingerprint of what its results depend on.

A definition is a TOML file; `studies/` ships some. Validation here needs nothing but the file, so that commands which
only look at a database start fast; `studies.loading` asks the problem about the rest.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    RootModel,
    ValidationError,
    model_validator,
)

from pairsearch.studies.configuration import Configuration, Value, canonical
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.problem import Metric

FOLDER = Path(__file__).parent
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
# Of parameters and figures: they stand before `=` in keys, and are columns of exports.
IDENTIFIER_PATTERN = r"^[^\W\d][\w.-]{0,62}$"

LARGEST = 2**31 - 1
"""The largest whole number that a column of a database holds."""
LARGEST_VALUE = 2**63 - 1
"""The largest whole number that a parameter may be, which a column of an export holds."""

# A mean curve of about this many points: Optuna takes some 2 ms for each.
REPORTS = 10


def _value(given: Any) -> Value:
    """A value of a parameter, its type kept."""
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


def _setting(given: Any) -> Any:
    """A setting: what JSON has too."""
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(
            f"expected texts, finite numbers, booleans, lists or tables, got {given!r}"
        ) from None
    return given


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=LARGEST, strict=True)]
Identifier = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
AnyValue = Annotated[Any, PlainValidator(_value)]
Values = Annotated[tuple[AnyValue, ...], AfterValidator(_distinct)]
Setting = Annotated[Any, BeforeValidator(_setting)]


class Part(BaseModel):
    """What every table of a definition shares: fixed after validation, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same, types included: 1, 1.0 and true are three values."""
        return type(self) is type(other) and _canonical(self) == _canonical(other)

    def __hash__(self) -> int:
        """Of what it holds."""
        return hash(_canonical(self))


def _canonical(part: Any) -> str:
    return json.dumps(part.model_dump(mode="json"), sort_keys=True)


class Grid(RootModel[tuple[dict[Identifier, Values], ...]]):
    """The categorical space: the combinations of the listed values, of one table or of each of several.

    `[[grid]]` several times is a union of grids, which gives conditional spaces: a point has the parameters of its
    table. A point of two tables is one point.
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _one_table(cls, raw: Any) -> Any:
        return [raw] if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.root or not all(self.root):
            raise ValueError("expected at least one parameter with its values")
        return self

    def __eq__(self, other: object) -> bool:
        """As of every part."""
        return isinstance(other, Grid) and _canonical(self) == _canonical(other)

    def __hash__(self) -> int:
        """Of what it holds."""
        return hash(_canonical(self))

    @property
    def choices(self) -> dict[str, tuple[Value, ...]]:
        """The values of each parameter over all tables, in the order in which they come; types are told apart."""
        found: dict[str, dict[str, Value]] = {}
        for table in self.root:
            for name, values in table.items():
                found.setdefault(name, {}).update({repr(value): value for value in values})
        return {name: tuple(values.values()) for name, values in found.items()}

    def points(self) -> Iterator[Configuration]:
        """Every point of each table, the last parameter varying fastest; one of two tables comes twice."""
        for table in self.root:
            for values in itertools.product(*table.values()):
                yield Configuration(dict(zip(table, values, strict=True)))

    def configurations(self) -> list[Configuration]:
        """Every point once."""
        return list(dict.fromkeys(self.points()))

    def __len__(self) -> int:
        """How many points."""
        if len(self.root) > 1:
            return len(self.configurations())
        return math.prod(len(values) for values in self.root[0].values())


class Evaluation(Part):
    """The final evaluation: R rounds, each on fresh data with fresh weights."""

    rounds: Count = 10
    epochs: Count | None = None
    """None for as many as the search trains for."""


class Stated(Part):
    """Mean and standard deviation of a figure over rounds, as others published them."""

    mean: Number
    std: Annotated[Number, Field(ge=0)]


class Paper(Part):
    """What a paper states for this study: its configuration, and the figures of its final evaluation."""

    params: dict[Identifier, AnyValue]
    facts: dict[str, str] = {}
    """As `studies.problem.Problem.describe` gives them."""
    figures: dict[Identifier, Stated]

    @property
    def configuration(self) -> Configuration:
        """The paper's own."""
        return Configuration(self.params)


class Figure(Part):
    """How a figure reads (`studies.problem.Metric`)."""

    label: str = ""
    percent: bool = False
    maximise: bool = False
    unit: str = ""
    training: bool = False

    @property
    def metric(self) -> Metric:
        """As the contract has it."""
        return Metric(**self.model_dump())


class Definition(Part):
    """A study: what is searched, how a configuration is judged, and how the best are evaluated."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the study in the database: lower-case letters, digits, - and _."""
    title: Annotated[str, Field(pattern=r"^[^\x00]*$")] = ""
    """One line for people."""
    problem: Annotated[str, Field(min_length=1)]
    """What is trained: `pairs` or `estimator`, `FILE.py:NAME` beside the definition, or `MODULE:NAME`."""
    settings: dict[str, Setting] = {}
    """Arguments of the problem that results depend on."""
    metric: Identifier
    """The figure by which configurations are compared: its mean over folds after the last epoch."""
    metrics: dict[Identifier, Figure] = {}
    """How figures read, where the problem does not say: which are maximised, and which are shown in per cent."""
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    """Root of all random streams."""
    folds: Count = 10
    epochs: Count = 1
    """Of each fold, for problems that train in epochs."""
    sampler: Literal["grid", "tpe", "random", "gp"] = "grid"
    """Who proposes the next configuration; `grid` goes through all of them."""
    pruner: Literal["none", "median", "hyperband", "wilcoxon", "race"] = "none"
    """Whether a poor configuration may be stopped early; `wilcoxon` and `race` where folds are trained in turn."""
    time_limit: Annotated[Number, Field(gt=0)] | None = None
    """Seconds after which the training of a configuration, all folds together, ends as failed; None for no limit."""
    allow_changed_files: Annotated[bool, Field(strict=True)] = False
    """Whether results of different versions of the problem's files may mix."""
    grid: Grid
    evaluation: Evaluation = Evaluation()
    paper: Paper | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.paper is not None and not any(
            table.keys() == self.paper.params.keys() for table in self.grid.root
        ):
            raise ValueError("paper: its hyperparameters are not those of the grid")
        if self.metrics and self.metric not in self.metrics:
            raise ValueError(f"metrics: expected {self.metric!r}, the metric, among them")
        return self

    @property
    def protocol(self) -> str:
        """How a configuration is validated, in a few words."""
        folds = f"{self.folds} fold{'' if self.folds == 1 else 's'}"
        return folds if self.epochs == 1 else f"{folds}, {self.epochs} epochs"

    @property
    def reported_epochs(self) -> tuple[int, ...]:
        """The epochs after which pruners are asked: about ten, evenly spaced, the last among them."""
        step = max(1, self.epochs // REPORTS)
        return tuple(range(self.epochs, 0, -step))[::-1]

    @property
    def evaluation_epochs(self) -> int:
        """Epochs of a round."""
        return self.evaluation.epochs or self.epochs

    @property
    def results_depend_on(self) -> dict[str, Any]:
        """Every field that a trial's or a round's figures depend on, by name; the points of the grid do not count."""
        named = {"problem", "metric", "seed", "folds", "epochs", "pruner"}
        dumped = self.model_dump(mode="json", include=named)
        dumped |= {f"settings.{name}": value for name, value in self.settings.items()}
        return dumped | {"evaluation.epochs": self.evaluation_epochs}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over `results_depend_on`: two definitions that share it share their results."""
        text = json.dumps(self.results_depend_on, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _place(location: tuple[int | str, ...], raw: dict[str, Any]) -> str:
    """Where a field stands in the file; of a lone grid, as of a key, pydantic says more than people wrote."""
    if location[:2] == ("grid", 0) and not isinstance(raw["grid"], list):
        location = ("grid", *location[2:])
    return ".".join(str(part) for part in location if part != "[key]")


def parse(raw: dict[str, Any], origin: str) -> Definition:
    """A definition from parsed TOML or JSON.

    Raises:
        DefinitionError: naming `origin`, the first offending field, what was given and what was expected.
    """
    try:
        return Definition.model_validate(raw)
    except ValidationError as error:
        first, count = error.errors()[0], error.error_count()
        given = first["input"]
        place = _place(first["loc"], raw)
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = (
                "unknown key: remove it or mend its spelling; what the problem takes stands under [settings]"
            )
        elif first["type"] == "string_pattern_mismatch" and place == "name":
            message = (
                f"expected lower-case letters, digits, - and _ (at most 63, the first no - or _), "
                f"got {given!r}"
            )
        elif first["type"] == "string_pattern_mismatch" and first["ctx"]["pattern"] == IDENTIFIER_PATTERN:
            message = (
                f"expected a name: a letter, then letters, digits, _, . and - (at most 63), got {given!r}"
            )
        elif first["type"] == "tuple_type":
            message = f"expected a list, got {given!r}"
        elif first["type"] not in ("missing", "value_error"):
            message = f"{message}, got {given!r}"
        more = "" if count == 1 else f" (and {count - 1} more)"
        raise DefinitionError(f"{origin}: {place + ': ' if place else ''}{message}{more}") from None


def read(path: Path) -> Definition:
    """The definition in a TOML file.

    Raises:
        DefinitionError: the file cannot be read, is not UTF-8 TOML, or does not hold a valid definition.
    """
    return parse(read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """What is in a TOML file.

    Raises:
        DefinitionError: it cannot be read, or is not UTF-8 TOML.
    """
    try:
        # Editors of Windows begin a file with a byte order mark.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DefinitionError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise DefinitionError(f"{path}: expected UTF-8 text, got other bytes") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise DefinitionError(f"{path}: not valid TOML: {error}") from None


def shipped() -> dict[str, Path]:
    """The definitions that come with the package: file by study name, in the paper's order of models."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
