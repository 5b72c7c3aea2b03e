"""Reads a finished study as arrays, so that it can be searched again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from statistics import fmean

import numpy as np
from sqlalchemy import Connection, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations, curves, runs
from pairsearch.search.ledger.rows import MEAN, read_configuration, read_curve
from pairsearch.search.ledger.studies import StoredStudy, seen_by
from pairsearch.search.results.evaluations import CHUNK, FoldFigure, Round, fold_figures, rounds_within
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition
from pairsearch.studies.intervals import FloatArray
from pairsearch.studies.problem import Metric, Traits

Rounds = Mapping[str, Mapping[int, Mapping[str, float | None]]]

KEYS = 500
"""Keys in one statement; databases limit the number of parameters."""


@dataclass(frozen=True, slots=True)
class StudyTable:
    """The finished configurations of a study, in grid order, with their results.

    Args:
        excluded: how many more have diverged, been pruned or failed.
        values: (configurations, folds) for each figure of folds: its value after the last epoch, as stored, or NaN.
        curves: (configurations, epochs) for each figure of folds: its mean over the folds, NaN where a fold has none.
        seconds: (configurations,) of training, all folds together.
        rounds: figures of the finished rounds of the final evaluation, by the configuration's key and the round's
            number; empty for rounds that diverged. The configurations need not be finished.
    """

    name: str
    definition: Definition
    traits: Traits
    configurations: tuple[Configuration, ...]
    excluded: int
    values: Mapping[str, FloatArray]
    curves: Mapping[str, FloatArray]
    seconds: FloatArray
    rounds: Rounds

    @property
    def metric(self) -> Metric:
        """The metric by which configurations are compared."""
        return self.traits.metrics[self.definition.metric]


def mean_curve(points_of_folds: Sequence[Sequence[float]]) -> list[float | None]:
    """Return the mean over folds for each epoch, None where a fold has no finite figure.

    `fmean` rounds the sum once (`math.fsum`), so that its bits do not depend on the order of the folds.
    """
    return [
        fmean(points) if all(map(math.isfinite, points)) else None
        for points in zip_longest(*points_of_folds, fillvalue=math.nan)
    ]


def read_table(database: Database, study: StoredStudy) -> StudyTable:
    """Read the table of a study from a snapshot of the database; raises what `Database.read` raises."""
    with database.snapshot() as connection:
        return table_within(connection, seen_by(connection, study))


def table_within(
    connection: Connection,
    study: StoredStudy,
    curves_of: Collection[str] | None = None,
    folds: Iterable[FoldFigure] | None = None,
    rounds: Sequence[Round] | None = None,
) -> StudyTable:
    """Read the table as `read_table` does, in the caller's transaction.

    Args:
        study: the study, as the transaction sees it.
        curves_of: figures whose curves are read, None for all; the curves of others are NaN.
        folds: figures of the folds where they were read before; those of others are NaN.
        rounds: the finished rounds where they were read before.
    """
    c, definition, figures = configurations.c, study.definition, study.traits.of_folds
    ended = select(c.key, c.params, c.state, c.seconds).where(
        c.study_id == study.id, c.state.in_([*COVERED, State.FAILED])
    )
    order = {one.key: place for place, one in enumerate(definition.grid.configurations())}
    rows = sorted(connection.execute(ended), key=lambda row: order[row.key])
    finished = [row for row in rows if row.state == State.FINISHED]
    places = {row.key: place for place, row in enumerate(finished)}
    values = {name: np.full((len(places), definition.folds), np.nan) for name in figures}
    means = {name: np.full((len(places), definition.epochs), np.nan) for name in figures}
    for key, name, fold, value in fold_figures(connection, study) if folds is None else folds:
        if key in places and name in values and value is not None:
            values[name][places[key], fold] = value
    for key, name, points in _stored_curves(connection, study, curves_of):
        if key in places and name in means:
            known = np.array(points[: definition.epochs], dtype=np.float64)
            means[name][places[key], : len(known)] = known
    rounds_of: dict[str, dict[int, Mapping[str, float | None]]] = {}
    for one in rounds_within(connection, study) if rounds is None else rounds:
        rounds_of.setdefault(one.key, {})[one.index] = one.figures
    return StudyTable(
        name=definition.name,
        definition=definition,
        traits=study.traits,
        configurations=tuple(read_configuration(row.key, row.params) for row in finished),
        excluded=len(rows) - len(finished),
        values=values,
        curves=means,
        seconds=np.array([row.seconds for row in finished], dtype=np.float64),
        rounds=rounds_of,
    )


Curve = tuple[str, str, Sequence[float | None]]
"""Key of a configuration, name of a figure, its mean over folds for each epoch."""


def finished_folds(
    connection: Connection, study: StoredStudy, but: Collection[str] = ()
) -> dict[str, FloatArray]:
    """Read the study's metric in each fold of the finished configurations.

    Args:
        but: keys of configurations to leave out.

    Returns:
        (folds,) by the configuration's key, NaN where a fold has no value.
    """
    c = configurations.c
    finished = select(c.key).where(c.study_id == study.id, c.state == State.FINISHED).order_by(c.rank)
    new = [key for key in connection.execute(finished).scalars() if key not in but]
    folds_of = {key: np.full(study.definition.folds, np.nan) for key in new}
    for start in range(0, len(new), KEYS):
        mine = runs.c.key.in_(new[start : start + KEYS])
        for key, figure, fold, value in fold_figures(connection, study, mine):
            if figure == study.definition.metric and value is not None:
                folds_of[key][fold] = value
    return folds_of


def _stored_curves(
    connection: Connection, study: StoredStudy, figures: Collection[str] | None
) -> Iterator[Curve]:
    """Yield the mean curves of the configurations that have a curve for every fold, or were loaded with mean curves."""
    statement = (
        select(runs.c.id, runs.c.key, runs.c.kind, curves.c.figure, runs.c.epochs, curves.c.points)
        .join(curves, curves.c.run_id == runs.c.id)
        .where(runs.c.study_id == study.id, runs.c.kind.in_(("fold", MEAN)))
        .order_by(runs.c.key, curves.c.figure, runs.c.kind, runs.c.run)
    )
    if figures is not None:
        statement = statement.where(curves.c.figure.in_(figures))
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        for (key, figure), group in groupby(streamed, key=lambda row: (row.key, row.figure)):
            rows = list(group)
            read = [read_curve(row.id, row.points, row.epochs) for row in rows]
            if rows[0].kind == MEAN:
                yield key, figure, read[0]
            elif len(read) == study.definition.folds:
                yield key, figure, mean_curve(read)
