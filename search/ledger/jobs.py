"""The ledger: jobs that workers claim, and the runs of which each is stored exactly once.

A *run* is one model to train, a fold or a round. A *job* is what a worker claims: some runs of one configuration. A
worker *claims* a pending job and holds it under a lease on the database's clock, which its heartbeat *renews*. It
*stores* each run as it ends, and then *finishes* the job, *hands it back*, or *fails* at it. *Reaping*, which any
process may do, makes jobs pending again whose lease ran out.

Each claim has a new token, and every change that a worker makes requires it: a worker that lost its lease changes
nothing, and its late result is recorded as superseded. The token stays on the job until the next claim or until it is
reaped, so that every change that ends an attempt recognises its own repetition where only the answer was lost.

A transaction locks a job before its configuration. Jobs that others hold locked at that moment are passed over, and
whoever holds one looks at the configuration again once it has that lock; so no two transactions wait for each other.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, and_, case, exists, func, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from pairsearch.search.database.clock import now, up_since
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import OPEN, OPEN_JOBS, JobState, State
from pairsearch.search.database.tables import configurations, failures, jobs, studies, superseded
from pairsearch.search.ledger.closing import Closing, shown
from pairsearch.search.ledger.outcome import Outcome, RunResult
from pairsearch.search.ledger.rows import (
    provenance_id,
    read_configuration,
    read_runs,
    run_row,
    stored_numbers,
    write_runs,
)
from pairsearch.search.ledger.stored import StoredConfigurations, columns
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.view import NoView, Shown, View
from pairsearch.search.machine import LEASE_SECONDS
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Kind

# Nobody can renew a lease while the server is down. For this long after its start no lease counts as expired, so that
# workers with a finished result can return first (`search.database.retry` pauses up to eleven seconds between calls).
RETURN_SECONDS = 15.0
# An exception may be the machine's fault (memory, disk), so a second worker tries before a job counts as failed, unless
# the first one can tell that it is not at fault (`search.workers.worker`). A worker repeats its own failed attempt only
# when no other worker is active: a study with a single worker still ends. Workers are processes, not hosts: two on one
# host may differ in limits and environment, and a user with one machine needs an answer too.
MAX_ERRORS = 2
# A worker may be killed for reasons that have nothing to do with its configuration. But a configuration that gets every
# worker killed, for example by the kernel's out-of-memory killer, must not be tried for ever.
MAX_LAPSES = 10
LOST = f"lost with its worker {MAX_LAPSES} times: does it need more memory than the workers have?"
# A longer traceback loses its beginning; its end names the line that raised.
LONGEST_TRACEBACK = 20_000

of_job = jobs.c


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that one worker holds.

    Args:
        first: the number of its first run.
        count: how many runs it has.
        stored: numbers of those that are stored already.
        shown: the configuration as it is shown; None for rounds.
    """

    job_id: int
    configuration: Configuration
    kind: Kind
    first: int
    count: int
    token: str
    worker: str
    stored: tuple[int, ...] = ()
    shown: Shown | None = None

    @property
    def numbers(self) -> range:
        """The numbers of its runs."""
        return range(self.first, self.first + self.count)

    @property
    def left(self) -> tuple[int, ...]:
        """The numbers of the runs that are still to be trained."""
        return tuple(run for run in self.numbers if run not in self.stored)


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A claim that was reaped after its lease ran out."""

    key: str
    worker: str


def new_token() -> str:
    """Return a token that no other claim has."""
    return uuid.uuid4().hex


class Ledger(StoredConfigurations):
    """The jobs and configurations of one study, and every change of them.

    Args:
        lease_seconds: how long a claim lasts without renewal.
        view: what shows the study to others.
    """

    def __init__(
        self,
        database: Database,
        study: StoredStudy,
        lease_seconds: float = LEASE_SECONDS,
        view: View | None = None,
    ) -> None:
        super().__init__(database, study.id)
        self.study = study
        self.lease_seconds = lease_seconds
        self.view = view or NoView()
        self._closing = Closing(study, self.view)

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

    def claim(
        self,
        worker: str,
        *,
        limit: int | None = None,
        key: str | None = None,
        token: str | None = None,
        but: Collection[str] = (),
        begun: bool = False,
        kinds: Collection[Kind] = ("fold", "round"),
    ) -> Claim | None:
        """Claim the first pending job, under a lease: rounds first, then the folds of the lowest rank.

        Jobs that failed, or were lost with their worker, come after all others: whether they or a machine are at
        fault, they delay the rest as little as possible.

        Args:
            worker: name of the worker, for display.
            limit: claim only folds of the first `limit` configurations of the study.
            key: claim only jobs of this configuration.
            token: the token of the claim; None for a new one. If the token already holds a job, use `held` instead.
            but: keys of configurations not to claim.
            kinds: claim only jobs of these kinds.
            begun: claim only rounds, and folds of configurations of which another fold was claimed before.

        Returns:
            The claim, or None if no such job is pending.
        """
        token = token or new_token()
        pending = select(of_job.id).where(of_job.study_id == self.study_id, of_job.state == JobState.PENDING)
        if but:
            pending = pending.where(of_job.key.not_in(but))
        if limit is not None:
            pending = pending.where(of_job.rank < limit)
        if key is not None:
            pending = pending.where(of_job.key == key)
        if len(kinds) == 1:
            pending = pending.where(of_job.kind.in_(kinds))
        if begun:
            known = select(columns.key).where(
                columns.study_id == self.study_id, columns.state.in_(OPEN), columns.claims > 0
            )
            pending = pending.where(or_(of_job.kind == "round", of_job.key.in_(known)))
        # On PostgreSQL, workers that claim at the same time skip each other's rows. SQLite has one writer at a time and
        # leaves the clause out.
        pending = (
            pending.order_by(of_job.lapses, of_job.errors, of_job.rank, of_job.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(jobs)
            .where(of_job.id == pending.scalar_subquery(), of_job.state == JobState.PENDING)
            .values(
                state=JobState.RUNNING,
                claim=token,
                worker=worker,
                claims=of_job.claims + 1,
                lease_expires=now() + self.lease_seconds,
            )
            .returning(*_CLAIMED)
        )
        with self.database.write() as connection:
            while (row := connection.execute(statement).first()) is not None:
                claim = self._begun(connection, row, worker, token)
                if claim is not None:
                    return claim
                # Its configuration ended between the two locks.
                self._drop(connection, row.id)
        return None

    def _begun(self, connection: Connection, row: Any, worker: str, token: str) -> Claim | None:
        """Note on the configuration that a worker has begun with a job; None if the configuration has ended."""
        if row.kind == "round":
            return self._claim(connection, row, worker, token, None)
        begun = connection.execute(
            update(configurations)
            .where(self._configuration(row.key), columns.state.in_(OPEN))
            .values(
                state=State.RUNNING,
                worker=worker,
                claims=columns.claims + 1,
                started_at=now(),
                reason=None,
            )
            .returning(columns.id, columns.key, columns.params, columns.trial_id)
        ).first()
        if begun is None:
            return None
        of = shown(begun)
        if of.trial_id is None:
            trial_id = self.view.start(connection, of, worker)
            if trial_id is not None:
                connection.execute(
                    update(configurations).where(columns.id == of.row_id).values(trial_id=trial_id)
                )
                of = replace(of, trial_id=trial_id)
        return self._claim(connection, row, worker, token, of)

    def _claim(self, connection: Connection, row: Any, worker: str, token: str, of: Shown | None) -> Claim:
        stored: tuple[int, ...] = ()
        if row.claims > 1:
            numbers = range(row.first, row.first + row.count)
            stored = stored_numbers(connection, self.study_id, row.key, row.kind, numbers)
        configuration = read_configuration(row.key, row.params) if of is None else of.configuration
        return Claim(row.id, configuration, row.kind, row.first, row.count, token, worker, stored, of)

    def held(self, worker: str, token: str) -> Claim | None:
        """Return the claim of a token with its lease renewed, or None if there is none.

        A worker that lost the answer to `claim` learns by this whether the claim was made.
        """
        statement = (
            update(jobs)
            .where(of_job.study_id == self.study_id, of_job.claim == token, of_job.state == JobState.RUNNING)
            .values(lease_expires=now() + self.lease_seconds)
            .returning(*_CLAIMED)
        )
        with self.database.write() as connection:
            row = connection.execute(statement).first()
            if row is None:
                return None
            of = None
            if row.kind == "fold":
                mine = select(configurations).where(self._configuration(row.key))
                of = shown(connection.execute(mine).one())
            return self._claim(connection, row, worker, token, of)

    def renew(self, claim: Claim) -> bool:
        """Extend the lease of a claim; return False if the claim was lost."""
        with self.database.write() as connection:
            return self._renewed(connection, claim)

    def _renewed(self, connection: Connection, claim: Claim) -> bool:
        lease = update(jobs).where(*_held(claim)).values(lease_expires=now() + self.lease_seconds)
        return connection.execute(lease).rowcount == 1

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

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Store the folds of a job that are not stored yet, and the result of its configuration if it has all folds.

        Args:
            outcome: what was trained under this claim.

        Returns:
            True if the result of this claim counts, also if an earlier call stored it and only the answer was lost;
            False if the claim was lost and the result was recorded as superseded.
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
            self._closing.end(connection, row, claim.worker, outcome)
        self.view.committed()
        return True

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
            for row in connection.execute(
                select(of_job.first, of_job.count).where(mine, of_job.state.in_(OPEN_JOBS))
            ):
                known.update(range(row.first, row.first + row.count))
            missing = [number for number in range(wanted) if number not in known]
            for first, count in _blocks(missing, together=self.study.traits.together):
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
    ) -> bool:
        """Store the rounds of a job with their models, in one transaction.

        Args:
            facts: of the problem about the configuration.
            contents: the files of the models to store, by the number of the round.

        Returns:
            Whether they count, as for `finish`.
        """
        with self.database.write() as connection:
            if not self._done(connection, claim):
                return self._superseded(connection, claim, None)
            self._write(connection, claim, results, provenance, json.dumps(dict(facts)), contents)
            return True

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
        done = update(jobs).where(*_held(claim)).values(state=JobState.DONE, lease_expires=None)
        return connection.execute(done).rowcount == 1

    @staticmethod
    def _drop(connection: Connection, job_id: int) -> None:
        connection.execute(update(jobs).where(of_job.id == job_id).values(state=JobState.DROPPED))

    def _superseded(self, connection: Connection, claim: Claim, value: float | None) -> bool:
        """Record a late result as superseded, and return False; True if an earlier call of this claim stored it."""
        if self._left_as(connection, claim) == JobState.DONE:
            return True
        connection.execute(
            insert(superseded).values(
                job_id=claim.job_id,
                claim=claim.token,
                worker=claim.worker,
                value=value,
                arrived_at=now(),
            )
        )
        return False

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

    def hand_back(self, claim: Claim) -> bool:
        """Make the job pending again without counting an attempt; return False if the claim was lost."""
        free = update(jobs).where(*_held(claim)).values(state=JobState.PENDING, lease_expires=None)
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
            .where(*_held(claim))
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
                    update(failures)
                    .where(failures.c.job_id.in_(select(of_job.id).where(*mine)))
                    .values(counts=0)
                )
                connection.execute(
                    update(jobs).where(*mine).values(state=JobState.PENDING, errors=0, lapses=0)
                )
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

    def _configuration(self, key: str) -> ColumnElement[bool]:
        return and_(columns.study_id == self.study_id, columns.key == key)


_CLAIMED = (of_job.id, of_job.key, of_job.kind, of_job.first, of_job.count, of_job.params, of_job.claims)


def fold_jobs(study: StoredStudy, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs of a configuration's row: one for each fold, or one of all folds."""
    folds = study.definition.folds
    size = 1 if study.folds_apart else folds
    of_row = {name: row[name] for name in ("study_id", "key", "rank", "errors", "lapses", "claims")}
    state = JobState.FAILED if row["state"] == State.FAILED else JobState.PENDING
    return [
        of_row | {"kind": "fold", "first": first, "count": size, "state": state}
        for first in range(0, folds, size)
    ]


def _blocks(numbers: Sequence[int], *, together: bool) -> list[tuple[int, int]]:
    """Return the first number and the length of each run of consecutive numbers, or of each number alone."""
    blocks: list[tuple[int, int]] = []
    for number in numbers:
        if together and blocks and number == sum(blocks[-1]):
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + 1)
        else:
            blocks.append((number, 1))
    return blocks


def _as_state(state: str) -> State:
    return State.FAILED if state == JobState.FAILED else State.PENDING


def _held(claim: Claim) -> Iterable[ColumnElement[bool]]:
    return of_job.id == claim.job_id, of_job.claim == claim.token, of_job.state == JobState.RUNNING
