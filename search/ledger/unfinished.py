"""How attempts at jobs end without a result: handed back, failed, or lost with their worker."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from pairsearch.search.database.clock import now, up_since
from pairsearch.search.database.states import OPEN, JobState, State
from pairsearch.search.database.tables import configurations, failures, jobs
from pairsearch.search.ledger.claims import Claim, Leases
from pairsearch.search.ledger.statements import HELD, of_job
from pairsearch.search.ledger.stored import columns

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
LOST = f"lost with its worker {MAX_LAPSES} times: does it need more memory than the workers have?"


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A claim that was reaped after its lease ran out."""

    key: str
    worker: str


class Unfinished(Leases):
    """The attempts at one study's jobs; the arguments are those of `Leases`."""

    def expired(self) -> Sequence[Any]:
        """Read id, key and worker of the jobs whose lease ran out."""
        with self.database.read() as connection:
            found = select(of_job.id, of_job.key, of_job.worker).where(*self._expired())
            return connection.execute(found).all()

    def _expired(self) -> Iterable[ColumnElement[bool]]:
        return (
            of_job.study_id == self.study_id,
            of_job.state == JobState.RUNNING,
            of_job.lease_expires < now(),
            up_since() + min(RETURN_SECONDS, self.lease_seconds) < now(),
        )

    def reap(self) -> list[Lapsed]:
        """Make jobs pending again whose lease ran out; a job fails when this happens `MAX_LAPSES` times."""
        # Reading first takes no write lock, and nearly always there is nothing to reap.
        lapsed = self.expired()
        if not lapsed:
            return []
        spent = of_job.lapses + 1 >= MAX_LAPSES
        some = (
            select(of_job.id)
            .where(*self._expired(), of_job.id.in_([row.id for row in lapsed]))
            # Skip rows that another process is reaping or finishing at this moment.
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(jobs)
            .where(of_job.id.in_(some))
            .values(
                state=case((spent, JobState.FAILED), else_=JobState.PENDING),
                lapses=of_job.lapses + 1,
                claim=None,
                lease_expires=None,
            )
            .returning(of_job.id, of_job.key, of_job.kind, of_job.state)
        )
        with self.database.write() as connection:
            reaped = connection.execute(statement).all()
            folds = [row for row in reaped if row.kind == "fold"]
            lost = "its worker ended or lost its lease: the configuration went back"
            for row in sorted(folds, key=lambda row: row.key):
                connection.execute(
                    update(configurations)
                    .where(self._configuration(row.key), columns.state.in_(OPEN))
                    .values(lapses=columns.lapses + 1)
                )
                failed = row.state == JobState.FAILED
                self._closing.give_up(connection, row.key, LOST if failed else lost, failed=failed)
        ids = {row.id for row in reaped}
        return [Lapsed(row.key, row.worker) for row in lapsed if row.id in ids]

    def hand_back(self, claim: Claim) -> bool:
        """Make the job pending again without counting an attempt; return False if the claim was lost."""
        free = update(jobs).where(*HELD).values(state=JobState.PENDING, lease_expires=None)
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
        spent = of_job.errors + 1 >= (1 if final else MAX_ERRORS)
        statement = (
            update(jobs)
            .where(*HELD)
            .values(
                state=case((spent, JobState.FAILED), else_=JobState.PENDING),
                errors=of_job.errors + 1,
                lease_expires=None,
            )
            .returning(of_job.state)
        )
        with self.database.write() as connection:
            state = connection.execute(statement, claim.held).scalar()
            if state is None:
                mine = exists().where(failures.c.claim == claim.token)
                known = select(of_job.state).where(of_job.id == claim.job_id, mine)
                state = connection.execute(known).scalar()
                return None if state is None else _as_state(state)
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
            key = claim.configuration.key
            if claim.kind == "fold":
                connection.execute(
                    update(configurations)
                    .where(self._configuration(key), columns.state.in_(OPEN))
                    .values(errors=columns.errors + 1, reason=reason[:1000])
                )
                self._closing.give_up(connection, key, reason, failed=state == JobState.FAILED)
            return _as_state(state)

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
            failed = set(
                connection.execute(
                    select(of_job.key).where(
                        of_job.study_id == self.study_id, of_job.state == JobState.FAILED
                    )
                ).scalars()
            )
            for key in sorted(failed):
                mine = (of_job.study_id == self.study_id, of_job.key == key, of_job.state.in_(again))
                connection.execute(
                    delete(failures).where(failures.c.job_id.in_(select(of_job.id).where(*mine)))
                )
                connection.execute(
                    update(jobs).where(*mine).values(state=JobState.PENDING, errors=0, lapses=0)
                )
                # What failed may have failed because of where it went on from.
                self._closing.forget(connection, key)
                connection.execute(
                    update(configurations)
                    .where(self._configuration(key), columns.state == State.FAILED)
                    .values(state=State.PENDING, errors=0, lapses=0, reason=None, finished_at=None)
                )
        return sorted(failed)

    def _left_as(self, connection: Connection, claim: Claim) -> str | None:
        """The state in which an earlier call left the job of a claim, None if another claim came after it."""
        mine = select(of_job.state).where(of_job.id == claim.job_id, of_job.claim == claim.token)
        return connection.execute(mine).scalar()


def _as_state(state: str) -> State:
    return State.FAILED if state == JobState.FAILED else State.PENDING
