"""The columns of the tables of published results, with their units and meanings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pairsearch.search.ledger.studies import merge_choices
from pairsearch.search.results.export_columns import (
    CONFIGURATIONS,
    CURVES,
    FIGURES,
    PARAMETERS,
    Choices,
    Column,
    ColumnTable,
    column_names,
    mixed,
    of_study,
)
from pairsearch.studies.configuration import Params, Value
from pairsearch.studies.definition import Definition
from pairsearch.studies.problem import Metric, Traits

_STUDY = CONFIGURATIONS.columns[0]
_KEY = Column("configuration", "text", "its key, the same in all tables")
_PROCESSOR = Column("processor", "text", "which processor computed the row")
_FINAL = Column(FIGURES.name, "number", "after the last epoch")
_MEAN = Column(FIGURES.name, "number", "mean over folds after the epoch")


def _same(table: ColumnTable, name: str) -> Column:
    """Return the column of that name of an exported table."""
    return next(column for column in table.columns if column.name == name)


FOLDS = ColumnTable(
    "folds",
    "a fold of a configuration, after its last epoch",
    (
        _STUDY,
        _KEY,
        PARAMETERS,
        Column("state", "text", "finished, diverged, pruned or failed; the last has no figures"),
        Column("fold", "integer", "from 0"),
        _FINAL,
        Column(
            "diverged_epoch", "integer", "epoch, from 1, in which the fold diverged; missing where it did not"
        ),
        Column("seconds", "number", "time of the training, all folds together", unit="s"),
        _same(CONFIGURATIONS, "reason"),
        _PROCESSOR,
    ),
)

MEAN_CURVES = ColumnTable(
    "curves",
    "an epoch of a configuration; its figures are means over the folds, missing where a fold has none",
    (_STUDY, _KEY, _same(CURVES, "epoch"), _MEAN),
)

ROUNDS = ColumnTable(
    "rounds",
    "a round of the final evaluation of a configuration, after its last epoch",
    (
        _STUDY,
        _KEY,
        Column("chosen_by", "text", "search (the study's best), paper (the paper's own), both or other"),
        Column("round", "integer", "from 0"),
        _FINAL,
        Column(
            "diverged_epoch",
            "integer",
            "epoch, from 1, in which the round diverged; missing where it did not",
        ),
        Column("seconds", "number", "its share of the time of the rounds trained together", unit="s"),
        _PROCESSOR,
    ),
)


@dataclass(frozen=True, slots=True)
class Columns:
    """A table with columns for the parameters and figures of some studies.

    Args:
        table: the table with all its columns.
        choices: the values of each parameter.
        parameters: the name of the column of each parameter.
        figures: the name of the column of each figure.
    """

    table: ColumnTable
    choices: Choices
    parameters: Mapping[str, str]
    figures: Mapping[str, str]

    @classmethod
    def of(cls, table: ColumnTable, choices: Choices, metrics: Mapping[str, Metric]) -> Columns:
        """Add the columns for these parameters and figures to a table."""
        return cls(of_study(table, choices, metrics), choices, *column_names(table, choices, metrics))

    @property
    def compared(self) -> list[str]:
        """The columns that depend on nothing but the training, so that they can be compared bit for bit."""
        ends = [column.name for column in self.table.columns if column.name == "diverged_epoch"]
        return [*self.figures.values(), *ends]

    def point(self, params: Params) -> dict[str, Value | None]:
        """Return the cells of a configuration's parameters by column."""
        return {
            column: json.dumps(params[name])
            if name in params and mixed(self.choices[name])
            else params.get(name)
            for name, column in self.parameters.items()
        }

    def values(self, figures: Mapping[str, float | None]) -> dict[str, float | None]:
        """Return the cells of figures by column, None for a missing figure."""
        return {column: figures.get(name) for name, column in self.figures.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """The three tables of some studies.

    Args:
        folds: one row for each fold.
        curves: one row for each epoch.
        rounds: one row for each round of the final evaluation.
        round_figures: names of the figures of rounds.
    """

    folds: Columns
    curves: Columns
    rounds: Columns
    round_figures: Sequence[str]

    @property
    def tables(self) -> tuple[ColumnTable, ...]:
        """The three tables in the order of their description."""
        return self.folds.table, self.curves.table, self.rounds.table


def layout(
    definitions: Iterable[Definition], traits: Iterable[Traits], round_figures: Sequence[str]
) -> Layout:
    """Lay out the three tables for some studies."""
    choices: Choices = {}
    for definition in definitions:
        choices = merge_choices(choices, definition.grid.choices)
    known = list(traits)
    of_folds = {name: metric for one in known for name, metric in one.of_folds.items()}
    every = {name: metric for one in known for name, metric in one.metrics.items()}
    return Layout(
        folds=Columns.of(FOLDS, choices, of_folds),
        curves=Columns.of(MEAN_CURVES, {}, of_folds),
        rounds=Columns.of(ROUNDS, {}, {name: every[name] for name in round_figures}),
        round_figures=round_figures,
    )
