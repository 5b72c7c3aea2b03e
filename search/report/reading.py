"""Reads everything that a report needs about a study, in a few queries; it never writes.

Configurations are read once, for the verdict too. Curves are read only for the few configurations that are drawn, and
the database groups provenance, so that a study of a thousand configurations with hundreds of curve points each is read
in a fraction of a second.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.sql.elements import ColumnElement

from pairsearch.search.common.redaction import conceal
from pairsearch.search.database.column_types import WrongValueError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations, jobs, provenances, runs, superseded
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.rows import MEAN, read_runs
from pairsearch.search.ledger.studies import StoredStudy, seen_by
from pairsearch.search.report.parameters import Parameter, Places, parameters_of, places_of
from pairsearch.search.results.chosen_figures import Choice, read_chosen
from pairsearch.search.results.evaluations import Round, rounds_within
from pairsearch.search.results.fold_figures import Point, Unjudged, read_unjudged
from pairsearch.search.results.progress import Ended, folds_ended
from pairsearch.search.results.study_table import StudyTable, table_within
from pairsearch.search.verdict.study_trade import StudyTrade, trade_on
from pairsearch.search.verdict.study_verdict import StudyVerdict, verdict_on
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Metric

TOP = 3
"""Number of best configurations whose learning curves are drawn."""
SEARCHED = 2000
"""A study with more configurations is not searched again in the report."""
REASONS = 20
"""Number of reasons that are listed for each state, the most frequent ones."""

columns = configurations.c


@dataclass(frozen=True, slots=True)
class Origin:
    """The number of results that one program on one machine computed."""

    work: str
    """`search`, `search, folds` or `evaluation`."""
    results: int
    seconds: float
    facts: Mapping[str, str]
    """Versions, git commit, host, processor, backend, device."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A reason why configurations failed, diverged or were pruned."""

    state: State
    reason: str
    configurations: int
    example: str
    """Key of one of these configurations."""


@dataclass(frozen=True)
class Reading:
    """A study as it was in a snapshot of the database."""

    study: StoredStudy
    parameters: tuple[Parameter, ...]
    points: tuple[Point, ...]
    """All configurations, as in `Unjudged`."""
    places: Mapping[str, Places]
    """For each point, by key, the indices of its levels, in the order of `parameters`."""
    evaluated: Mapping[str, tuple[Round, ...]]
    """Rounds by the configuration's key, for every configuration that has some."""
    rounds: Mapping[str, Sequence[RunResult]]
    """Curves of the rounds of the best and the paper's configuration, by key."""
    top: tuple[Sequence[RunResult], ...]
    """Curves of the folds of the best configurations, the first ones of `finished`."""
    of_mean: bool
    """Whether those are of the mean over folds only, because results were loaded without curves of single folds."""
    origins: tuple[Origin, ...]
    remarks: tuple[Remark, ...]
    superseded: int
    """Number of late results, which count nowhere."""
    errors: int
    """Number of attempts that ended in an exception."""
    claims: int
    """Number of claims."""
    folds: tuple[int, int] | None
    """How many folds have ended, and how many there are, where workers take them one by one; else None."""
    first_result: float | None
    """Seconds since 1970 on the database's clock; so is the next."""
    last_result: float | None

    table: StudyTable | None = field(compare=False)
    """The table for searching again; None if the study is too large."""
    judged: StudyVerdict
    trade: StudyTrade | None = None
    """The trade-off that was asked for; None where none was, or no configuration has all its figures."""

    @cached_property
    def counts(self) -> dict[State, int]:
        counter = Counter(point.state for point in self.points)
        return {state: counter[state] for state in State}

    @property
    def covered(self) -> int:
        return sum(self.counts[state] for state in COVERED)

    @property
    def ended(self) -> Ended:
        """How the configurations ended, for messages if none is finished."""
        examples = (f"{remark.example}: {remark.reason}" for remark in self.remarks)
        return Ended({state.value: count for state, count in self.counts.items()}, next(examples, None))

    @cached_property
    def finished(self) -> list[Point]:
        """The finished configurations, the best first, ties in the order of claims."""
        return [point for point in self.points if point.state == State.FINISHED]

    @cached_property
    def compared(self) -> dict[str, Metric]:
        """The figures of folds by which configurations can be compared, without those of training examples."""
        metric = self.study.definition.metric
        reported = {name for point in self.finished for name in point.figures}
        return {
            name: how
            for name, how in self.study.traits.of_folds.items()
            if name == metric or (name in reported and not how.training)
        }

    @property
    def best(self) -> Configuration | None:
        points = self.finished
        return points[0].configuration if points else None

    @property
    def paper(self) -> Configuration | None:
        """The paper's configuration, None if the definition has none."""
        stated = self.study.definition.paper
        return None if stated is None else stated.configuration


def read_all(
    database: Database,
    studies: Sequence[StoredStudy],
    tell: Callable[[str], None] = lambda _: None,
    trade: Choice | None = None,
) -> list[Reading]:
    """Read studies from one snapshot of the database, and judge them, by chosen figures too.

    Raises:
        StudyError: a study was deleted, or lacks a chosen figure.
    """
    read_studies = []
    with database.snapshot() as connection:
        for study in studies:
            tell(f"reading {study.name}")
            seen = seen_by(connection, study)
            chosen = None if trade is None else read_chosen(connection, seen, trade)
            read_studies.append((*_read(connection, seen), chosen))
    # Judging may take a while, so it comes after the transaction.
    readings = []
    for reading, unjudged, chosen in read_studies:
        judged = verdict_on(unjudged, tell=tell)
        readings.append(reading(judged=judged, trade=None if chosen is None else trade_on(chosen, judged)))
    return readings


def _read(connection: Connection, study: StoredStudy) -> tuple[partial[Reading], Unjudged]:
    """Read a study; return the reading without its verdict, and what to judge."""
    mine = columns.study_id == study.id
    errors, claims, first, last = connection.execute(
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
        .join(jobs, jobs.c.id == superseded.c.job_id)
        .where(jobs.c.study_id == study.id)
    ).scalar_one()
    unjudged = read_unjudged(connection, study)
    points = unjudged.points
    parameters = parameters_of(study.choices, (point.configuration for point in points))
    rounds = rounds_within(connection, study)
    evaluated = {key: tuple(entries) for key, entries in groupby(rounds, key=lambda entry: entry.key)}
    best = [point.key for point in points if point.state == State.FINISHED][:TOP]
    paper = [] if study.definition.paper is None else [study.definition.paper.configuration.key]
    folds = [read_runs(connection, study.id, key, "fold") for key in best]
    means = [
        [] if any(run.curves for run in of) else read_runs(connection, study.id, key, MEAN)
        for key, of in zip(best, folds, strict=True)
    ]

    of_rounds = select(runs.c.provenance_id, runs.c.seconds).where(
        runs.c.study_id == study.id, runs.c.kind == "round"
    )
    metric, searched = study.definition.metric, len(points) <= SEARCHED
    reading = partial(
        Reading,
        study=study,
        parameters=parameters,
        points=points,
        places=_places(parameters, points),
        evaluated=evaluated,
        rounds={
            key: read_runs(connection, study.id, key, "round")
            for key in dict.fromkeys((*best[:1], *paper))
            if key in evaluated
        },
        top=tuple(mean or of for mean, of in zip(means, folds, strict=True)),
        of_mean=any(means),
        origins=(
            *_origins(connection, *_of_search(study)),
            *_origins(connection, "evaluation", of_rounds),
        ),
        remarks=_remarks(connection, mine),
        superseded=late,
        errors=int(errors),
        claims=int(claims),
        folds=folds_ended(connection, study, len(points)),
        first_result=first,
        last_result=last,
        table=table_within(connection, unjudged, rounds, [metric]) if searched else None,
    )
    return reading, unjudged


def _places(parameters: Sequence[Parameter], points: Sequence[Point]) -> dict[str, Places]:
    found = {}
    each = places_of(parameters, (point.configuration for point in points))
    for point, places in zip(points, each, strict=True):
        if places is None:
            wanted, where = "values of the study's grid", f"key={point.key!a}"
            raise WrongValueError(configurations.name, "params", wanted, point.configuration.text, where)
        found[point.key] = places
    return found


def _of_search(study: StoredStudy) -> tuple[str, Select[int, float]]:
    """Return provenance and seconds of each result of the search, or of each fold where workers take single ones."""
    mine = columns.study_id == study.id
    if not study.folds_apart:
        return "search", select(columns.provenance_id, columns.seconds).where(mine)
    # Folds that were loaded have that of their configuration.
    origin = func.coalesce(runs.c.provenance_id, columns.provenance_id).label("provenance_id")
    of_folds = (runs.c.study_id == columns.study_id) & (runs.c.key == columns.key) & (runs.c.kind == "fold")
    return "search, folds", select(origin, runs.c.seconds).join(configurations, of_folds).where(mine)


def _origins(connection: Connection, work: str, results: Select[int, float]) -> list[Origin]:
    """Group results by what computed them, the most first."""
    known, origin = results.subquery().c, provenances.c
    rows = connection.execute(
        select(origin.facts, func.count(), func.sum(known.seconds))
        .join(provenances, origin.id == known.provenance_id)
        .group_by(origin.facts)
        .order_by(func.count().desc(), origin.facts)
    ).all()
    return [
        Origin(work, count, float(seconds or 0), {name: str(fact) for name, fact in json.loads(text).items()})
        for text, count, seconds in rows
    ]


def _remarks(connection: Connection, mine: ColumnElement[bool]) -> tuple[Remark, ...]:
    remarks: list[Remark] = []
    for state in (State.FAILED, State.DIVERGED, State.PRUNED):
        rows = connection.execute(
            select(columns.reason, func.count(), func.min(columns.key))
            .where(mine, columns.state == state)
            .group_by(columns.reason)
            .order_by(func.count().desc(), columns.reason)
            .limit(REASONS)
        ).all()
        # The text of an exception may contain a URL with its password, and reports are passed on.
        remarks += [Remark(state, conceal(reason or "no reason given"), *rest) for reason, *rest in rows]
    return tuple(remarks)
