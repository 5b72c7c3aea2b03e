"""A finished study as arrays, read from the ledger or from published tables: what can be searched again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, select

from pairsearch.search.database.column_types import WrongValueError, required
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations, curves, runs
from pairsearch.search.errors import InputError
from pairsearch.search.ledger.rows import read_configuration, read_curve, read_figures
from pairsearch.search.ledger.studies import StoredStudy, seen_by
from pairsearch.search.results.evaluations import rounds_within
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition
from pairsearch.studies.problem import Metric, Traits

if TYPE_CHECKING:  # which imports Arrow
    from pairsearch.search.results.published import Published

FloatArray = npt.NDArray[np.float64]
Rounds = Mapping[str, Mapping[int, Mapping[str, float | None]]]

CHUNK = 20_000
"""Rows that are held at a time."""
KEYS = 500
"""Keys that one statement names: databases bound them."""


@dataclass(frozen=True, slots=True)
class StudyTable:
    """The finished configurations of a study, in the grid's order, with what they gave.

    Args:
        configurations: those that are finished.
        excluded: how many more have ended: diverged, pruned or failed.
        values: by figure of folds, (configurations, folds) after the last epoch, as stored; NaN where there is none.
        curves: by figure of folds, (configurations, epochs) means over the folds; NaN where a fold has none.
        seconds: (configurations,) of training, all folds together.
        rounds: finished rounds of the final evaluation, by the configuration's key and the round's number, their
            figures by name; of those that diverged, none. Configurations may be among them that are not finished.
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
        """How the figure reads by which configurations are compared."""
        return self.traits.metrics[self.definition.metric]


def mean_curve(points_of_folds: Sequence[Sequence[float]]) -> list[float | None]:
    """The mean over folds of each epoch; None where a fold has no finite figure.

    Their sum is rounded once, whatever the order (`math.fsum`), so that the bits depend on the figures alone.
    """
    return [
        fmean(points) if all(map(math.isfinite, points)) else None
        for points in zip_longest(*points_of_folds, fillvalue=math.nan)
    ]


def read_table(database: Database, study: StoredStudy) -> StudyTable:
    """The table of a study as the database holds it at one moment; raises as `Database.read`."""
    with database.snapshot() as connection:
        return table_within(connection, seen_by(connection, study))


def table_within(
    connection: Connection, study: StoredStudy, curves_of: Collection[str] | None = None
) -> StudyTable:
    """As `read_table`, as a transaction sees it.

    Args:
        curves_of: the figures whose curves are read, the others are NaN; None for all.
    """
    columns = configurations.c
    rows = connection.execute(
        select(columns.key, columns.params, columns.state, columns.seconds).where(
            columns.study_id == study.id, columns.state.in_([*COVERED, State.FAILED])
        )
    ).all()
    places = {one.key: place for place, one in enumerate(study.definition.grid.configurations())}
    rows = sorted(rows, key=lambda row: places[row.key])
    finished = {row.key: row for row in rows if row.state == State.FINISHED}
    for row in finished.values():
        required(configurations.name, row, "seconds")
    rounds: dict[str, dict[int, Mapping[str, float | None]]] = {}
    for one in rounds_within(connection, study):
        rounds.setdefault(one.key, {})[one.index] = one.figures
    return _table(
        study.definition,
        study.traits,
        [read_configuration(row.key, row.params) for row in finished.values()],
        len(rows) - len(finished),
        {key: row.seconds for key, row in finished.items()},
        _stored_values(connection, study),
        _stored_curves(connection, study, curves_of),
        rounds,
    )


Cell = tuple[str, str, int, float | None]
"""A configuration's key, a figure, a fold and its value."""
Curve = tuple[str, str, Sequence[float | None]]
"""A configuration's key, a figure and its means by epoch."""


def _stored_values(
    connection: Connection, study: StoredStudy, *within: ColumnElement[bool]
) -> Iterator[Cell]:
    c = runs.c
    statement = select(c.id, c.key, c.run, c.figures).where(c.study_id == study.id, c.kind == "fold", *within)
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        for run_id, key, fold, text in streamed:
            if not 0 <= fold < study.definition.folds:
                wanted = f"number below {study.definition.folds}"
                raise WrongValueError(runs.name, "run", wanted, fold, f"id={run_id}")
            for figure, value in read_figures(text).items():
                yield key, figure, fold, value


def finished_folds(
    connection: Connection, study: StoredStudy, but: Collection[str] = ()
) -> dict[str, FloatArray]:
    """(folds,) of the study's metric of each finished configuration, by key and NaN where there is none.

    Args:
        but: not of these keys.
    """
    c = configurations.c
    finished = select(c.key).where(c.study_id == study.id, c.state == State.FINISHED).order_by(c.rank)
    new = [key for key in connection.execute(finished).scalars() if key not in but]
    found = {key: np.full(study.definition.folds, np.nan) for key in new}
    for start in range(0, len(new), KEYS):
        mine = runs.c.key.in_(new[start : start + KEYS])
        for key, figure, fold, value in _stored_values(connection, study, mine):
            if figure == study.definition.metric and value is not None:
                found[key][fold] = value
    return found


def _stored_curves(
    connection: Connection, study: StoredStudy, figures: Collection[str] | None
) -> Iterator[Curve]:
    """Of those that have one for each fold."""
    statement = (
        select(runs.c.id, runs.c.key, curves.c.figure, runs.c.epochs, curves.c.points)
        .join(curves, curves.c.run_id == runs.c.id)
        .where(runs.c.study_id == study.id, runs.c.kind == "fold")
        .order_by(runs.c.key, curves.c.figure, runs.c.run)
    )
    if figures is not None:
        statement = statement.where(curves.c.figure.in_(figures))
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        for (key, figure), rows in groupby(streamed, key=lambda row: (row.key, row.figure)):
            folds = [read_curve(row.id, row.points, row.epochs) for row in rows]
            if len(folds) == study.definition.folds:
                yield key, figure, mean_curve(folds)


def published_table(published: Published, name: str) -> StudyTable:
    """The table of a published study.

    Raises:
        InputError: it is not among them.
    """
    if name not in published.definitions:
        raise InputError(
            f"study {name} is not among the published ones: expected one of {', '.join(published.definitions)}"
        )
    definition, columns = published.definitions[name], published.layout
    rows_of = {key: published.folds.get((name, key), []) for key in published.points[name]}
    finished = {key: rows for key, rows in rows_of.items() if rows and rows[0]["state"] == State.FINISHED}
    return _table(
        definition,
        published.traits[name],
        [published.points[name][key] for key in finished],
        sum(map(bool, rows_of.values())) - len(finished),
        {key: rows[0]["seconds"] for key, rows in finished.items()},
        (
            (key, figure, row["fold"], row[column])
            for key, rows in finished.items()
            for row in rows
            for figure, column in columns.folds.figures.items()
        ),
        (
            (key, figure, [row[column] for row in published.curves.get((name, key), [])])
            for key in finished
            for figure, column in columns.curves.figures.items()
        ),
        {
            key: {row["round"]: _figures(row, columns.rounds.figures) for row in rows}
            for (study, key), rows in published.rounds.items()
            if study == name
        },
    )


def _figures(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, float | None]:
    return {} if row["diverged_epoch"] else {figure: row[column] for figure, column in columns.items()}


def _table(
    definition: Definition,
    traits: Traits,
    finished: Sequence[Configuration],
    excluded: int,
    seconds: Mapping[str, float],
    cells: Iterable[Cell],
    means: Iterable[Curve],
    rounds: Rounds,
) -> StudyTable:
    place = {one.key: index for index, one in enumerate(finished)}
    values = {figure: np.full((len(place), definition.folds), np.nan) for figure in traits.of_folds}
    curves_of = {figure: np.full((len(place), definition.epochs), np.nan) for figure in traits.of_folds}
    for key, figure, fold, value in cells:
        if key in place and figure in values and value is not None:
            values[figure][place[key], fold] = value
    for key, figure, points in means:
        if key in place and figure in curves_of:
            known = np.array(points[: definition.epochs], dtype=np.float64)
            curves_of[figure][place[key], : len(known)] = known
    return StudyTable(
        name=definition.name,
        definition=definition,
        traits=traits,
        configurations=tuple(finished),
        excluded=excluded,
        values=values,
        curves=curves_of,
        seconds=np.array([seconds[one.key] for one in finished], dtype=np.float64),
        rounds=rounds,
    )
