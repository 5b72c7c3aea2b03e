"""Reads the final evaluation of configurations from their stored rounds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import provenances, runs
from pairsearch.search.ledger.rows import read_figures
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.studies.configuration import Configuration, Params
from pairsearch.studies.definition import Paper

By = Literal["search", "paper"]
"""Who chose a configuration to evaluate: the search, among its best, or the paper."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (ddof 1) of a figure over rounds."""

    mean: float
    std: float | None
    """None for a single round."""

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        """Compute the spread of at least one figure."""
        return cls(statistics.fmean(figures), statistics.stdev(figures) if len(figures) > 1 else None)


@dataclass(frozen=True, slots=True)
class Round:
    """One finished round of the final evaluation."""

    id: int
    key: str
    index: int
    """Number of the round, from 0."""
    figures: Mapping[str, float | None]
    """Figures after the last epoch; empty if the round diverged."""
    diverged: int | None
    """The epoch, from 1, in which the round diverged, or None."""
    seconds: float
    facts: Mapping[str, str]
    provenance: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The final evaluation of one configuration. Figures are as the problem reports them: errors as fractions."""

    study: str
    """Name of the study."""
    key: str
    """Key of the configuration."""
    rounds: int
    """Number of finished rounds, including those that diverged."""
    diverged: int
    """Number of rounds that diverged."""
    figures: Mapping[str, Spread]
    """Mean and standard deviation of each figure that tables show, over the rounds that did not diverge."""
    facts: Mapping[str, str]
    """Facts about the configuration from its problem."""
    seconds: float
    """Wall-clock time of the rounds in all."""

    @property
    def count(self) -> str:
        """The number of rounds as tables show it: `10 (1 diverged)`."""
        return f"{self.rounds} ({self.diverged} diverged)" if self.diverged else str(self.rounds)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of Table 1: an evaluated configuration beside the paper's figures for the model."""

    chosen_by: By
    study: StoredStudy
    evaluated: Evaluated
    params: Params

    @property
    def paper(self) -> Paper | None:
        """The paper's row, None if the definition has no `[paper]` table."""
        return self.study.definition.paper


def rounds_within(connection: Connection, study: StoredStudy, key: str | None = None) -> list[Round]:
    """Read the finished rounds of a study or of one configuration, ordered by key and round."""
    columns = runs.c
    statement = (
        select(runs, provenances.c.facts.label("provenance"))
        .join(provenances, provenances.c.id == columns.provenance_id)
        .where(columns.study_id == study.id, columns.kind == "round")
    )
    if key is not None:
        statement = statement.where(columns.key == key)
    rows = connection.execute(statement.order_by(columns.key, columns.run)).all()
    return [
        Round(
            id=row.id,
            key=row.key,
            index=row.run,
            figures=read_figures(row.figures),
            diverged=row.diverged_epoch,
            seconds=row.seconds,
            facts=json.loads(row.facts),
            provenance=json.loads(row.provenance),
        )
        for row in rows
    ]


def shown_figures(study: StoredStudy, rounds: Sequence[Round]) -> list[str]:
    """List the figures of rounds that tables show, the most important last.

    These are the ones that the problem names, else all that were reported: training figures first, the metric last.
    """
    if study.traits.evaluated:
        return list(study.traits.evaluated)
    reported, metrics = {name for entry in rounds for name in entry.figures}, study.traits.metrics
    return sorted(
        (name for name in metrics if name in reported),
        key=lambda name: (not metrics[name].training, name == study.definition.metric),
    )


def read_evaluation(database: Database, study: StoredStudy, configuration: Configuration) -> Evaluated:
    """Read the finished rounds of a configuration and summarise them."""
    with database.read() as connection:
        return evaluated(study, configuration.key, rounds_within(connection, study, configuration.key))


def evaluated(study: StoredStudy, key: str, rounds: Sequence[Round]) -> Evaluated:
    """Summarise the rounds of a configuration."""
    figures = {name: values_of(rounds, name) for name in shown_figures(study, rounds)}
    return Evaluated(
        study=study.name,
        key=key,
        rounds=len(rounds),
        diverged=sum(entry.diverged is not None for entry in rounds),
        figures={name: Spread.of(values) for name, values in figures.items() if values},
        facts=rounds[0].facts if rounds else {},
        seconds=sum(entry.seconds for entry in rounds),
    )


def values_of(rounds: Sequence[Round], figure: str) -> list[float]:
    """List the values of a figure over the rounds that have it."""
    return [value for entry in rounds if (value := entry.figures.get(figure)) is not None]
