"""Reads the figures of folds: for verdicts, for tables of finished studies, and for races."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Select, select

from pairsearch.search.database.column_types import WrongValueError
from pairsearch.search.database.states import OPEN, State
from pairsearch.search.database.tables import configurations, runs
from pairsearch.search.ledger.rows import read_configuration, read_figures
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.ranking import best_first
from pairsearch.studies.configuration import Configuration

if TYPE_CHECKING:  # NumPy is imported only if there is something to judge
    from pairsearch.studies.intervals import FloatArray

# A row of `configurations`; releases of SQLAlchemy differ in the type parameters of `Row`.
Row = Any

CHUNK = 20_000
"""Rows in memory at a time."""

FoldFigure = tuple[str, str, int, float | None]
"""Key of a configuration, name of a figure, fold, value."""


def fold_figures(
    connection: Connection, study: StoredStudy, *within: ColumnElement[bool]
) -> Iterator[FoldFigure]:
    """Yield the figures of a study's folds after their last epoch, as stored, in no particular order.

    Args:
        within: further conditions on the rows of `runs`.
    """
    c = runs.c
    statement = select(c.id, c.key, c.run, c.figures).where(c.study_id == study.id, c.kind == "fold", *within)
    for run_id, key, fold, text in stream(connection, statement):
        if fold >= study.definition.folds:
            wanted = f"number below {study.definition.folds}"
            raise WrongValueError(runs.name, "run", wanted, fold, f"id={run_id}")
        for figure, value in read_figures(text).items():
            yield key, figure, fold, value


def stream(connection: Connection, statement: Select[Any]) -> Iterator[Any]:
    """Yield the rows of a statement, some of which are in memory at a time."""
    # `yield_per` opens a server-side cursor on PostgreSQL; SQLite returns rows one by one anyway.
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        yield from streamed


@dataclass(frozen=True, slots=True)
class Unjudged:
    """What a verdict is about, from one snapshot of the database."""

    study: StoredStudy
    rows: Sequence[Row]
    """Rows of the configurations in any state, ordered by value, then by claim."""
    configurations: Mapping[str, Configuration]
    """The configurations of the rows, by key."""
    values: FloatArray | None
    """(configurations, folds) of the study's metric, NaN where there is none; None if nothing is finished. Lower is
    better: a metric that is maximised has its sign changed."""

    @property
    def ended(self) -> list[bool]:
        """Whether each configuration is trained, or will not be."""
        return [row.state not in OPEN for row in self.rows]

    @property
    def finished(self) -> list[tuple[Row, dict[str, float | None]]]:
        """The finished configurations, with their figures as means over folds."""
        return [(row, read_figures(row.figures)) for row in self.rows if row.state == State.FINISHED]

    @property
    def folds(self) -> Iterator[FoldFigure]:
        """The study's metric in each fold, as it is stored."""
        if self.values is not None:
            metric, sign = self.study.definition.metric, self.study.metric.sign
            for row, values in zip(self.rows, (sign * self.values).tolist(), strict=True):
                for fold, value in enumerate(values):
                    yield row.key, metric, fold, value


def read_unjudged(connection: Connection, study: StoredStudy) -> Unjudged:
    """Read what a study has so far."""
    c = configurations.c
    names = ("id", "key", "params", "state", "value", "figures", "seconds")
    rows = connection.execute(
        select(*(c[name] for name in names)).where(c.study_id == study.id).order_by(best_first(study), c.id)
    ).all()
    finished = [row for row in rows if row.state == State.FINISHED]
    points = {row.key: read_configuration(row.key, row.params) for row in rows}
    if not finished:
        return Unjudged(study, rows, points, None)
    import numpy as np  # noqa: PLC0415

    metric, sign = study.definition.metric, study.metric.sign
    values = np.full((len(rows), study.definition.folds), np.nan)
    # A pruned configuration has figures too, but of an earlier epoch.
    places = {row.key: place for place, row in enumerate(rows) if row.state == State.FINISHED}
    for key, name, fold, value in fold_figures(connection, study):
        place = places.get(key)
        if place is not None and name == metric and value is not None:
            values[place, fold] = sign * value
    return Unjudged(study, rows, points, values)
