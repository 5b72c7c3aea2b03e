"""The ledger: jobs that workers claim, and the runs of which each is stored exactly once.

A *run* is one model to train, a fold or a round. A *job* is what a worker claims: some runs of one configuration. A
worker *claims* a pending job and holds it under a lease on the database's clock, which its heartbeat *renews*. It
*stores* each run as it ends, and then *finishes* the job, *hands it back*, or *fails* at it. *Reaping*, which any
process may do, makes jobs pending again whose lease ran out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum

from sqlalchemy import Connection, and_, case, delete, exists, func, insert, or_, select, update

from pairsearch.search.database.clock import now
from pairsearch.search.database.states import OPEN, OPEN_JOBS, JobState, State
from pairsearch.search.database.tables import configurations, failures, jobs, studies, superseded
from pairsearch.search.ledger.checkpoints import drop_checkpoints
from pairsearch.search.ledger.claims import LOST, MAX_LAPSES, Claim, Leases, held_by, of_job
from pairsearch.search.ledger.outcome import Outcome, RunResult
from pairsearch.search.ledger.rows import provenance_id, read_runs, run_row, stored_numbers, write_runs
from pairsearch.search.ledger.splitting import blocks, fold_jobs
from pairsearch.search.ledger.stored import columns
from pairsearch.studies.configuration import Configuration

# An exception may be the machine's fault (memory, disk), so a second worker tries before a job counts as failed, unless
# the first one can tell that it is not at fault (`search.workers.worker`). A worker repeats its own failed attempt only
# when no other worker is active: a study with a single worker still ends. Workers are processes, not hosts: two on one
# host may differ in limits and environment, and a user with one machine needs an answer too.
MAX_ERRORS = 2
# A longer traceback loses its beginning; its end names the line that raised.
LONGEST_TRACEBACK = 20_000


class Finish(IntEnum):
    """What became of a result that a worker stored; false where it does not count."""

    SUPERSEDED = 0
    """The claim was lost; the result is kept, and counts nowhere."""
    CLOSED = 1
    """It is stored, and its configuration has ended with it, or earlier."""
    STORED = 2
    """It is stored, and other folds of its configuration are still to come."""


class Ledger(Leases):
    """The jobs and configurations of one study, and every change of them; the arguments are those of `Leases`."""

    def insert(self, connection: Connection, grid: Sequence[Configuration]) -> int:
        """Insert a pending row for each configuration that has none, in the order of `grid`; return how many.

        It runs inside the caller's transaction, under the creation lock.
        """
        keys = set(connection.execute(select(columns.key).where(columns.study_id == self.study_id)).scalars())
        new = [configuration for configuration in grid if configuration.key not in keys]
        if new:
            rows = [
                {
                    "study_id": self.study_id,
                    "key": configuration.key,
                    "params": configuration.text,
                    "rank": len(keys) + offset,
                    "state": State.PENDING,
                    "errors": 0,
                    "lapses": 0,
                    "claims": 0,
                }
                for offset, configuration in enumerate(new)
            ]
            connection.execute(insert(configurations), rows)
            connection.execute(insert(jobs), [job for row in rows for job in fold_jobs(self.study, row)])
        return len(new)

    def report(self, claim: Claim, step: int, value: float) -> None:
        """Show the metric of a configuration after a step."""
        if claim.shown is not None and claim.shown.trial_id is not None:
            with self.database.write() as connection:
                self.view.report(connection, claim.shown, {step: value})

    def reports_before(self, claim: Claim) -> dict[int, float]:
        """Return the metric of the runs of a job that are stored already, by step: one more than their number."""
        metric = self.study.definition.metric
        with self.database.read() as connection:
            known = read_runs(connection, self.study_id, claim.configuration.key, claim.kind)
        return {
            run.index + 1: value
            for run in known
            if run.index in claim.stored and (value := run.last(metric)) is not None
        }

    def store(self, claim: Claim, run: RunResult, provenance: Mapping[str, str]) -> bool:
        """Store a run that has ended while its job goes on; return False if the claim was lost."""
        with self.database.write() as connection:
            held = self._renewed(connection, claim)
            if held:
                self._write(connection, claim, [run], provenance)
                if claim.shown is not None:
                    self._closing.report(connection, claim.shown, [run])
            return held

    def finish(self, claim: Claim, outcome: Outcome) -> Finish:
        """Store the folds of a job that are not stored yet, and the result of its configuration if it has all folds.

        Args:
            outcome: what was trained under this claim.

        Returns:
            What became of it, also if an earlier call stored it and only the answer was lost.
        """
        with self.database.write() as connection:
            if not self._done(connection, claim):
                return self._superseded(connection, claim, outcome.value)
            row = self._closing.lock(connection, claim.configuration.key)
            if row is None or row.state not in OPEN:
                # It ended without this job, which was locked at that moment.
                self._drop(connection, claim.job_id)
                return self._superseded(connection, claim, outcome.value)
            self._write(connection, claim, outcome.folds, outcome.provenance)
            closed = self._closing.end(connection, row, claim.worker, outcome)
        self.view.committed()
        return Finish.CLOSED if closed else Finish.STORED

    def insert_rounds(self, configuration: Configuration, wanted: int) -> int:
        """Insert jobs for the rounds below `wanted` that are not stored and that no job has; return how many rounds.

        Rounds that failed are to be tried again.
        """
        key = configuration.key
        with self.database.write() as connection:
            # Of two that ask at once, the second finds the jobs of the first.
            connection.execute(select(studies.c.id).where(studies.c.id == self.study_id).with_for_update())
            known = set(stored_numbers(connection, self.study_id, key, "round", range(wanted)))
            mine = and_(of_job.study_id == self.study_id, of_job.key == key, of_job.kind == "round")
            held = select(of_job.first, of_job.count).where(mine, of_job.state.in_(OPEN_JOBS))
            for first, count in connection.execute(held).all():
                known.update(range(first, first + count))
            missing = [number for number in range(wanted) if number not in known]
            for first, count in blocks(missing, together=self.study.traits.together):
                fresh = {"count": count, "state": JobState.PENDING, "errors": 0, "lapses": 0}
                again = update(jobs).where(mine, of_job.first == first).values(**fresh)
                if not connection.execute(again).rowcount:
                    connection.execute(
                        insert(jobs).values(
                            study_id=self.study_id,
                            key=key,
                            kind="round",
                            first=first,
                            rank=-1,
                            params=configuration.text,
                            claims=0,
                            **fresh,
                        )
                    )
        return len(missing)

    def finish_rounds(
        self,
        claim: Claim,
        results: Sequence[RunResult],
        provenance: Mapping[str, str],
        facts: Mapping[str, str],
        contents: Mapping[int, bytes],
    ) -> Finish:
        """Store the rounds of a job with their models, in one transaction.

        Args:
            facts: of the problem about the configuration.
            contents: the files of the models to store, by the number of the round.

        Returns:
            What became of them, as for `finish`.
        """
        with self.database.write() as connection:
            if not self._done(connection, claim):
                return self._superseded(connection, claim, None)
            self._write(connection, claim, results, provenance, json.dumps(dict(facts)), contents)
            return Finish.CLOSED

    def failed_rounds(self, key: str) -> str | None:
        """Return why rounds of a configuration failed, None if none did."""
        mine = (of_job.study_id == self.study_id, of_job.key == key, of_job.kind == "round")
        with self.database.read() as connection:
            row = connection.execute(
                select(of_job.id, failures.c.reason)
                .join(failures, failures.c.job_id == of_job.id, isouter=True)
                .where(*mine, of_job.state == JobState.FAILED)
                .order_by(of_job.first, failures.c.id.desc())
            ).first()
        return None if row is None else row.reason or LOST

    def _done(self, connection: Connection, claim: Claim) -> bool:
        done = update(jobs).where(*held_by(claim)).values(state=JobState.DONE, lease_expires=None)
        return connection.execute(done).rowcount == 1

    def _superseded(self, connection: Connection, claim: Claim, value: float | None) -> Finish:
        """Record a late result as superseded, unless an earlier call of this claim stored it."""
        if self._left_as(connection, claim) == JobState.DONE:
            ended = select(columns.state).where(self._configuration(claim.configuration.key))
            state = connection.execute(ended).scalar()
            return Finish.STORED if claim.kind == "fold" and state in OPEN else Finish.CLOSED
        connection.execute(
            insert(superseded).values(
                job_id=claim.job_id,
                claim=claim.token,
                worker=claim.worker,
                value=value,
                arrived_at=now(),
            )
        )
        return Finish.SUPERSEDED

    def _write(
        self,
        connection: Connection,
        claim: Claim,
        results: Sequence[RunResult],
        provenance: Mapping[str, str],
        facts: str | None = None,
        contents: Mapping[int, bytes] | None = None,
    ) -> None:
        """Insert the runs of a claim that are not stored yet."""
        key, stored = claim.configuration.key, set(claim.stored)
        if claim.count > 1 and not self.study.traits.together:
            stored.update(stored_numbers(connection, self.study_id, key, claim.kind, claim.numbers))
        new = [run for run in results if run.index not in stored]
        if new:
            common = {
                "study_id": self.study_id,
                "worker": claim.worker,
                "facts": facts,
                "provenance_id": provenance_id(connection, provenance),
            }
            write_runs(connection, [run_row(key, claim.kind, run) | common for run in new], new, contents)
            if not self.study.traits.together:
                drop_checkpoints(connection, self.study_id, key, claim.kind, [run.index for run in new])

    def hand_back(self, claim: Claim) -> bool:
        """Make the job pending again without counting an attempt; return False if the claim was lost."""
        free = update(jobs).where(*held_by(claim)).values(state=JobState.PENDING, lease_expires=None)
        with self.database.write() as connection:
            if connection.execute(free).rowcount == 1:
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
            traceback: the text of the exception's traceback; None where the time limit ended the attempt.

        Returns:
            PENDING if the job may be tried again, FAILED if it was the last attempt, None if the claim was lost.
        """
        spent = of_job.errors + 1 >= (1 if final else MAX_ERRORS)
        statement = (
            update(jobs)
            .where(*held_by(claim))
            .values(
                state=case((spent, JobState.FAILED), else_=JobState.PENDING),
                errors=of_job.errors + 1,
                lease_expires=None,
            )
            .returning(of_job.state)
        )
        with self.database.write() as connection:
            state = connection.execute(statement).scalar()
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
                    # Who trains for too long is not broken.
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
