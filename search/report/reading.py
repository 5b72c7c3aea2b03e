"""What a report needs from the database: one study in one reading, in a few queries; never writes.

Curves are read for the few configurations that are drawn, provenance is grouped by the database, so that a study
of a thousand configurations with hundreds of curve points each is read in a fraction of a second.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Integer, func, select
from sqlalchemy.sql.elements import ColumnElement

from pairsearch.search.database.column_types import required
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations, curves, round_curves, rounds, superseded
from pairsearch.search.ledger.rows import read_configuration
from pairsearch.search.ledger.studies import StoredStudy, seen_by
from pairsearch.search.redaction import conceal
from pairsearch.search.results.progress import Ended
from pairsearch.search.verdict.reading import Figures, StudyVerdict, judge_figures, read_figures, telling
from pairsearch.studies.configuration import Configuration

TOP = 3
"""Configurations whose learning curves are drawn, fold by fold."""
REASONS = 20
"""Reasons of one state that are listed, those of most configurations."""

Curve = tuple[float | None, ...]
"""A figure by epoch, from the first; None where it was not finite."""

columns = configurations.c


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration of the grid; figures are means over folds, errors fractions in [0, 1]."""

    configuration: Configuration
    state: State
    value: float | None
    val_loss: float | None
    val_error: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Round:
    """One finished round of the final evaluation; a diverged one has no errors."""

    round: int
    train_error: float | None
    test_error: float | None
    diverged: bool
    seconds: float
    train_curve: Curve
    test_curve: Curve


@dataclass(frozen=True, slots=True)
class FoldCurves:
    """Learning curves of one configuration, a curve for each fold."""

    configuration: Configuration
    value: float
    train_loss: tuple[Curve, ...]
    val_loss: tuple[Curve, ...]
    val_error: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Results that one program on one machine computed."""

    work: str
    """`search` or `evaluation`."""
    results: int
    seconds: float
    facts: Mapping[str, str]
    """Versions, git commit, host, processor, backend, device."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Why configurations failed, diverged or were pruned."""

    state: State
    reason: str
    configurations: int
    example: str
    """Key of one of them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A study as the database held it at one moment."""

    study: StoredStudy
    points: tuple[Point, ...]
    """In the order of claims."""
    evaluated: Mapping[str, tuple[Round, ...]]
    """Rounds by the configuration's key, of every configuration that has one."""
    top: tuple[FoldCurves, ...]
    origins: tuple[Origin, ...]
    remarks: tuple[Remark, ...]
    superseded: int
    """Late results that were kept and count nowhere."""
    errors: int
    """Attempts that ended in an exception."""
    claims: int
    first_result: float | None
    last_result: float | None
    """Seconds since 1970 on the database's clock."""

    judged: StudyVerdict

    @property
    def counts(self) -> dict[State, int]:
        """Configurations by state, all states named."""
        found = Counter(point.state for point in self.points)
        return {state: found[state] for state in State}

    @property
    def covered(self) -> int:
        """Configurations that have a result."""
        return sum(self.counts[state] for state in COVERED)

    @property
    def ended(self) -> Ended:
        """How the configurations ended, for where none is finished."""
        examples = (f"{remark.example}: {remark.reason}" for remark in self.remarks)
        return Ended({state.value: count for state, count in self.counts.items()}, next(examples, None))

    @property
    def finished(self) -> list[Point]:
        """The finished configurations, the best first; ties in the order of the grid's lay-out."""
        points = [point for point in self.points if point.state == State.FINISHED and point.value is not None]
        return sorted(points, key=lambda point: point.value or 0.0)

    @property
    def best(self) -> Configuration | None:
        """The search's best configuration so far."""
        points = self.finished
        return points[0].configuration if points else None

    @property
    def paper(self) -> Configuration | None:
        """The configuration that the paper's Table 1 states."""
        stated = self.study.definition.paper
        return None if stated is None else stated.configuration


def read(database: Database, study: StoredStudy) -> Reading:
    """Read a study and judge it, as the database holds it at one moment; raises as `Database.read` does."""
    (reading,) = read_all(database, [study])
    return reading


def read_all(
    database: Database, studies: Sequence[StoredStudy], tell: Callable[[str], None] = lambda _: None
) -> list[Reading]:
    """Read studies, all as the database holds them at one moment, and judge them.

    Args:
        tell: is told what is being done.

    Raises:
        StudyError: one has been deleted.
        PairsearchError: as `Database.read`.
    """
    unjudged = []
    with database.snapshot() as connection:
        for study in studies:
            tell(f"reading {study.name}")
            unjudged.append(_read(connection, seen_by(connection, study)))
    # Judged when the transaction is over: it may take a while.
    readings = []
    for unjudged_reading, figures in unjudged:
        step = f"judging the {len(figures.rows):,} configurations of {figures.study.name}"
        judged = judge_figures(figures, progress=telling(step, tell))
        readings.append(unjudged_reading(judged=judged))
    return readings


def _read(connection: Connection, study: StoredStudy) -> tuple[partial[Reading], Figures]:
    """A reading that only lacks its verdict, and what that is made from."""
    mine = columns.study_id == study.id
    totals = connection.execute(
        select(
            func.coalesce(func.sum(columns.errors), 0),
            func.coalesce(func.sum(columns.claims), 0),
            func.min(columns.finished_at),
            func.max(columns.finished_at),
        ).where(mine)
    ).one()
    late = connection.execute(
        select(func.count())
        .select_from(superseded)
        .join(configurations, columns.id == superseded.c.configuration_id)
        .where(mine)
    ).scalar_one()
    reading = partial(
        Reading,
        study=study,
        points=_points(connection, mine),
        evaluated=_evaluated(connection, study.id),
        top=_top(connection, mine),
        origins=(*_origins(connection, mine), *_round_origins(connection, study.id)),
        remarks=_remarks(connection, mine),
        superseded=late,
        errors=int(totals[0]),
        claims=int(totals[1]),
        first_result=totals[2],
        last_result=totals[3],
    )
    return reading, read_figures(connection, study)


def _points(connection: Connection, mine: ColumnElement[bool]) -> tuple[Point, ...]:
    names = ("id", "key", "params", "state", "value", "val_loss", "val_error", "seconds")
    found = connection.execute(
        select(*(columns[name] for name in names)).where(mine).order_by(columns.rank)
    ).all()
    for row in found:
        if row.state == State.FINISHED:
            required(configurations.name, row, "value", "seconds")
    return tuple(
        Point(
            read_configuration(row.key, row.params),
            State(row.state),
            row.value,
            row.val_loss,
            row.val_error,
            row.seconds,
        )
        for row in found
    )


def _evaluated(connection: Connection, study_id: int) -> dict[str, tuple[Round, ...]]:
    points = connection.execute(
        select(round_curves.c.round_id, round_curves.c.train_error, round_curves.c.test_error)
        .join(rounds, rounds.c.id == round_curves.c.round_id)
        .where(rounds.c.study_id == study_id)
        .order_by(round_curves.c.round_id, round_curves.c.epoch)
    ).all()
    by_round: dict[int, tuple[list[float | None], list[float | None]]] = {}
    for round_id, train, test in points:
        train_curve, test_curve = by_round.setdefault(round_id, ([], []))
        train_curve.append(train)
        test_curve.append(test)
    found: dict[str, list[Round]] = {}
    rows = connection.execute(
        select(rounds).where(rounds.c.study_id == study_id).order_by(rounds.c.key, rounds.c.round)
    ).all()
    for row in rows:
        if row.diverged_epoch is None:
            required(rounds.name, row, "train_error", "test_error")
        train_curve, test_curve = by_round.get(row.id, ([], []))
        found.setdefault(row.key, []).append(
            Round(
                round=row.round,
                train_error=row.train_error,
                test_error=row.test_error,
                diverged=row.diverged_epoch is not None,
                seconds=row.seconds,
                train_curve=tuple(train_curve),
                test_curve=tuple(test_curve),
            )
        )
    return {key: tuple(entries) for key, entries in found.items()}


def _top(connection: Connection, mine: ColumnElement[bool]) -> tuple[FoldCurves, ...]:
    rows = connection.execute(
        select(columns.id, columns.key, columns.params, columns.value)
        .where(mine, columns.state == State.FINISHED, columns.value.is_not(None))
        .order_by(columns.value, columns.rank)
        .limit(TOP)
    ).all()
    return tuple(_fold_curves(connection, row) for row in rows)


def _fold_curves(connection: Connection, row: Any) -> FoldCurves:
    points = connection.execute(
        select(curves.c.fold, curves.c.train_loss, curves.c.val_loss, curves.c.val_error)
        .where(curves.c.configuration_id == row.id)
        .order_by(curves.c.fold, curves.c.epoch)
    ).all()
    folds = sorted({point.fold for point in points})

    def of(name: str) -> tuple[Curve, ...]:
        return tuple(tuple(getattr(point, name) for point in points if point.fold == fold) for fold in folds)

    configuration = read_configuration(row.key, row.params)
    return FoldCurves(configuration, row.value, of("train_loss"), of("val_loss"), of("val_error"))


def _origins(connection: Connection, mine: ColumnElement[bool]) -> list[Origin]:
    rows = connection.execute(
        select(columns.provenance, func.count(), func.sum(columns.seconds))
        .where(mine, columns.provenance.is_not(None))
        .group_by(columns.provenance)
        .order_by(func.count().desc(), columns.provenance)
    ).all()
    return [Origin("search", count, float(seconds or 0), _facts(text)) for text, count, seconds in rows]


def _round_origins(connection: Connection, study_id: int) -> list[Origin]:
    rows = connection.execute(
        select(rounds.c.provenance, func.count().cast(Integer), func.sum(rounds.c.seconds))
        .where(rounds.c.study_id == study_id)
        .group_by(rounds.c.provenance)
        .order_by(func.count().desc(), rounds.c.provenance)
    ).all()
    return [Origin("evaluation", count, float(seconds or 0), _facts(text)) for text, count, seconds in rows]


def _facts(text: str) -> dict[str, str]:
    parsed = json.loads(text)
    return {str(name): str(value) for name, value in parsed.items()} if isinstance(parsed, dict) else {}


def _remarks(connection: Connection, mine: ColumnElement[bool]) -> tuple[Remark, ...]:
    found: list[Remark] = []
    for state in (State.FAILED, State.DIVERGED, State.PRUNED):
        rows = connection.execute(
            select(columns.reason, func.count(), func.min(columns.key))
            .where(mine, columns.state == state)
            .group_by(columns.reason)
            .order_by(func.count().desc(), columns.reason)
            .limit(REASONS)
        ).all()
        found += [
            # The text of an exception may hold a URL with its password, and a report is made to be passed on.
            Remark(state, conceal(reason or "no reason given"), count, key)
            for reason, count, key in rows
        ]
    return tuple(found)
