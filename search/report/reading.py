"""What a report needs from the database: one study in one reading, in a few queries; never writes.

Configurations are those of the verdict, read once. Curves are read for the few configurations that are drawn, and
provenance is grouped by the database, so that a study of a thousand configurations with hundreds of curve points each
is read in a fraction of a second.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from sqlalchemy import Connection, func, select
from sqlalchemy.sql.elements import ColumnElement

from pairsearch.search.database.column_types import WrongValueError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations, superseded
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.rows import read_figures as read_row_figures
from pairsearch.search.ledger.rows import read_runs
from pairsearch.search.ledger.studies import StoredStudy, seen_by
from pairsearch.search.redaction import conceal
from pairsearch.search.report.parameters import Parameter, Places, parameters_of, places_of
from pairsearch.search.results.evaluations import Round, rounds_within
from pairsearch.search.results.progress import Ended
from pairsearch.search.results.study_table import StudyTable, table_within
from pairsearch.search.verdict.reading import Figures, StudyVerdict, judge_figures, read_figures, telling
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Kind, Metric

TOP = 3
"""Configurations whose learning curves are drawn, fold by fold."""
SEARCHED = 2000
"""Configurations up to which a study is searched again."""
REASONS = 20
"""Reasons of one state that are listed, those of most configurations."""

columns = configurations.c


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration of the grid."""

    configuration: Configuration
    places: Places
    """Of its levels, in the order of the study's parameters."""
    state: State
    value: float | None
    figures: Mapping[str, float | None]
    """Means over folds; those of an earlier epoch where it was pruned."""
    seconds: float | None

    def figure(self, name: str) -> float | None:
        """A figure, None unless it is finished."""
        return self.figures.get(name) if self.state is State.FINISHED else None


def by_level(points: Sequence[Point], parameters: Sequence[Parameter], place: int) -> list[list[Point]]:
    """Points by the level of a parameter, of each of its levels."""
    groups: list[list[Point]] = [[] for _ in parameters[place].levels]
    for point in points:
        groups[point.places[place]].append(point)
    return groups


@dataclass(frozen=True, slots=True)
class Trained:
    """The curves of a configuration's folds or rounds."""

    configuration: Configuration
    runs: tuple[RunResult, ...]


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
    parameters: tuple[Parameter, ...]
    points: tuple[Point, ...]
    """The best first; ties, and those without a value, in the order of the grid's lay-out."""
    evaluated: Mapping[str, tuple[Round, ...]]
    """Rounds by the configuration's key, of every configuration that has one."""
    rounds: Mapping[str, Trained]
    """Curves of the rounds of the best and of the paper's configuration, by key, as far as they have any."""
    top: tuple[Trained, ...]
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

    table: StudyTable | None = field(compare=False)
    """Of a study that is small enough to be searched again; None for others."""
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
        return [point for point in self.points if point.state == State.FINISHED and point.value is not None]

    @property
    def compared(self) -> dict[str, Metric]:
        """The figures by which configurations can be compared: of folds, not of the examples that were trained on."""
        metric = self.study.definition.metric
        reported = {name for point in self.finished for name in point.figures}
        return {
            name: how
            for name, how in self.study.traits.of_folds.items()
            if name == metric or (name in reported and not how.training)
        }

    @property
    def best(self) -> Configuration | None:
        """The search's best configuration so far."""
        points = self.finished
        return points[0].configuration if points else None

    @property
    def paper(self) -> Configuration | None:
        """The configuration that a paper states."""
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
    figures = read_figures(connection, study)
    parameters = parameters_of(study.choices, figures.configurations.values())
    points = _points(figures, parameters)
    rounds = rounds_within(connection, study)
    evaluated = {key: tuple(found) for key, found in groupby(rounds, key=lambda entry: entry.key)}
    best = [point.configuration for point in points if point.state == State.FINISHED][:TOP]
    paper = [] if study.definition.paper is None else [study.definition.paper.configuration]
    drawn = {configuration.key: configuration for configuration in (*best[:1], *paper)}

    def trained(configuration: Configuration, kind: Kind) -> Trained:
        return Trained(configuration, tuple(read_runs(connection, study.id, configuration.key, kind)))

    reading = partial(
        Reading,
        study=study,
        parameters=parameters,
        points=points,
        evaluated=evaluated,
        rounds={
            key: trained(configuration, "round") for key, configuration in drawn.items() if key in evaluated
        },
        top=tuple(trained(configuration, "fold") for configuration in best),
        origins=(*_origins(connection, mine), *_round_origins(rounds)),
        remarks=_remarks(connection, mine),
        superseded=late,
        errors=int(totals[0]),
        claims=int(totals[1]),
        first_result=totals[2],
        last_result=totals[3],
        table=table_within(connection, study, [study.definition.metric])
        if len(figures.rows) <= SEARCHED
        else None,
    )
    return reading, figures


def _points(figures: Figures, parameters: Sequence[Parameter]) -> tuple[Point, ...]:
    found = [figures.configurations[row.key] for row in figures.rows]
    points = []
    for row, configuration, places in zip(figures.rows, found, places_of(parameters, found), strict=True):
        if places is None:
            wanted = "values of the study's grid"
            raise WrongValueError(configurations.name, "params", wanted, row.params, f"key={row.key!a}")
        points.append(
            Point(
                configuration, places, State(row.state), row.value, read_row_figures(row.figures), row.seconds
            )
        )
    return tuple(points)


def _origins(connection: Connection, mine: ColumnElement[bool]) -> list[Origin]:
    rows = connection.execute(
        select(columns.provenance, func.count(), func.sum(columns.seconds))
        .where(mine, columns.provenance.is_not(None))
        .group_by(columns.provenance)
        .order_by(func.count().desc(), columns.provenance)
    ).all()
    return [Origin("search", count, float(seconds or 0), _facts(text)) for text, count, seconds in rows]


def _round_origins(rounds: Sequence[Round]) -> list[Origin]:
    found: dict[str, list[Round]] = {}
    for entry in rounds:
        found.setdefault(json.dumps(entry.provenance), []).append(entry)
    ordered = sorted(found.items(), key=lambda group: (-len(group[1]), group[0]))
    return [
        Origin("evaluation", len(group), sum(entry.seconds for entry in group), _facts(text))
        for text, group in ordered
    ]


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
