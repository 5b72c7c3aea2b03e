"""Reads the configurations of a study and the figures of folds: for verdicts, reports, tables and races."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Select, select

from pairsearch.search.database.column_types import WrongValueError
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, runs
from pairsearch.search.ledger.rows import read_configuration, read_figures
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.ranking import best_first
from pairsearch.studies.configuration import Configuration

if TYPE_CHECKING:  # NumPy is imported only if there is something to judge
    from pairsearch.studies.intervals import FloatArray

CHUNK = 20_000
"""Rows in memory at a time."""


def fold_figures(
    connection: Connection,
    study: StoredStudy,
    keys: Sequence[str],
    figures: Collection[str],
    *within: ColumnElement[bool],
) -> dict[str, FloatArray]:
    """Read figures of folds after their last epoch, as stored: (keys, folds) by name, NaN where there is none.

    `within` are further conditions on the rows of `runs`.
    """
    import numpy as np  # noqa: PLC0415

    c, folds = runs.c, study.definition.folds
    places = {key: place for place, key in enumerate(keys)}
    values = {name: np.full((len(keys), folds), np.nan) for name in figures}
    statement = select(c.id, c.key, c.run, c.figures).where(c.study_id == study.id, c.kind == "fold", *within)
    for run_id, key, fold, text in stream(connection, statement):
        if fold >= folds:
            raise WrongValueError(runs.name, "run", f"number below {folds}", fold, f"id={run_id}")
        for name, value in read_figures(text).items() if key in places else ():
            if name in values and value is not None:
                values[name][places[key], fold] = value
    return values


def stream(connection: Connection, statement: Select[Any]) -> Iterator[Any]:
    """Yield the rows of a statement, some of which are in memory at a time."""
    # `yield_per` opens a server-side cursor on PostgreSQL; SQLite returns rows one by one anyway.
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        yield from streamed


@dataclass(frozen=True, slots=True)
class Point:
    """A configuration of a study, with its result as far as it has one."""

    configuration: Configuration
    state: State
    value: float | None
    figures: Mapping[str, float | None]
    """Means over folds; those of an earlier epoch if the configuration was pruned."""
    seconds: float | None

    @property
    def key(self) -> str:
        return self.configuration.key

    @property
    def known(self) -> float:
        """The value of a finished configuration."""
        assert self.value is not None  # noqa: S101 - others are left out
        return self.value

    def figure(self, name: str) -> float | None:
        """Return a figure, None unless the configuration is finished."""
        return self.figures.get(name) if self.state is State.FINISHED else None


@dataclass(frozen=True, slots=True)
class Unjudged:
    """What a verdict is about, from one snapshot of the database."""

    study: StoredStudy
    points: tuple[Point, ...]
    """All configurations, the best first; ties, and those without a value, in the order of claims."""
    values: Mapping[str, FloatArray]
    """(points, folds) of the study's metric, and of other figures that were read, as they are stored: NaN where there
    is none, as for points that are not finished. Nothing if none is finished."""


def read_unjudged(
    connection: Connection, study: StoredStudy, figures: Collection[str] | None = None
) -> Unjudged:
    """Read what a study has so far, of folds the study's metric or else these figures."""
    c = configurations.c
    every = select(c.key, c.params, c.state, c.value, c.figures, c.seconds).where(c.study_id == study.id)
    points = tuple(
        Point(read_configuration(key, params), State(state), value, read_figures(figures), seconds)
        for key, params, state, value, figures, seconds in connection.execute(
            every.order_by(best_first(study), c.id)
        )
    )
    # A pruned configuration has figures too, but of an earlier epoch.
    unfinished = [one.state != State.FINISHED for one in points]
    if all(unfinished):
        return Unjudged(study, points, {})
    values = fold_figures(
        connection, study, [one.key for one in points], figures or [study.definition.metric]
    )
    for of_figure in values.values():
        of_figure[unfinished] = math.nan
    return Unjudged(study, points, values)
