"""The statements of every job. Building one takes longer than a database takes for it, so they are built once."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Double, and_, bindparam, func, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from pairsearch.search.database.clock import now
from pairsearch.search.database.states import OPEN, OPEN_JOBS, JobState, State
from pairsearch.search.database.tables import configurations, jobs, runs, studies

columns = configurations.c
of_job = jobs.c


STUDY: BindParameter[int] = bindparam("of_study")
KEY: BindParameter[str] = bindparam("of_key")
LEASE = now() + bindparam("lease", type_=Double())


def jobs_of(
    study_id: int | BindParameter[int], key: str | BindParameter[str], kind: str, *states: JobState
) -> ColumnElement[bool]:
    """Return the condition that a job is of a configuration and a kind, and in one of the states if there are any."""
    mine = and_(of_job.study_id == study_id, of_job.key == key, of_job.kind == kind)
    return and_(mine, of_job.state.in_(states)) if states else mine


HELD = and_(
    of_job.id == bindparam("of_id"), of_job.claim == bindparam("of_token"), of_job.state == JobState.RUNNING
)
"""The condition that a job is held under a claim, with the parameters `Claim.held`."""

CLAIMED = (
    *(of_job.id, of_job.key, of_job.kind, of_job.first, of_job.count.label("runs")),
    *(of_job.params, of_job.claims),
)
"""The columns of a job from which a claim is made."""

DONE = update(jobs).where(HELD).values(state=JobState.DONE, lease_expires=None)
"""Ends a job that is held."""

_STOPPED = select(studies.c.stopped_at).where(studies.c.id == of_job.study_id).scalar_subquery()
RENEWING = update(jobs).where(HELD).values(lease_expires=LEASE).returning(_STOPPED.label("stopped"))
"""Renews the lease of a job that is held, for `lease` seconds, and reads when its study's workers were told to stop."""

_CONFIGURATION = and_(columns.study_id == STUDY, columns.key == KEY)
BEGINNING = (
    update(configurations)
    .where(_CONFIGURATION, columns.state.in_(OPEN))
    .values(
        state=State.RUNNING, worker=bindparam("by"), claims=columns.claims + 1, started_at=now(), reason=None
    )
    .returning(columns.id, columns.key, columns.params, columns.trial_id)
)
"""Notes on a configuration that has not ended that a worker has begun with a job of it."""

LOCKING = select(configurations).where(_CONFIGURATION).with_for_update()
"""Reads a configuration, which nobody else changes until the end of the transaction."""

LETTING_GO = update(configurations).where(columns.id == bindparam("of_id")).values(state=State.PENDING)
"""Notes on a configuration that nobody holds a job of it."""

_DIVERGED = select(func.min(runs.c.run)).where(
    *(runs.c.study_id == STUDY, runs.c.key == KEY, runs.c.kind == "fold", runs.c.diverged_epoch.is_not(None))
)
LEFT = select(of_job.state, of_job.first, _DIVERGED.scalar_subquery().label("diverged")).where(
    jobs_of(STUDY, KEY, "fold", *OPEN_JOBS)
)
"""Reads the jobs that are left of a configuration's folds, each with the first fold that diverged."""


_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "of_limit": of_job.rank < bindparam("of_limit"),
    "of_but": of_job.key.not_in(bindparam("of_but", expanding=True)),
    **{
        f"of_{column.name}": column == bindparam(f"of_{column.name}")
        for column in (of_job.key, of_job.kind, of_job.errors, of_job.lapses, of_job.rank)
    },
}


@cache
def taking(given: frozenset[str], begun: bool) -> ReturningUpdate[Any]:
    """Return the statement that claims the first pending job, and gets the values of conditions (`_CONDITIONS`)."""
    stopped = select(studies.c.stopped_at).where(studies.c.id == STUDY).scalar_subquery()
    conditions = (_CONDITIONS[name] for name in sorted(given))
    pending = select(of_job.id).where(
        of_job.study_id == STUDY, of_job.state == JobState.PENDING, stopped.is_(None), *conditions
    )
    if begun:
        known = select(columns.key).where(
            columns.study_id == STUDY, columns.state.in_(OPEN), columns.claims > 0
        )
        pending = pending.where(or_(of_job.kind == "round", of_job.key.in_(known)))
    # On PostgreSQL, workers that claim at the same time skip each other's rows. SQLite has one writer at a time and
    # leaves the clause out.
    first = pending.order_by(of_job.lapses, of_job.errors, of_job.rank, of_job.id).limit(1)
    free = first.with_for_update(skip_locked=True).scalar_subquery()
    return (
        update(jobs)
        .where(of_job.id == free, of_job.state == JobState.PENDING)
        .values(
            state=JobState.RUNNING,
            claim=bindparam("token"),
            worker=bindparam("by"),
            claims=of_job.claims + 1,
            lease_expires=LEASE,
        )
        .returning(*CLAIMED)
    )
