"""The validated definition of a study, and the fingerprint of what its results depend on.

A definition is a TOML file; `studies/` ships the paper's four. Validation here needs no PyTorch, so that commands
which only look at a database start fast; `studies.architecture.check` asks the models about the rest.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pairsearch.studies.configuration import Configuration, Value
from pairsearch.studies.errors import DefinitionError

FOLDER = Path(__file__).parent
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"

LARGEST = 2**31 - 1
"""The largest whole number that a column of a database holds."""


def _without_sign(number: float) -> float:
    """0.0 for -0.0, which is the same number and would be another configuration."""
    return number + 0.0


# Strict: `true` and "0.1" are no numbers.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), AfterValidator(_without_sign)]
Count = Annotated[int, Field(ge=1, le=LARGEST, strict=True)]
Rate = Annotated[Number, Field(ge=0)]
StepSize = Annotated[Number, Field(gt=0)]
Percent = Annotated[Number, Field(ge=0, le=100)]


class Part(BaseModel):
    """What every table of a definition shares: fixed after validation, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Grid(Part):
    """The categorical space: every combination of the listed values is one configuration."""

    batch_size: tuple[Count, ...]
    """Training pairs of one optimisation step."""
    learning_rate: tuple[StepSize, ...]
    """Step sizes of the optimiser."""
    weight_decay: tuple[Rate, ...]
    """Coupled L2 penalties."""
    hidden_units: tuple[Count, ...] | None = None
    """Widths of the MLP's hidden layer; left out for an architecture without one."""
    aux_loss_weight: tuple[Rate, ...] | None = None
    """Weights of the auxiliary losses; left out for an architecture that trains on the main loss alone."""

    @field_validator("*", mode="after")
    @classmethod
    def _values(cls, values: tuple[Value, ...] | None) -> tuple[Value, ...] | None:
        if values is not None:
            if not values:
                raise ValueError("expected at least one value, got an empty list")
            for index, value in enumerate(values):
                if value in values[:index]:
                    raise ValueError(f"expected distinct values, got {value!r} twice")
        return values

    @property
    def choices(self) -> dict[str, tuple[Value, ...]]:
        """The values of each parameter that the grid has, in the order of the fields."""
        values = {name: getattr(self, name) for name in PARAMETERS}
        return {name: choice for name, choice in values.items() if choice is not None}

    def configurations(self) -> list[Configuration]:
        """Every point of the grid, the last parameter varying fastest."""
        names = self.choices.keys()
        points = itertools.product(*self.choices.values())
        return [Configuration(dict(zip(names, point, strict=True))) for point in points]


PARAMETERS: tuple[str, ...] = tuple(Grid.model_fields)
"""The parameters that a grid may have."""


class Evaluation(Part):
    """The final evaluation: R rounds, each on fresh pairs with fresh weights (paper, section 3.2)."""

    rounds: Count = 10
    train_pairs: Count = 1000
    test_pairs: Count = 1000
    epochs: Count = 30


class Paper(Part):
    """What the paper's Table 1 states for this model; errors in per cent, over ten rounds."""

    parameters: Count
    train_error: Percent
    train_std: Percent
    test_error: Percent
    test_std: Percent
    batch_size: Count
    learning_rate: StepSize
    weight_decay: Rate
    hidden_units: Count | None = None
    aux_loss_weight: Rate | None = None

    @property
    def configuration(self) -> Configuration:
        """The row's hyperparameters."""
        values = {name: getattr(self, name) for name in PARAMETERS}
        return Configuration({name: value for name, value in values.items() if value is not None})


class Definition(Part):
    """A study: what is searched, how a configuration is judged, and how the best are evaluated."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the study in the database: lower-case letters, digits, - and _."""
    title: Annotated[str, Field(pattern=r"^[^\x00]*$")] = ""
    """One line for people."""
    architecture: str
    """A registered architecture (`models.nets.ARCHITECTURES`)."""
    optimiser: str = "adam"
    """A registered optimiser (`models.optim.OPTIMISERS`)."""
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    """Root of all random streams (`studies.seeds`)."""
    epochs: Count = 30
    protocol: Literal["resample", "kfold"] = "resample"
    """How a configuration is validated (`data.folds`)."""
    folds: Count = 10
    sample_size: Annotated[int, Field(ge=2, le=LARGEST, strict=True)] = 1000
    """Pairs of a generated sample, training and validation together."""
    validation_size: Count | None = None
    """Pairs held out of each sample by `resample`; None for `kfold`, where it follows from the folds."""
    standardise: Annotated[bool, Field(strict=True)] = False
    """Whether images are standardised by their training sample; raw intensities 0 to 255 otherwise."""
    metric: Literal["val_loss", "val_error"] = "val_loss"
    """What is minimised: the mean over folds of the final validation loss or validation error."""
    sampler: Literal["grid", "tpe", "random", "gp"] = "grid"
    """Who proposes the next configuration; `grid` goes through all of them."""
    pruner: Literal["none", "median", "hyperband"] = "none"
    """Whether a poor configuration may be stopped early."""
    time_limit: Annotated[Number, Field(gt=0)] | None = None
    """Seconds after which the training of a configuration, all folds together, ends as failed; None for no limit."""
    grid: Grid
    evaluation: Evaluation = Evaluation()
    paper: Paper | None = None

    @model_validator(mode="after")
    def _protocol_fits(self) -> Self:
        if self.protocol == "resample":
            if self.validation_size is None:
                raise ValueError("validation_size: protocol 'resample' needs it, for example 200")
            if self.validation_size >= self.sample_size:
                raise ValueError(
                    f"validation_size: expected less than sample_size ({self.sample_size}), "
                    f"got {self.validation_size}"
                )
        else:
            if self.validation_size is not None:
                raise ValueError("validation_size: protocol 'kfold' takes none, it follows from the folds")
            if not 2 <= self.folds <= self.sample_size:
                raise ValueError(
                    f"folds: protocol 'kfold' needs 2 to sample_size ({self.sample_size}), got {self.folds}"
                )
        if self.paper is not None and set(self.paper.configuration.params) != set(self.grid.choices):
            raise ValueError("paper: its hyperparameters are not those of the grid")
        return self

    @property
    def results_depend_on(self) -> dict[str, Any]:
        """Every field that a trial's or a round's figures depend on, by name; the grid's values do not count."""
        dumped = self.model_dump(
            mode="json", exclude={"name", "title", "grid", "sampler", "time_limit", "paper"}
        )
        evaluation = dumped.pop("evaluation")
        evaluation.pop("rounds")  # further rounds leave the others as they are
        dumped |= {f"evaluation.{name}": value for name, value in evaluation.items()}
        return dumped | {"grid parameters": sorted(self.grid.choices)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over `results_depend_on`: two definitions that share it share their results."""
        text = json.dumps(self.results_depend_on, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def parse(raw: dict[str, Any], origin: str) -> Definition:
    """A definition from parsed TOML or JSON.

    Raises:
        DefinitionError: naming `origin`, the first offending field, what was given and what was expected.
    """
    try:
        return Definition.model_validate(raw)
    except ValidationError as error:
        first, count = error.errors()[0], error.error_count()
        place = _place(first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "unknown key: remove it or mend its spelling"
        elif first["type"] == "string_pattern_mismatch" and place == "name":
            message = (
                f"expected lower-case letters, digits, - and _ (at most 63, the first no - or _), "
                f"got {first['input']!r}"
            )
        elif first["type"] not in ("missing", "value_error"):
            message = f"{message}, got {first['input']!r}"
        more = "" if count == 1 else f" (and {count - 1} more)"
        raise DefinitionError(f"{origin}: {place + ': ' if place else ''}{message}{more}") from None


def read(path: Path) -> Definition:
    """The definition in a TOML file.

    Raises:
        DefinitionError: the file cannot be read, is not UTF-8 TOML, or does not hold a valid definition.
    """
    try:
        # Editors of Windows begin a file with a byte order mark.
        raw = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DefinitionError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise DefinitionError(f"{path}: expected UTF-8 text, got other bytes") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise DefinitionError(f"{path}: not valid TOML: {error}") from None
    return parse(raw, str(path))


def shipped() -> dict[str, Path]:
    """The definitions that come with the package: file by study name, in the paper's order of models."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
