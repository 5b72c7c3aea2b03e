"""The columns of an export: names, types, units, and where they are stored; plain data, so that help is quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pairsearch.studies.configuration import Value

Kind = Literal["text", "integer", "number"]
# Of a parameter, by its values, which are of one type.
KINDS: dict[type, Kind] = {int: "integer", float: "number"}

NATS = "nats"
FRACTION = "fraction of 1"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `stored` names the table and column of the database that it is taken from as it is, where there is
    one; an empty unit says that it has none."""

    name: str
    kind: Kind
    meaning: str
    stored: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """A table for other programs: its name, what a row is, and its columns."""

    name: str
    row: str
    columns: tuple[Column, ...]


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
"""Stands for the columns of a study's parameters, a column for each."""

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
        Column("value", "number", "what the study minimises; finished ones only", "configurations.value"),
        Column(
            "val_loss",
            "number",
            "validation loss, mean over folds, last epoch",
            "configurations.val_loss",
            NATS,
        ),
        Column(
            "val_error",
            "number",
            "validation error, mean over folds, last epoch",
            "configurations.val_error",
            FRACTION,
        ),
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
        Column("fold", "integer", "from 0", "curves.fold"),
        Column("epoch", "integer", "from 1", "curves.epoch"),
        Column("train_loss", "number", "running training loss of the epoch", "curves.train_loss", NATS),
        Column("val_loss", "number", "validation loss after the epoch", "curves.val_loss", NATS),
        Column("val_error", "number", "validation error after the epoch", "curves.val_error", FRACTION),
    ),
    ("configurations.rank", "configurations.id", "curves.fold", "curves.epoch"),
)

TABLES = (CONFIGURATIONS, CURVES)


def of_study(table: ExportTable, choices: Mapping[str, Sequence[Value]]) -> ExportTable:
    """The table with a column for each parameter of a study, in the order of its grid."""
    columns: list[Column] = []
    for column in table.columns:
        columns += (
            [Column(name, KINDS[type(values[0])], "parameter") for name, values in choices.items()]
            if column is PARAMETERS
            else [column]
        )
    return replace(table, columns=tuple(columns))


def described() -> str:
    """The columns for help, one a line, in paragraphs that Click is told not to fill."""
    parts = []
    for table in TABLES:
        lines = [
            f"  {column.name}: {column.meaning}" + (f" [{column.unit}]" if column.unit else "")
            for column in table.columns
        ]
        parts.append("\n".join(["\b", f"STUDY-{table.name}: a row is {table.row}.", *lines]))
    return "\n\n".join(parts)
