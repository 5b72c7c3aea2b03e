"""The tables of published results: their columns, each with unit and meaning."""

from __future__ import annotations

from pairsearch.search.results.export_columns import (
    CONFIGURATIONS,
    CURVES,
    FRACTION,
    NATS,
    Column,
    ColumnTable,
)
from pairsearch.studies.definition import PARAMETERS

_STUDY = CONFIGURATIONS.columns[0]
_KEY = Column("configuration", "text", "its key, the same in all tables")
_PROCESSOR = Column("processor", "text", "which processor computed the row")

_PARAMETERS = tuple(
    Column(
        name,
        "integer" if name in ("batch_size", "hidden_units") else "number",
        "hyperparameter; missing where there is none",
        unit="pairs" if name == "batch_size" else "",
    )
    for name in PARAMETERS
)


def _same(table: ColumnTable, *names: str) -> tuple[Column, ...]:
    """Columns that an export has too."""
    return tuple(column for column in table.columns if column.name in names)


FOLDS = ColumnTable(
    "folds",
    "a fold of a configuration, after its last epoch",
    (
        _STUDY,
        _KEY,
        *_PARAMETERS,
        Column("state", "text", "finished, diverged, pruned or failed; the last has no figures"),
        Column("fold", "integer", "from 0"),
        Column("train_loss", "number", "running training loss of the last epoch", unit=NATS),
        Column("val_loss", "number", "validation loss", unit=NATS),
        Column("val_error", "number", "validation error", unit=FRACTION),
        Column(
            "diverged_epoch", "integer", "epoch, from 1, in which the fold diverged; missing where it did not"
        ),
        Column("seconds", "number", "time of the training, all folds together", unit="s"),
        *_same(CONFIGURATIONS, "reason"),
        _PROCESSOR,
    ),
)

MEAN_CURVES = ColumnTable(
    "curves",
    "an epoch of a configuration; its figures are means over the folds, missing where a fold has none",
    (_STUDY, _KEY, *_same(CURVES, "epoch", "train_loss", "val_loss", "val_error")),
)

ROUNDS = ColumnTable(
    "rounds",
    "a round of the final evaluation of a configuration, after its last epoch",
    (
        _STUDY,
        _KEY,
        Column("chosen_by", "text", "search (the study's best), paper (the paper's own), both or other"),
        Column("round", "integer", "from 0"),
        Column("train_loss", "number", "loss on the training pairs", unit=NATS),
        Column("train_error", "number", "error on the training pairs", unit=FRACTION),
        Column("test_loss", "number", "loss on the test pairs", unit=NATS),
        Column("test_error", "number", "error on the test pairs", unit=FRACTION),
        Column(
            "diverged_epoch",
            "integer",
            "epoch, from 1, in which the round diverged; missing where it did not",
        ),
        Column("seconds", "number", "its share of the time of the rounds trained together", unit="s"),
        _PROCESSOR,
    ),
)

TABLES = (FOLDS, MEAN_CURVES, ROUNDS)
FOLD_FIGURES = ("train_loss", "val_loss", "val_error", "diverged_epoch")
CURVE_FIGURES = ("train_loss", "val_loss", "val_error")
ROUND_FIGURES = ("train_loss", "train_error", "test_loss", "test_error", "diverged_epoch")
