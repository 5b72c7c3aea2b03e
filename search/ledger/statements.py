"""The statements of every job. Building one takes longer than a database takes for it, so they are built once."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Double, bindparam, func, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from pairsearch.search.database.clock import now
from pairsearch.search.database.states import OPEN, OPEN_JOBS, JobState, State
from pairsearch.search.database.tables import configurations, jobs, runs, studies
from pairsearch.search.ledger.stored import columns

of_job = jobs.c

HELD = (
    of_job.id == bindparam("of_id"),
    of_job.claim == bindparam("of_token"),
    of_job.state == JobState.RUNNING,
)
"""The condition that a job is held under a claim, with the parameters `Claim.held`."""

CLAIMED = (
    of_job.id,
    of_job.key,
    of_job.kind,
    of_job.first,
    of_job.count.label("runs"),
    of_job.params,
    of_job.claims,
)
"""The columns of a job from which a claim is made."""

DONE = update(jobs).where(*HELD).values(state=JobState.DONE, lease_expires=None)
"""Ends a job that is held."""

RENEWING = update(jobs).where(*HELD).values(lease_expires=now() + bindparam("lease", type_=Double()))
"""Renews the lease of a job that is held, for `lease` seconds."""

BEGINNING = (
    update(configurations)
    .where(
        columns.study_id == bindparam("of_study"),
        columns.key == bindparam("of_key"),
        columns.state.in_(OPEN),
    )
    .values(
        state=State.RUNNING,
        worker=bindparam("by"),
        claims=columns.claims + 1,
        started_at=now(),
        reason=None,
    )
    .returning(columns.id, columns.key, columns.params, columns.trial_id)
)
"""Notes on a configuration that has not ended that a worker has begun with a job of it."""

LOCKING = (
    select(configurations)
    .where(columns.study_id == bindparam("of_study"), columns.key == bindparam("of_key"))
    .with_for_update()
)
"""Reads a configuration, which nobody else changes until the end of the transaction."""

LETTING_GO = update(configurations).where(columns.id == bindparam("of_id")).values(state=State.PENDING)
"""Notes on a configuration that nobody holds a job of it."""

_DIVERGED = select(func.min(runs.c.run)).where(
    runs.c.study_id == bindparam("of_study"),
    runs.c.key == bindparam("of_key"),
    runs.c.kind == "fold",
    runs.c.diverged_epoch.is_not(None),
)
LEFT = select(of_job.state, of_job.first, _DIVERGED.scalar_subquery().label("diverged")).where(
    of_job.study_id == bindparam("of_study"),
    of_job.key == bindparam("of_key"),
    of_job.kind == "fold",
    of_job.state.in_(OPEN_JOBS),
)
"""Reads the jobs that are left of a configuration's folds, each with the first fold that diverged."""


_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "of_limit": of_job.rank < bindparam("of_limit"),
    "of_key": of_job.key == bindparam("of_key"),
    "of_but": of_job.key.not_in(bindparam("of_but", expanding=True)),
    "of_kind": of_job.kind == bindparam("of_kind"),
    "of_errors": of_job.errors == bindparam("of_errors"),
    "of_lapses": of_job.lapses == bindparam("of_lapses"),
    "of_rank": of_job.rank == bindparam("of_rank"),
}


@cache
def taking(given: frozenset[str], begun: bool) -> ReturningUpdate[Any]:
    """Return the statement that claims the first pending job.

    Args:
        given: names of the conditions whose values the statement gets (`_CONDITIONS`).
        begun: see `Leases.claim`.
    """
    study: BindParameter[int] = bindparam("of_study")
    stopped = select(studies.c.stopped_at).where(studies.c.id == study).scalar_subquery()
    pending = select(of_job.id).where(
        of_job.study_id == study, of_job.state == JobState.PENDING, stopped.is_(None)
    )
    pending = pending.where(*(_CONDITIONS[name] for name in sorted(given)))
    if begun:
        known = select(columns.key).where(
            columns.study_id == study, columns.state.in_(OPEN), columns.claims > 0
        )
        pending = pending.where(or_(of_job.kind == "round", of_job.key.in_(known)))
    # On PostgreSQL, workers that claim at the same time skip each other's rows. SQLite has one writer at a time and
    # leaves the clause out.
    pending = (
        pending.order_by(of_job.lapses, of_job.errors, of_job.rank, of_job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return (
        update(jobs)
        .where(of_job.id == pending.scalar_subquery(), of_job.state == JobState.PENDING)
        .values(
            state=JobState.RUNNING,
            claim=bindparam("token"),
            worker=bindparam("by"),
            claims=of_job.claims + 1,
            lease_expires=now() + bindparam("lease", type_=Double()),
        )
        .returning(*CLAIMED)
    )
