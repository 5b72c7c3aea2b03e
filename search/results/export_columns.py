"""The columns of an export: names, types, units, and where they are stored; plain data, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number"]

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
_KEY = Column("configuration", "text", "its key, the same in both tables", "configurations.key")

CONFIGURATIONS = ExportTable(
    "configurations",
    "a configuration of the study, in any state",
    (
        _STUDY,
        _KEY,
        Column("position", "integer", "place in the order of the search, from 0", "configurations.rank"),
        Column("batch_size", "integer", "hyperparameter", "configurations.batch_size", "pairs"),
        Column("learning_rate", "number", "hyperparameter", "configurations.learning_rate"),
        Column("weight_decay", "number", "hyperparameter", "configurations.weight_decay"),
        Column(
            "hidden_units",
            "integer",
            "hyperparameter; missing where there is none",
            "configurations.hidden_units",
        ),
        Column(
            "aux_loss_weight",
            "number",
            "hyperparameter; missing where there is none",
            "configurations.aux_loss_weight",
        ),
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
        _KEY,
        Column("fold", "integer", "from 0", "curves.fold"),
        Column("epoch", "integer", "from 1", "curves.epoch"),
        Column("train_loss", "number", "running training loss of the epoch", "curves.train_loss", NATS),
        Column("val_loss", "number", "validation loss after the epoch", "curves.val_loss", NATS),
        Column("val_error", "number", "validation error after the epoch", "curves.val_error", FRACTION),
    ),
    ("configurations.rank", "configurations.id", "curves.fold", "curves.epoch"),
)

TABLES = (CONFIGURATIONS, CURVES)


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
