"""How attempts at jobs end without a result: handed back, failed, or lost with their worker."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from pairsearch.search.database.clock import now, up_since
from pairsearch.search.database.states import JobState, State
from pairsearch.search.database.tables import configurations, failures, jobs
from pairsearch.search.ledger.checkpoints import drop_checkpoints_of
from pairsearch.search.ledger.claims import Claim, Leases
from pairsearch.search.ledger.statements import HELD, columns, of_job

# An exception may be the machine's fault (memory, disk), so a second worker tries before a job counts as failed, unless
# the first one can tell that it is not at fault (`search.workers.worker`). A worker repeats its own failed attempt only
# when no other worker is active: a study with a single worker still ends. Workers are processes, not hosts: two on one
# host may differ in limits and environment, and a user with one machine needs an answer too.
MAX_ERRORS = 2
# A longer traceback loses its beginning; its end names the line that raised.
LONGEST_TRACEBACK = 20_000
# Nobody can renew a lease while the server is down. For this long after its start no lease counts as expired, so that
# workers with a finished result can return first (`search.database.retry` pauses up to eleven seconds between calls).
RETURN_SECONDS = 15.0
# A worker may be killed for reasons that have nothing to do with its configuration. But a configuration that gets every
# worker killed, for example by the kernel's out-of-memory killer, must not be tried for ever.
MAX_LAPSES = 10
WENT_BACK = "its worker ended or lost its lease: the configuration went back"
LOST = f"lost with its worker {MAX_LAPSES} times: does it need more memory than the workers have?"


class Unfinished(Leases):
    """The attempts at one study's jobs; the arguments are those of `Leases`."""

    def expired(self) -> bool:
        """Whether the lease of a job ran out."""
        return self._first(select(of_job.id).where(*self._expired())) is not None

    def _expired(self) -> Iterable[ColumnElement[bool]]:
        return (
            of_job.study_id == self.study_id,
            of_job.state == JobState.RUNNING,
            of_job.lease_expires < now(),
            up_since() + min(RETURN_SECONDS, self.lease_seconds) < now(),
        )

    def reap(self) -> list[tuple[str, str]]:
        """Make jobs pending again whose lease ran out; a job fails when this happens `MAX_LAPSES` times.

        Returns:
            The key of the configuration and the worker of each such job.
        """
        # Reading first takes no write lock, and nearly always there is nothing to reap.
        if not self.expired():
            return []
        # Skip rows that another process is reaping or finishing at this moment.
        some = select(of_job.id).where(*self._expired()).with_for_update(skip_locked=True)
        statement = (
            update(jobs)
            .where(of_job.id.in_(some))
            .values(**_counted(of_job.lapses, MAX_LAPSES), claim=None)
            .returning(of_job.key, of_job.worker, of_job.kind, of_job.state)
        )
        with self.database.write() as connection:
            reaped = sorted(connection.execute(statement).all(), key=lambda row: row.key)
            for row in reaped:
                if row.kind == "round":
                    continue
                failed = row.state == JobState.FAILED
                why, lapses = LOST if failed else WENT_BACK, columns.lapses + 1
                self._closing.give_up(connection, row.key, why, failed=failed, lapses=lapses)
        return [(row.key, row.worker) for row in reaped]

    def hand_back(self, claim: Claim) -> bool:
        """Make the job pending again without counting an attempt; return False if the claim was lost."""
        free = update(jobs).where(HELD).values(state=JobState.PENDING, lease_expires=None)
        with self.database.write() as connection:
            if connection.execute(free, claim.held).rowcount == 1:
                if claim.kind == "fold":
                    self._closing.give_up(connection, claim.configuration.key, "handed back")
                return True
            failed = connection.execute(select(failures.c.id).where(failures.c.claim == claim.token)).first()
            return failed is None and self._left_as(connection, claim) == JobState.PENDING

    def fail_attempt(
        self, claim: Claim, reason: str, *, final: bool = False, traceback: str | None = None
    ) -> State | None:
        """Record an attempt that ended in an exception, or at the time limit.

        Args:
            final: whether the configuration has failed by this attempt alone.
            traceback: the text of the exception's traceback; None where the configuration is at fault whoever tried it:
                the time limit ended the attempt, or the problem found it impossible.

        Returns:
            PENDING if the job may be tried again, FAILED if it was the last attempt, None if the claim was lost.
        """
        counted = _counted(of_job.errors, 1 if final else MAX_ERRORS)
        statement = update(jobs).where(HELD).values(**counted).returning(of_job.state)
        with self.database.write() as connection:
            state = connection.execute(statement, claim.held).scalar()
            if state is None:
                mine = exists().where(failures.c.claim == claim.token)
                known = select(of_job.state).where(of_job.id == claim.job_id, mine)
                state = connection.execute(known).scalar()
            else:
                connection.execute(
                    insert(failures).values(
                        job_id=claim.job_id,
                        claim=claim.token,
                        worker=claim.worker,
                        reason=reason[:1000],
                        traceback=None if traceback is None else traceback[-LONGEST_TRACEBACK:],
                        counts=1,
                        failed_at=now(),
                    )
                )
                if claim.kind == "fold":
                    noted = {"errors": columns.errors + 1, "reason": reason[:1000]}
                    key, failed = claim.configuration.key, state == JobState.FAILED
                    self._closing.give_up(connection, key, reason, failed=failed, **noted)
        if state is None:
            return None
        return State.FAILED if state == JobState.FAILED else State.PENDING

    def forgive(self, claims: Collection[str], *, lost: bool) -> None:
        """Take back the failed attempts of a worker that turned out to be broken; a second call changes nothing.

        Configurations that counted as failed because of them are pending again. A job that another worker holds by now
        stays with it.

        Args:
            claims: the tokens of the attempts.
            lost: whether each job counts as lost with its worker once instead, so that it is not tried for ever where
                nobody can tell whether it or the worker was at fault.
        """
        with self.database.write() as connection:
            forgiven = connection.execute(
                update(failures)
                .where(
                    failures.c.claim.in_(claims),
                    failures.c.counts == 1,
                    # Who trains for too long, or finds a point impossible, is not broken.
                    failures.c.traceback.is_not(None),
                )
                .values(counts=0)
                .returning(failures.c.job_id)
            ).scalars()
            # Sorted, so that two workers lock rows in the same order and cannot deadlock.
            keys = {self._forgiven(connection, job_id, lost) for job_id in sorted(set(forgiven))}
            for key in sorted(key for key in keys if key is not None):
                self._closing.recount(connection, key)

    def _forgiven(self, connection: Connection, job_id: int, lost: bool) -> str | None:
        """Count the attempts at a job anew; return the key of its configuration if that may be tried again."""
        f = failures.c
        counted = select(func.count()).where(f.job_id == job_id, f.counts == 1).scalar_subquery()
        timed_out = exists().where(f.job_id == job_id, f.counts == 1, f.traceback.is_(None))
        lapses = of_job.lapses + int(lost)
        spent = and_(of_job.state != JobState.RUNNING, lapses >= MAX_LAPSES)
        return connection.execute(
            update(jobs)
            .where(
                of_job.id == job_id,
                or_(
                    of_job.state.in_((JobState.PENDING, JobState.RUNNING)),
                    and_(of_job.state == JobState.FAILED, ~timed_out, counted < MAX_ERRORS),
                ),
            )
            .values(
                # `retry` may have reset the count in the meantime.
                errors=counted,
                lapses=lapses,
                state=case(
                    (of_job.state == JobState.RUNNING, JobState.RUNNING),
                    (spent, JobState.FAILED),
                    else_=JobState.PENDING,
                ),
            )
            .returning(of_job.key)
        ).scalar()

    def retry(self) -> list[str]:
        """Make failed configurations and rounds pending again, their attempts reset to zero; return their keys."""
        again = (JobState.FAILED, JobState.DROPPED)
        with self.database.write() as connection:
            failed = select(of_job.key).where(
                of_job.study_id == self.study_id, of_job.state == JobState.FAILED
            )
            keys = sorted(set(connection.execute(failed).scalars()))
            fresh = {"state": State.PENDING, "errors": 0, "lapses": 0}
            for key in keys:
                mine = and_(of_job.study_id == self.study_id, of_job.key == key, of_job.state.in_(again))
                # What failed may have failed because of where it went on from.
                drop_checkpoints_of(connection, mine)
                of_them = failures.c.job_id.in_(select(of_job.id).where(mine))
                connection.execute(delete(failures).where(of_them))
                connection.execute(update(jobs).where(mine).values(fresh))
                connection.execute(
                    update(configurations)
                    .where(self._configuration(key), columns.state == State.FAILED)
                    .values(**fresh, reason=None, finished_at=None)
                )
        return keys

    def _left_as(self, connection: Connection, claim: Claim) -> str | None:
        """The state in which an earlier call left the job of a claim, None if another claim came after it."""
        mine = select(of_job.state).where(of_job.id == claim.job_id, of_job.claim == claim.token)
        return connection.execute(mine).scalar()


def _counted(count: Column[int], most: int) -> dict[str, Any]:
    """Return the values of a job after an attempt without a result, by the column that counts such attempts."""
    state = case((count + 1 >= most, JobState.FAILED), else_=JobState.PENDING)
    return {"state": state, count.name: count + 1, "lease_expires": None}
