"""Reads the progress of studies: configurations by state, the best so far, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from pairsearch.search.common.redaction import conceal
from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, OPEN, OPEN_JOBS, State
from pairsearch.search.database.tables import configurations, jobs
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.ranking import Ranked, ranked_within

columns = configurations.c
ENDED_BADLY = (State.DIVERGED, State.PRUNED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a study, or of the first `limit` configurations of its order."""

    study: str
    """Name of the study."""
    metric: str
    """Name of the metric by which configurations are compared."""
    total: int
    """Number of configurations."""
    counts: dict[str, int]
    """Number of configurations in each state."""
    best: Ranked | None
    """The best configuration so far, None while none is finished."""
    failures: dict[str, str]
    """Why configurations failed, by their keys."""
    recent_per_minute: float
    """Configurations that got a result in the last minute of the database's clock."""
    folds: tuple[int, int] | None = None
    """How many folds have ended, and how many there are, where workers take them one by one; else None."""
    rounds_left: int = 0
    """How many rounds of the final evaluation were asked for and are still to be trained."""

    def count(self, *states: State) -> int:
        """Count the configurations in some states."""
        return sum(self.counts.get(state, 0) for state in states)

    @property
    def covered(self) -> int:
        """Number of configurations with a result: finished, diverged or pruned."""
        return self.count(*COVERED)

    @property
    def open(self) -> int:
        """Number of configurations still to be trained: pending or running."""
        return self.count(*OPEN)

    @property
    def ended(self) -> float:
        """Number of configurations that have ended, with shares of those of which some folds have."""
        return self.covered if self.folds is None else self.total * self.folds[0] / self.folds[1]


@dataclass(frozen=True, slots=True)
class Ended:
    """How the configurations of a study ended, where none is finished."""

    counts: Mapping[str, int]
    example: str | None
    """Key and reason of the first configuration that diverged, was pruned or failed."""

    def __str__(self) -> str:
        """Return a clause for a message."""
        said = [f"{self.counts[state]} {state}" for state in ENDED_BADLY if self.counts.get(state)]
        if not said:
            return "no configuration is finished yet"
        if left := sum(self.counts.get(state, 0) for state in OPEN):
            said.append(f"{left} still to be trained")
        example = "" if self.example is None else f" (for example {conceal(self.example)})"
        return f"no configuration is finished: {', '.join(said)}{example}"


def read_progress(database: Database, study: StoredStudy, limit: int | None = None) -> Progress:
    """Read the progress of a study, or of the first `limit` configurations of its order."""
    with database.snapshot() as connection:
        return progress_within(connection, study, limit)


def progress_within(connection: Connection, study: StoredStudy, limit: int | None = None) -> Progress:
    """Read the progress as `read_progress` does, in the caller's transaction."""
    within = _within(study, limit)
    counts = _counts(connection, within)
    why = select(columns.key, columns.reason).where(*within, columns.state == State.FAILED)
    failed = connection.execute(why.order_by(columns.rank)).all()
    # A scalar subquery: otherwise SQLite computes the time for every row.
    minute_ago = select(now() - 60.0).scalar_subquery()
    recent = connection.execute(
        select(func.count()).where(*within, columns.state.in_(COVERED), columns.finished_at > minute_ago)
    ).scalar_one()
    top = ranked_within(connection, study, 1, limit)
    total = sum(counts.values())
    return Progress(
        study=study.name,
        metric=study.definition.metric,
        total=total,
        counts={state.value: counts[state] for state in State},
        best=top[0] if top else None,
        failures={key: reason or "" for key, reason in failed},
        recent_per_minute=float(recent),
        folds=folds_ended(connection, study, total, limit),
        rounds_left=_runs_left(connection, study, jobs.c.rank < 0),
    )


def folds_ended(
    connection: Connection, study: StoredStudy, total: int, limit: int | None = None
) -> tuple[int, int] | None:
    """Count the folds that ended, and all of `total` configurations, where workers take them one by one; else None."""
    every = total * study.definition.folds
    if not study.folds_apart or not every:
        return None
    within = [] if limit is None else [jobs.c.rank < limit]
    return every - _runs_left(connection, study, jobs.c.rank >= 0, *within), every


def _runs_left(connection: Connection, study: StoredStudy, *which: ColumnElement[bool]) -> int:
    """Count the runs of jobs that workers still end; rounds have a negative rank."""
    left = select(func.coalesce(func.sum(jobs.c.count), 0)).where(
        jobs.c.study_id == study.id, jobs.c.state.in_(OPEN_JOBS), *which
    )
    return int(connection.execute(left).scalar_one())


def ended_without(connection: Connection, study: StoredStudy, limit: int | None = None) -> Ended:
    """Read how the configurations of a study ended, where none is finished."""
    within = _within(study, limit)
    why = select(columns.key, columns.reason).where(*within, columns.state.in_(ENDED_BADLY))
    first = connection.execute(why.order_by(columns.rank).limit(1)).first()
    return Ended(_counts(connection, within), None if first is None else f"{first.key}: {first.reason}")


def _within(study: StoredStudy, limit: int | None) -> list[ColumnElement[bool]]:
    """Return the conditions for the first `limit` configurations of a study's order, or for all."""
    return [columns.study_id == study.id, *([] if limit is None else [columns.rank < limit])]


def _counts(connection: Connection, within: list[ColumnElement[bool]]) -> Counter[str]:
    by_state = select(columns.state, func.count()).where(*within).group_by(columns.state)
    return Counter(dict(connection.execute(by_state).all()))
