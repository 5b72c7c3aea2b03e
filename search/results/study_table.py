"""Reads a finished study as arrays, so that it can be searched again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from statistics import fmean

import numpy as np
from sqlalchemy import Connection, and_, case, func, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import OPEN, State
from pairsearch.search.database.tables import configurations, curves, runs
from pairsearch.search.ledger.rows import MEAN, read_curve, read_points
from pairsearch.search.ledger.studies import StoredStudy, seen_by
from pairsearch.search.results.evaluations import Round, rounds_within
from pairsearch.search.results.fold_figures import Unjudged, fold_figures, read_unjudged, stream
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import LARGEST, Definition
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
        seen = seen_by(connection, study)
        unjudged = read_unjudged(connection, seen, seen.traits.of_folds)
        return table_within(connection, unjudged, rounds_within(connection, seen))


def table_within(
    connection: Connection,
    unjudged: Unjudged,
    rounds: Sequence[Round],
    curves_of: Collection[str] | None = None,
) -> StudyTable:
    """Make the table of a study that was read in the caller's transaction; what was not read of folds is NaN.

    Mean curves are read of the figures `curves_of`, None for all; those of others are NaN.
    """
    study, definition, points = unjudged.study, unjudged.study.definition, unjudged.points
    order = {one.key: place for place, one in enumerate(definition.grid.configurations())}
    rows = [row for row, one in enumerate(points) if one.state == State.FINISHED]
    rows.sort(key=lambda row: order[points[row].key])
    finished = [points[row] for row in rows]
    places = {one.key: place for place, one in enumerate(finished)}
    none = np.full((len(points), definition.folds), np.nan)
    values = {name: unjudged.values.get(name, none)[rows] for name in study.traits.of_folds}
    means = {name: np.full((len(places), definition.epochs), np.nan) for name in values}
    for key, _, _, read in mean_curves(read_curves(connection, study, ("fold", MEAN), curves_of)):
        for name in read.keys() & means.keys() if key in places else ():
            known = read[name][: definition.epochs]
            means[name][places[key], : len(known)] = known
    rounds_of: dict[str, dict[int, Mapping[str, float | None]]] = {}
    for one in rounds:
        rounds_of.setdefault(one.key, {})[one.index] = one.figures
    return StudyTable(
        name=definition.name,
        definition=definition,
        traits=study.traits,
        configurations=tuple(one.configuration for one in finished),
        excluded=sum(one.state not in OPEN for one in points) - len(finished),
        values=values,
        curves=means,
        seconds=np.array([one.seconds for one in finished], dtype=np.float64),
        rounds=rounds_of,
    )


def finished_folds(
    connection: Connection, study: StoredStudy, but: Collection[str] = ()
) -> dict[str, FloatArray]:
    """Read the study's metric in each fold of the finished configurations, without the keys in `but`.

    It is (folds,) by the configuration's key, NaN where a fold has no value.
    """
    c = configurations.c
    finished = select(c.key).where(c.study_id == study.id, c.state == State.FINISHED).order_by(c.rank)
    new = [key for key in connection.execute(finished).scalars() if key not in but]
    folds_of: dict[str, FloatArray] = {}
    for start in range(0, len(new), KEYS):
        some = new[start : start + KEYS]
        read = fold_figures(connection, study, some, [study.definition.metric], runs.c.key.in_(some))
        folds_of |= zip(some, read[study.definition.metric], strict=True)
    return folds_of


# Rounds may be of configurations beyond the grid, which come last, as they came into the database.
OF_RUNS = runs.join(
    configurations,
    and_(configurations.c.study_id == runs.c.study_id, configurations.c.key == runs.c.key),
    isouter=True,
)
IN_ORDER = (
    func.coalesce(configurations.c.rank, LARGEST),
    case((configurations.c.id.is_(None), runs.c.id), else_=configurations.c.id),
    runs.c.kind,
    runs.c.run,
)


Curves = tuple[str, str, int, Mapping[str, Sequence[float]]]
"""Key of a configuration, kind and number of a run, and its figures by epoch, by name; NaN where one was not finite."""


def read_curves(
    connection: Connection,
    study: StoredStudy,
    kinds: Sequence[str],
    figures: Collection[str] | None = None,
    within: Collection[str] | None = None,
) -> Iterator[Curves]:
    """Yield the curves of runs in the order of the search: of some figures, and of the keys `within`, or of all."""
    c = runs.c
    statement = (
        select(c.id, c.key, c.kind, c.run, c.epochs, curves.c.figure, curves.c.points)
        .select_from(OF_RUNS.join(curves, curves.c.run_id == c.id))
        .where(c.study_id == study.id, c.kind.in_(kinds))
        .order_by(*IN_ORDER, c.id)
    )
    if figures is not None:
        statement = statement.where(curves.c.figure.in_(figures))
    if within is not None:
        statement = statement.where(c.key.in_(within))
    for _, rows in groupby(stream(connection, statement), key=lambda row: row.id):
        of_run = list(rows)
        read = {row.figure: read_curve(row.id, row.points, row.epochs) for row in of_run}
        yield of_run[0].key, of_run[0].kind, of_run[0].run, read


def mean_curves(of_runs: Iterable[Curves]) -> Iterator[Curves]:
    """Reduce the curves of folds to their means; those that are means already stay as they are."""
    for key, group in groupby(of_runs, key=lambda one: one[0]):
        several = list(group)
        if stored := [one for one in several if one[1] == MEAN]:
            yield stored[0]
            continue
        of_folds = [read for *_, read in several]
        names = dict.fromkeys(name for read in of_folds for name in read)
        means = {name: read_points(mean_curve([read.get(name, ()) for read in of_folds])) for name in names}
        yield key, MEAN, 0, means
