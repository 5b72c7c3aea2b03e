"""The validated definition of a study, and the fingerprint of what its results depend on.

A definition is a TOML file; `studies/` ships some. Validation here needs nothing but the file, so that commands which
only look at a database start fast; `studies.loading` asks the problem about the rest.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from pairsearch.studies.configuration import Configuration
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.grid import IDENTIFIER_PATTERN, STORED, AnyValue, Exact, Grid, Identifier
from pairsearch.studies.problem import Kind, Metric, Run
from pairsearch.studies.validation import Location, demands, read_fields

FOLDER = Path(__file__).parent
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
LARGEST = 2**31 - 1
"""The largest whole number that a column of a database holds."""

# How many points a trial's mean curve has in Optuna, which takes some 2 ms to store each.
REPORTS = 10


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=LARGEST, strict=True)]
Setting = Annotated[Any, demands(JsonValue, "texts, finite numbers, booleans, lists or tables")]


class Part(Exact):
    """A table of a definition: unknown keys are refused, and nothing changes after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Evaluation(Part):
    """The final evaluation: the best configurations are trained afresh in several rounds, on data that no fold saw."""

    rounds: Count = 10
    """How many times each configuration is trained. Every round has its own random numbers, which all configurations
    share; `--rounds` of `pairsearch evaluate` asks for another number, and more may be added later."""
    epochs: Count | None = None
    """Epochs that a round trains for. Without it a round has as many as a fold, the definition's `epochs`."""
    model_megabytes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 4.0
    """Size up to which the trained model of a round is stored in the database, in 10⁶ bytes; 0 to store none."""


class Stated(Part):
    """Mean and standard deviation of a figure over the rounds of a final evaluation, as a paper published them."""

    mean: Number
    """The published mean, in the unit of the figure: an error of 21.35 % is 0.2135."""
    std: Annotated[Number, Field(ge=0)]
    """The published standard deviation, in the same unit."""


class Paper(Part):
    """What a paper states about this study. Tables and reports show it beside the results."""

    params: dict[Identifier, AnyValue]
    """The paper's own configuration: a value for each parameter of one table of the grid. Where the grid has this
    point, the search begins with it."""
    facts: dict[str, str] = Field({})
    """What the paper says about its configuration, as text by name, such as `parameters = "48,730"`. Tables show it
    under the same headers as the facts that the problem itself gives (`Problem.describe`)."""
    figures: dict[Identifier, Stated]
    """The results that the paper gives, by the name of the figure in the final evaluation, such as `test_error`."""

    @property
    def configuration(self) -> Configuration:
        """The paper's configuration."""
        return Configuration(self.params)


class Definition(Part):
    """A study: what is searched, how a configuration is judged, and how the best are evaluated.

    Results depend on `problem`, `settings`, `metric`, `seed`, `folds`, `epochs`, `pruner` and the epochs of the final
    evaluation: a definition that changes one of them is another study and needs another name.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the study in the database and in commands: at most 63 lower-case letters, digits, `-` and `_`, the first
    a letter or a digit."""
    title: Annotated[str, Field(pattern=r"^[^\x00]*$")] = ""
    """One line that says what the study is about, for lists, the report and the dashboard."""
    problem: Annotated[str, Field(min_length=1)]
    """What is trained: the shipped `pairs`, `estimator` or `command`; a class or function of your own as `FILE.py:NAME`
    in a file beside the definition, or one of an importable module as `MODULE:NAME`. A function of one argument is an
    objective of Optuna's."""
    settings: dict[str, Setting] = Field({})
    """Arguments of the problem, by name: texts, finite numbers, booleans, lists or tables. Settings of one machine,
    such as where its data lie, are given by `--set` instead."""
    metric: Identifier
    """The figure by which configurations are compared: its mean over the folds after the last epoch. Lower is better
    unless the problem, or `metrics`, says that the figure is maximised."""
    metrics: dict[Identifier, Metric] = Field({})
    """How figures read, by name, for a problem that does not declare them itself, such as a plain function. Where the
    table is not empty, `metric` has to be in it."""
    values: tuple[Identifier, ...] = ()
    """Names of the figures that an objective of Optuna's returns, in their order, where they are several; `metric` is
    one of them."""
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    """Seed of everything that is drawn, from 0 to `2**63 - 1`: folds, initial weights, orders of examples, rounds. All
    configurations share what is drawn, and so do studies with the same seed."""
    folds: Count = 10
    """How many folds a configuration is trained on. The verdict needs at least five to exclude a configuration, and
    `pruner = "race"` needs at least four."""
    epochs: Count = 1
    """Epochs that each fold trains for. Leave it out for a problem that does not train in epochs."""
    sampler: Literal["grid", "tpe", "random", "gp"] = "grid"
    """What proposes the next configuration. `grid` goes through all of them in a random order, after the paper's own;
    `tpe`, `random` and `gp` are Optuna's samplers, and change the order of the configurations but no result."""
    pruner: Literal["none", "median", "hyperband", "wilcoxon", "race"] = "none"
    """What may stop a poor configuration early. `median` and `hyperband` are Optuna's; they look at about ten epochs
    where folds train together or there is one, else after each fold. `wilcoxon` (Optuna's) and `race` look after each
    fold, and need a problem that trains folds in turn."""
    time_limit: Annotated[Number, Field(gt=0)] | None = None
    """Seconds that the training of a fold or a round may take, or of all of them where they train together. After that
    the configuration ends as failed. Runs that have processes of their own (`isolate`) are ended to the second, others
    when they report next; without it there is no limit."""
    isolate: Annotated[bool, Field(strict=True)] | None = None
    """Whether each run trains in a process of its own, which takes with it what it has leaked or left running, and
    which may crash without harm to the worker. By default it does where there is a `time_limit`, or as the
    problem says (`Problem.isolated`). Figures are the same either way."""
    allow_changed_files: Annotated[bool, Field(strict=True)] = False
    """Whether results of different versions of your problem's files may mix in the study. By default workers are
    refused when a file, or one beside it that it imports, changes after the first result."""
    grid: Grid
    """The points that are searched: the values of each parameter. Values and tables may be added later; nothing may be
    taken away."""
    evaluation: Evaluation = Evaluation()
    """The final evaluation of the best configurations: how many rounds, and how long each trains."""
    paper: Paper | None = None
    """What a paper states about this study, to be shown beside the results."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields that are younger than stored definitions, where they say nothing."""
        dumped: dict[str, Any] = handler(self)
        said = {"values": bool(self.values), "isolate": self.isolate is not None}
        return {name: value for name, value in dumped.items() if said.get(name, True)}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.paper is not None and not any(
            table.root.keys() == self.paper.params.keys() for table in self.grid.root
        ):
            raise ValueError("paper: its hyperparameters are not those of the grid")
        if self.values and (self.metric not in self.values or len(set(self.values)) < len(self.values)):
            raise ValueError(f"values: expected distinct names with {self.metric!r}, the metric, among them")
        if self.metrics and self.metric not in self.metrics:
            raise ValueError(f"metrics: expected {self.metric!r}, the metric, among them")
        return self

    @property
    def protocol(self) -> str:
        """How a configuration is validated, for people: `10 folds, 30 epochs`."""
        folds = f"{self.folds} fold{'' if self.folds == 1 else 's'}"
        return folds if self.epochs == 1 else f"{folds}, {self.epochs} epochs"

    @property
    def reported_epochs(self) -> tuple[int, ...]:
        """The epochs after which pruners are asked: about ten, evenly spaced and with the last one."""
        step = max(1, self.epochs // REPORTS)
        return tuple(range(self.epochs, 0, -step))[::-1]

    def steps_are_epochs(self, together: bool) -> bool:
        """Whether what pruners look at are epochs, of all folds together, and not the figures of folds in turn.

        A single fold that trains by itself is all folds together.
        """
        return together or (self.folds == 1 and self.pruner in ("median", "hyperband"))

    @property
    def evaluation_epochs(self) -> int:
        """Epochs that a round trains for."""
        return self.evaluation.epochs or self.epochs

    def runs(
        self,
        kind: Kind,
        numbers: Iterable[int] | None = None,
        epochs: int | None = None,
        device: str = "cpu",
        threads: int = 1,
    ) -> list[Run]:
        """Return folds or rounds of this study to train.

        Args:
            numbers: which ones; None for all that the definition has.
            epochs: a smaller number than the definition's, for a rehearsal; None for the definition's.
        """
        count, usual = self.folds, self.epochs
        if kind == "round":
            count, usual = self.evaluation.rounds, self.evaluation_epochs
        wanted = range(count) if numbers is None else list(numbers)
        count = max(count, *(number + 1 for number in wanted)) if wanted else count
        return [
            Run(kind, number, count, min(usual, epochs or usual), self.seed, device, threads)
            for number in wanted
        ]

    @property
    def results_depend_on(self) -> dict[str, Any]:
        """Every field that the figures of a trial or a round depend on, by name.

        The grid is not among them: a study may gain points.
        """
        named = {"problem", "metric", "seed", "folds", "epochs", "pruner"}
        dumped = self.model_dump(mode="json", include=named)
        if self.values:
            dumped["values"] = list(self.values)
        dumped |= {f"settings.{name}": value for name, value in self.settings.items()}
        return dumped | {"evaluation.epochs": self.evaluation_epochs}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over `results_depend_on`: definitions with the same fingerprint have the same results."""
        text = json.dumps(self.results_depend_on, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


_UNKNOWN = "unknown key: remove it or mend its spelling; what the problem takes stands under [settings]"
EXPECTED = {
    "extra_forbidden": _UNKNOWN,
    "unexpected_keyword_argument": _UNKNOWN,
    "tuple_type": "expected a list",
    NAME_PATTERN: "expected lower-case letters, digits, - and _ (at most 63, the first no - or _)",
    IDENTIFIER_PATTERN: "expected a name: a letter, then letters, digits, _, . and - (at most 63)",
}


def _place(location: Location, raw: dict[str, Any]) -> str:
    """Where a field stands in the file, without the parts of Pydantic's location that the file does not have."""
    if location[:2] == ("grid", 0) and not isinstance(raw["grid"], list):
        location = ("grid", *location[2:])
    return f"{'.'.join(map(str, location))}: " if location else ""


def parse(raw: dict[str, Any], origin: str, *, stored: bool = False) -> Definition:
    """Validate a definition from parsed TOML or JSON; a DefinitionError names `origin` and the first wrong field.

    In one that was stored, `where` with a list is a parameter.
    """
    context = STORED if stored else None
    return read_fields(Definition, raw, origin, EXPECTED, lambda location: _place(location, raw), context)


def read(path: Path) -> Definition:
    """Read the definition in a TOML file; raises a DefinitionError if there is none that is valid."""
    definition = parse(read_toml(path), str(path))
    # What a database has was laid out before.
    try:
        definition.grid.lay_out()
    except ValueError as error:
        raise DefinitionError(f"{path}: {error}") from None
    return definition


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises a DefinitionError where the file cannot be read, or is not UTF-8 TOML."""
    try:
        # Some editors on Windows begin a file with a byte order mark.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DefinitionError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise DefinitionError(f"{path}: expected UTF-8 text, got other bytes") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise DefinitionError(f"{path}: not valid TOML: {error}") from None


def shipped() -> dict[str, Path]:
    """Return the files of the definitions that come with the package, by name of the study, in alphabetical order."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
