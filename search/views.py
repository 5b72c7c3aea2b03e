"""Read-only views of a database: progress of studies, their best configurations, their evaluations.

Imports neither NumPy nor Optuna nor PyTorch, so that commands which only look start at once.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError

from search.catalogue import StoredStudy
from search.checked import required
from search.clock import now
from search.concealment import conceal
from search.database import Database
from search.faults import deleted_meanwhile
from search.states import COVERED, State
from search.tables import configurations, rounds
from studies.configuration import PARAMETERS, Configuration, Value

columns = configurations.c


@dataclass(frozen=True, slots=True)
class Ranked:
    """A finished configuration with its figures (means over folds; errors are fractions in [0, 1])."""

    rank: int
    """1 for the best."""
    configuration: Configuration
    value: float
    val_loss: float | None
    val_error: float | None
    seconds: float

    @property
    def params(self) -> dict[str, Value]:
        """The hyperparameters."""
        return self.configuration.params


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is, over its first `limit` configurations where there is a limit."""

    study: str
    metric: str
    total: int
    counts: dict[str, int]
    """Configurations by state."""
    best: Ranked | None
    failures: dict[str, str]
    """Reason by key of the configurations that failed."""
    recent_per_minute: float
    """Configurations that got a result in the last minute of the database's clock."""

    def count(self, *states: State) -> int:
        """How many configurations are in one of the states."""
        return sum(self.counts.get(state, 0) for state in states)

    @property
    def covered(self) -> int:
        """Configurations that have a result: finished, diverged or pruned."""
        return self.count(*COVERED)

    @property
    def open(self) -> int:
        """Configurations that are still to be finished."""
        return self.count(State.PENDING, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Ended:
    """How configurations of which none is finished ended."""

    counts: Mapping[str, int]
    """By state."""
    example: str | None
    """Key and reason of the first that has one."""

    def __str__(self) -> str:
        """Part of a sentence."""
        over = {
            state.value: self.counts.get(state, 0) for state in (State.DIVERGED, State.PRUNED, State.FAILED)
        }
        left = self.counts.get(State.PENDING, 0) + self.counts.get(State.RUNNING, 0)
        if not any(over.values()):
            return "no configuration is finished yet"
        said = [f"{count} {state}" for state, count in over.items() if count]
        if left:
            said.append(f"{left} still to be trained")
        example = "" if self.example is None else f" (for example {conceal(self.example)})"
        return f"no configuration is finished: {', '.join(said)}{example}"


def progress(database: Database, study: StoredStudy, limit: int | None = None) -> Progress:
    """How far a study is."""
    with database.snapshot() as connection:
        return seen(connection, study, limit)


def seen(connection: Connection, study: StoredStudy, limit: int | None = None) -> Progress:
    """As `progress`, as a transaction sees it."""
    within = [columns.study_id == study.id]
    if limit is not None:
        within.append(columns.rank < limit)
    states = connection.execute(
        select(columns.state, func.count()).where(*within).group_by(columns.state)
    ).all()
    failed = connection.execute(
        select(columns.key, columns.reason)
        .where(*within, columns.state == State.FAILED)
        .order_by(columns.rank)
    ).all()
    # Asked for once: SQLite would work it out for every row.
    minute_ago = select(now() - 60.0).scalar_subquery()
    recent = connection.execute(
        select(func.count()).where(*within, columns.state.in_(COVERED), columns.finished_at > minute_ago)
    ).scalar_one()
    top = ranked(connection, study, 1, limit)
    counts: Counter[str] = Counter(dict(states))
    return Progress(
        study=study.name,
        metric=study.definition.metric,
        total=sum(counts.values()),
        counts={state.value: counts[state] for state in State},
        best=top[0] if top else None,
        failures={key: reason or "" for key, reason in failed},
        recent_per_minute=float(recent),
    )


def best(database: Database, study: StoredStudy, top: int, limit: int | None = None) -> list[Ranked]:
    """The `top` finished configurations by the study's value, the best first; ties in the order of the grid."""
    with database.read() as connection:
        return ranked(connection, study, top, limit)


def ranked(connection: Connection, study: StoredStudy, top: int, limit: int | None = None) -> list[Ranked]:
    """As `best`, as a transaction sees it."""
    statement = (
        select(configurations)
        .where(columns.study_id == study.id, columns.state == State.FINISHED)
        .order_by(columns.value, columns.id)
        .limit(top)
    )
    if limit is not None:
        statement = statement.where(columns.rank < limit)
    rows = connection.execute(statement).all()
    for row in rows:
        required(configurations.name, row, "value", "seconds")
    return [
        Ranked(
            place,
            Configuration(**{name: getattr(row, name) for name in PARAMETERS}),
            row.value,
            row.val_loss,
            row.val_error,
            row.seconds,
        )
        for place, row in enumerate(rows, start=1)
    ]


def ended_without(connection: Connection, study: StoredStudy, limit: int | None = None) -> Ended:
    """How the configurations of a study ended of which none is finished."""
    within = [columns.study_id == study.id]
    if limit is not None:
        within.append(columns.rank < limit)
    states = connection.execute(select(columns.state, func.count()).where(*within).group_by(columns.state))
    first = connection.execute(
        select(columns.key, columns.reason)
        .where(*within, columns.state.in_((State.DIVERGED, State.PRUNED, State.FAILED)))
        .order_by(columns.rank)
        .limit(1)
    ).first()
    counts = {state: count for state, count in states}  # noqa: C416 - rows are no pairs to a checker
    return Ended(counts, None if first is None else f"{first.key}: {first.reason}")


# Optuna's own tables, in words: to import Optuna for it would take longer than all else that looking needs.
_LEFT_RUNNING = text(
    "select count(*) from trials t join studies s on s.study_id = t.study_id "
    "where s.study_name = :name and t.state = 'RUNNING' and not exists "
    "(select 1 from pairsearch_configurations c where c.trial_id = t.trial_id and c.state = 'running')"
)
_OPTUNA_STUDY = text(
    "select count(*) from studies s join pairsearch_studies p "
    "on p.optuna_study_id = s.study_id and p.name = s.study_name where p.name = :name"
)
# A trial is known by its claim: SQLite gives the ids of trials that were deleted to others.
_WITHOUT_TRIAL = text(
    "select count(*) from pairsearch_configurations c where c.study_id = :study and c.claim is not null "
    "and c.state in ('finished', 'diverged', 'pruned') and not exists "
    "(select 1 from trials t join studies s on s.study_id = t.study_id "
    "join trial_user_attributes a on a.trial_id = t.trial_id "
    "where t.trial_id = c.trial_id and s.study_name = :name and t.state <> 'FAIL' "
    "and a.key = 'claim' and a.value_json = '\"' || c.claim || '\"')"
)


def left_running(database: Database, study: StoredStudy) -> int:
    """Trials that Optuna shows as running and that no worker is at work on: it died, or is about to say so."""
    with database.read() as connection:
        return int(connection.execute(_LEFT_RUNNING, {"name": study.name}).scalar_one())


def mirrored(database: Database, study: StoredStudy) -> bool:
    """Whether Optuna has the study and a trial for each result; others may have deleted them."""
    try:
        with database.read() as connection:
            if connection.execute(_OPTUNA_STUDY, {"name": study.name}).scalar_one() == 0:
                return False
            absent = connection.execute(_WITHOUT_TRIAL, {"study": study.id, "name": study.name})
            return not absent.scalar_one()
    except DBAPIError as error:
        if deleted_meanwhile(error):
            return False
        raise


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (ddof 1) of a figure over rounds."""

    mean: float
    std: float | None
    """None for a single round."""

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        """The spread of at least one figure."""
        return cls(statistics.fmean(figures), statistics.stdev(figures) if len(figures) > 1 else None)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The final evaluation of one configuration; errors are fractions in [0, 1]."""

    study: str
    key: str
    rounds: int
    """Rounds finished, the diverged ones among them."""
    diverged: int
    train_error: Spread | None
    test_error: Spread | None
    seconds: float


def evaluated(database: Database, study: StoredStudy, configuration: Configuration) -> Evaluated:
    """What the finished rounds of a configuration gave. Diverged rounds have no error and enter no mean."""
    with database.read() as connection:
        rows = connection.execute(
            select(rounds)
            .where(rounds.c.study_id == study.id, rounds.c.key == configuration.key)
            .order_by(rounds.c.round)
        ).all()
        for row in rows:
            if row.diverged_epoch is None:
                required(rounds.name, row, "train_error", "test_error")
    train = [row.train_error for row in rows if row.train_error is not None]
    test = [row.test_error for row in rows if row.test_error is not None]
    return Evaluated(
        study=study.name,
        key=configuration.key,
        rounds=len(rows),
        diverged=sum(row.diverged_epoch is not None for row in rows),
        train_error=Spread.of(train) if train else None,
        test_error=Spread.of(test) if test else None,
        seconds=sum(row.seconds for row in rows),
    )
