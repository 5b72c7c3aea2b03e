"""The columns of an export: names, types, units, and where they are stored. Imports no Arrow, so that help is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from pairsearch.studies.configuration import Value
from pairsearch.studies.problem import Metric

Kind = Literal["text", "integer", "number", "boolean"]
KINDS: dict[type, Kind] = {int: "integer", float: "number", bool: "boolean", str: "text"}
Choices = Mapping[str, Sequence[Value]]
"""The values of each parameter."""


def kind_of(values: Sequence[Value]) -> Kind:
    """Return the kind of a parameter's column from the parameter's values."""
    types = set(map(type, values))
    if len(types) == 1:
        return KINDS[types.pop()]
    return "text" if mixed(values) else "number"


def mixed(values: Sequence[Value]) -> bool:
    """Whether values have types that a column of numbers would mix up, such as 1, 1.0 and true; these become JSON."""
    types = set(map(type, values))
    if len(types) == 1:
        return False
    return not types <= {int, float} or len(set(map(float, values))) < len(values)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    meaning: str
    stored: str = ""
    """Table and column of the database that it is copied from; empty if it is computed."""
    unit: str = ""
    """Unit of its numbers; empty if they have none."""


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """A table for other programs: its name, what a row is, and its columns."""

    name: str
    row: str
    columns: tuple[Column, ...]


Table = TypeVar("Table", bound=ColumnTable)


@dataclass(frozen=True, slots=True)
class ExportTable(ColumnTable):
    """One table of an export, with the stored columns that order its rows."""

    order: tuple[str, ...]


_STUDY = Column("study", "text", "name of the study", "studies.name")
KEY = Column("configuration", "text", "its key, the same in both tables", "configurations.key")
PARAMETERS = Column(
    "(each parameter)",
    "text",
    "its value, with a type of its own; missing where the point has none",
    "configurations.params",
)
"""A placeholder for the columns of a study's parameters."""
FIGURES = Column("(each figure)", "number", "mean over folds after the last epoch", "configurations.figures")
"""A placeholder for the columns of a study's figures."""
POINTS = Column("(each figure)", "number", "after the epoch")
"""A placeholder for the columns of a fold's figures."""

CONFIGURATIONS = ExportTable(
    "configurations",
    "a configuration of the study, in any state",
    (
        _STUDY,
        KEY,
        Column("position", "integer", "place in the order of the search, from 0", "configurations.rank"),
        PARAMETERS,
        Column(
            "state", "text", "pending, running, finished, diverged, pruned or failed", "configurations.state"
        ),
        Column("value", "number", "the study's metric; finished ones only", "configurations.value"),
        FIGURES,
        Column("seconds", "number", "time of the training", "configurations.seconds", "s"),
        Column("errors", "integer", "attempts that ended in an exception", "configurations.errors"),
        Column("claims", "integer", "how often a worker took it", "configurations.claims"),
        Column(
            "started_at",
            "number",
            "when the last attempt began",
            "configurations.started_at",
            "s since 1970, UTC",
        ),
        Column(
            "finished_at", "number", "when its result came", "configurations.finished_at", "s since 1970, UTC"
        ),
        Column("worker", "text", "who took it last: host, process", "configurations.worker"),
        Column("reason", "text", "why it diverged, was pruned or failed", "configurations.reason"),
        Column("provenance", "text", "JSON: versions, commit, host, processor", "configurations.provenance"),
    ),
    ("configurations.rank", "configurations.id"),
)

CURVES = ExportTable(
    "curves",
    "an epoch of a fold of a configuration that has a result",
    (
        _STUDY,
        KEY,
        Column("fold", "integer", "from 0", "runs.run"),
        Column("epoch", "integer", "from 1"),
        POINTS,
    ),
    ("configurations.rank", "configurations.id", "runs.run"),
)

TABLES = (CONFIGURATIONS, CURVES)


def column_names(
    table: ColumnTable, choices: Choices, figures: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Map the names of a study's parameters, and of its figures, to those of their columns in a table.

    A figure gets the prefix `figure:` if a fixed column has its name; a parameter gets `param:` if a fixed column or a
    figure's column has its name.
    """
    fixed = {column.name for column in table.columns}
    named = {name: f"figure:{name}" if name in fixed else name for name in figures}
    taken = fixed | set(named.values()) if FIGURES.name in fixed else fixed
    return {name: f"param:{name}" if name in taken else name for name in choices}, named


def of_study(table: Table, choices: Choices, metrics: Mapping[str, Metric]) -> Table:
    """Replace a table's placeholders by a column for each parameter of a study, in grid order, and for each figure."""
    params, figures = column_names(table, choices, metrics)
    parameters = [Column(params[name], kind_of(values), "parameter") for name, values in choices.items()]

    def figure_columns(meaning: str) -> list[Column]:
        return [
            Column(figures[name], "number", f"{metric.label or name}, {meaning}", unit=metric.unit)
            for name, metric in metrics.items()
        ]

    columns: list[Column] = []
    for column in table.columns:
        if column.name == PARAMETERS.name:
            columns += parameters
        elif column.name == FIGURES.name:
            columns += figure_columns(column.meaning)
        else:
            columns.append(column)
    return replace(table, columns=tuple(columns))


def described() -> str:
    """Describe the columns for `--help`, one per line; the backspace keeps Click from joining the lines."""
    parts = []
    for table in TABLES:
        lines = [
            f"  {column.name}: {column.meaning}" + (f" [{column.unit}]" if column.unit else "")
            for column in table.columns
        ]
        parts.append("\n".join(["\b", f"STUDY-{table.name}: a row is {table.row}.", *lines]))
    return "\n\n".join(parts)
