"""Converts results to rows of the tables, and rows to results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from pairsearch.search.database.bulk import insert_many
from pairsearch.search.database.column_types import WrongValueError
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations, curves, models, provenances, runs
from pairsearch.search.database.urls import POSTGRESQL
from pairsearch.search.ledger.outcome import Outcome, RunResult, finite
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Kind

MEAN: Literal["mean"] = "mean"
"""The kind of a run that is none: number 0, with the mean over folds of each figure by epoch. Results that were loaded
have it where the curves of single folds were not published; those folds have 0 epochs and no curves."""


def read_configuration(key: str, params: str) -> Configuration:
    """Return the configuration of a row; raises WrongValueError where its key is not that of its parameters."""
    configuration = Configuration.of_text(params)
    if configuration.key != key:
        raise WrongValueError(configurations.name, "params", "parameters of its key", params, f"key={key!a}")
    return configuration


def read_figures(text: str | None) -> dict[str, float | None]:
    """Return the figures of a row by name."""
    figures: dict[str, float | None] = json.loads(text) if text else {}
    return figures


def write_figures(figures: Mapping[str, float | None]) -> str:
    """Return figures as JSON, from which they are read back bit for bit."""
    return json.dumps(dict(figures), allow_nan=False)


def read_outcomes(connection: Connection, rows: Sequence[Any]) -> list[Outcome | None]:
    """Return the stored results of rows of configurations of one study, None for each that has none.

    It raises WrongValueError where the folds of a result are incomplete.
    """
    covered = [row for row in rows if row.state in COVERED]
    if not covered:
        return [None for _ in rows]
    of = _runs_of(connection, rows[0].study_id, [row.key for row in covered], ("fold", MEAN))
    p = provenances.c
    used = select(p.id, p.facts).where(p.id.in_({row.provenance_id for row in covered}))
    facts = {row.id: json.loads(row.facts) for row in connection.execute(used)}
    return [_outcome(row, of, facts) if row.state in COVERED else None for row in rows]


def _outcome(
    row: sa.Row[Any], of: Mapping[tuple[str, str], Sequence[RunResult]], facts: Mapping[int, dict[str, str]]
) -> Outcome:
    folds = of.get((row.key, "fold"), ())
    if not folds or [fold.index for fold in folds] != list(range(len(folds))):
        raise WrongValueError(runs.name, "run", "row for each fold", None, f"key={row.key!a}")
    return Outcome(
        state=State(row.state),
        value=row.value,
        figures=read_figures(row.figures),
        folds=tuple(folds),
        seconds=row.seconds,
        reason=row.reason,
        provenance=facts[row.provenance_id],
        mean=next(iter(of.get((row.key, MEAN), ())), None),
    )


def read_runs(
    connection: Connection, study_id: int, key: str, kind: Kind | Literal["mean"]
) -> list[RunResult]:
    """Return the stored folds or rounds of a configuration, or the mean of its folds, ordered by their index.

    It raises WrongValueError where a run has no curve, or a curve has not one point for each epoch.
    """
    return _runs_of(connection, study_id, [key], [kind]).get((key, kind), [])


def _runs_of(
    connection: Connection, study_id: int, keys: Sequence[str], kinds: Sequence[str]
) -> dict[tuple[str, str], list[RunResult]]:
    """Return runs by key and kind; raises what `read_runs` raises."""
    c = runs.c
    rows = connection.execute(
        select(c.id, c.key, c.kind, c.run, c.epochs, c.figures, c.diverged_epoch, c.seconds)
        .add_columns(curves.c.figure, curves.c.points)
        .join(curves, curves.c.run_id == c.id, isouter=True)
        .where(c.study_id == study_id, c.key.in_(keys), c.kind.in_(kinds))
        .order_by(c.run, c.id)
    )
    found: dict[tuple[str, str], list[RunResult]] = {}
    for _, group in groupby(rows, key=lambda row: row.id):
        of_run = list(group)
        first = of_run[0]
        read = {row.figure: read_curve(row.id, row.points, row.epochs) for row in of_run if row.figure}
        if first.epochs and not read:
            raise WrongValueError(curves.name, "points", "curve of each run", None, f"run_id={first.id}")
        known = None if first.epochs else read_figures(first.figures)
        made = RunResult(first.run, read, first.diverged_epoch, known, first.seconds)
        found.setdefault((first.key, first.kind), []).append(made)
    return found


def read_curve(run_id: int, text: str, epochs: int) -> list[float]:
    """Return the numbers of a curve; raises WrongValueError where there is not one for each epoch."""
    points = read_points(json.loads(text))
    if len(points) != epochs:
        raise WrongValueError(curves.name, "points", f"array of {epochs} numbers", text, f"run_id={run_id}")
    return points


def read_points(points: Sequence[float | None]) -> list[float]:
    """Return the points of a curve as numbers; None becomes NaN."""
    return [math.nan if point is None else float(point) for point in points]


def write_runs(
    connection: Connection,
    key: str,
    kind: Kind,
    results: Sequence[RunResult],
    about: Mapping[str, object],
    contents: Mapping[int, bytes] | None = None,
) -> None:
    """Insert runs of one configuration and kind, which end now, with their curves, in the caller's transaction.

    Args:
        about: further columns, the same for each run: its study and what is known where it was trained.
        contents: files of trained models, by the number of the run.
    """
    rows = [
        {
            "key": key,
            "kind": kind,
            "run": run.index,
            "epochs": run.epochs,
            "figures": write_figures(run.final),
            "diverged_epoch": run.diverged,
            "seconds": run.seconds,
            "facts": None if run.facts is None else json.dumps(dict(run.facts)),
            **about,
        }
        for run in results
    ]
    ids = insert_many(connection, runs, rows, runs.c.run, runs.c.finished_at)
    points = [
        {"run_id": ids[run.index], "figure": name, "points": json.dumps([finite(point) for point in curve])}
        for run in results
        for name, curve in run.curves.items()
    ]
    if points:
        insert_many(connection, curves, points)
    if contents:
        kept = [{"run_id": ids[number], "content": content} for number, content in contents.items()]
        connection.execute(insert(models), kept)


def stored_numbers(
    connection: Connection, study_id: int, key: str, kind: str, within: range
) -> tuple[int, ...]:
    """Return which runs of a configuration are stored, in their order."""
    c = runs.c
    mine = (c.study_id == study_id, c.key == key, c.kind == kind, c.run >= within.start, c.run < within.stop)
    return tuple(connection.execute(select(c.run).where(*mine).order_by(c.run)).scalars())


def provenance_id(connection: Connection, facts: Mapping[str, str]) -> int:
    """Return the id of the row of a provenance, which is inserted if there is none."""
    text = json.dumps(dict(facts))
    digest = hashlib.sha256(text.encode()).hexdigest()
    known = select(provenances.c.id).where(provenances.c.digest == digest)
    found = connection.execute(known).scalar()
    if found is None:
        added = postgresql.insert if connection.dialect.name == POSTGRESQL else sqlite.insert
        new = added(provenances).values(digest=digest, facts=text).on_conflict_do_nothing()
        connection.execute(new)
        found = connection.execute(known).scalar_one()
    return int(found)
