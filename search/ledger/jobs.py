"""The ledger: jobs that workers claim, and the runs of which each is stored exactly once.

A *run* is one model to train, a fold or a round. A *job* is what a worker claims: some runs of one configuration. A
worker *claims* a pending job and holds it under a lease on the database's clock, which its heartbeat *renews*. It
*stores* each run as it ends, and then *finishes* the job, *hands it back*, or *fails* at it. *Reaping*, which any
process may do, makes jobs pending again whose lease ran out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum, auto
from typing import Any

from sqlalchemy import Connection, and_, func, insert, select, update

from pairsearch.search.database.clock import now
from pairsearch.search.database.states import OPEN, OPEN_JOBS, JobState, State
from pairsearch.search.database.tables import configurations, failures, jobs, studies, superseded
from pairsearch.search.ledger.checkpoints import drop_checkpoints
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.outcome import Outcome, RunResult, fold_reports
from pairsearch.search.ledger.rows import (
    provenance_id,
    read_configuration,
    read_outcomes,
    read_runs,
    stored_numbers,
    write_runs,
)
from pairsearch.search.ledger.statements import DONE, LETTING_GO, columns, jobs_of, of_job
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.unfinished import LOST, Unfinished
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Kind


class Finish(IntEnum):
    """What became of a result that a worker stored; false where it does not count."""

    SUPERSEDED = 0
    """The claim was lost; the result is kept, and counts nowhere."""
    CLOSED = auto()
    """It is stored, and its configuration has ended with it, or earlier."""
    STORED = auto()
    """It is stored, and other folds of its configuration are still to come."""


class Ledger(Unfinished):
    """The jobs and configurations of one study, and every change of them; the arguments are those of `Leases`."""

    def insert(self, connection: Connection, grid: Sequence[Configuration]) -> int:
        """Insert a pending row for each configuration that has none, in the order of `grid`; return how many.

        It runs inside the caller's transaction, under the creation lock.
        """
        keys = set(connection.execute(select(columns.key).where(columns.study_id == self.study_id)).scalars())
        new = [configuration for configuration in grid if configuration.key not in keys]
        if new:
            fresh = {"study_id": self.study_id, "state": State.PENDING, "errors": 0, "lapses": 0, "claims": 0}
            rows = [
                {"key": configuration.key, "params": configuration.text, "rank": rank} | fresh
                for rank, configuration in enumerate(new, len(keys))
            ]
            connection.execute(insert(configurations), rows)
            connection.execute(insert(jobs), [job for row in rows for job in fold_jobs(self.study, row)])
        return len(new)

    def report(self, claim: Claim, step: int, value: float) -> None:
        """Show the metric of a configuration after a step, if the last one was shown a while ago."""
        if claim.shown is not None and claim.shown.trial_id is not None and self.view.due():
            with self.database.write() as connection:
                self.view.report(connection, claim.shown, {step: value})

    def reports_before(self, claim: Claim) -> dict[int, float]:
        """Return the metric of the runs of a job that are stored already, by step: one more than their number."""
        metric = self.study.definition.metric
        with self.database.read() as connection:
            known = read_runs(connection, self.study_id, claim.configuration.key, claim.kind)
        return fold_reports((run for run in known if run.index in claim.stored), metric)

    def store(self, claim: Claim, run: RunResult, provenance: Mapping[str, str]) -> bool:
        """Store a run that has ended while its job goes on; return False if the claim was lost."""
        origin = self._origin(provenance)
        with self.database.write() as connection:
            held = self._goes_on(connection, claim)
            if held:
                self._write(connection, claim, [run], origin)
                if claim.shown is not None:
                    self._closing.report(connection, claim.shown, [run])
            return held

    def finish_and_claim(
        self, claim: Claim, outcome: Outcome, token: str | None, runs: int
    ) -> tuple[Finish, Claim | None]:
        """Store the folds of a job that are not stored yet, and the result of its configuration if it has all folds.

        The next fold of the configuration is claimed in the same transaction.

        Args:
            outcome: what was trained under this claim.
            token: of the next claim; None to make none.
            runs: take up to so many folds, as `claim` does.

        Returns:
            What became of it, also if an earlier call stored it and only the answer was lost; and the next claim.
        """
        origin, following = self._origin(outcome.provenance), None
        with self.database.write() as connection:
            if not self._done(connection, claim):
                counted = self._superseded(connection, claim, outcome.value)
                return counted, self._held(connection, claim.worker, token) if token else None
            row = self._closing.lock(connection, claim.configuration.key)
            if row is None or row.state not in OPEN:
                # It ended without this job, which was locked at that moment.
                self._drop(connection, claim.job_id)
                return self._superseded(connection, claim, outcome.value), None
            self._write(connection, claim, outcome.folds, origin)
            left = self._closing.end(connection, row, claim.worker, outcome, origin)
            if left is not None:
                following = self._next(connection, row, claim.worker, token, runs) if token else None
                if following is None and JobState.RUNNING not in left:
                    connection.execute(LETTING_GO, {"of_id": row.id})
        self.view.committed()
        return Finish.CLOSED if left is None else Finish.STORED, following

    def insert_rounds(self, configuration: Configuration, wanted: int) -> int:
        """Insert jobs for the rounds below `wanted` that are not stored and that no job has; return how many rounds.

        Rounds that failed are to be tried again.
        """
        key = configuration.key
        with self.database.write() as connection:
            # Of two that ask at once, the second finds the jobs of the first.
            connection.execute(select(studies.c.id).where(studies.c.id == self.study_id).with_for_update())
            known = set(stored_numbers(connection, self.study_id, key, "round", range(wanted)))
            held = select(of_job.first, of_job.count).where(jobs_of(self.study_id, key, "round", *OPEN_JOBS))
            for first, count in connection.execute(held).all():
                known.update(range(first, first + count))
            missing = [number for number in range(wanted) if number not in known]
            mine = {"study_id": self.study_id, "key": key, "kind": "round", "rank": -1}
            for first, count in blocks(missing, together=self.study.traits.together):
                fresh = {"count": count, "state": JobState.PENDING, "errors": 0, "lapses": 0}
                failed = update(jobs).where(jobs_of(self.study_id, key, "round"), of_job.first == first)
                if not connection.execute(failed.values(**fresh)).rowcount:
                    new = mine | {"first": first, "params": configuration.text, "claims": 0}
                    connection.execute(insert(jobs).values(new | fresh))
        return len(missing)

    def finish_rounds(
        self,
        claim: Claim,
        results: Sequence[RunResult],
        provenance: Mapping[str, str],
        contents: Mapping[int, bytes],
    ) -> Finish:
        """Store the rounds of a job with their models, in one transaction.

        Args:
            contents: the files of the models to store, by the number of the round.

        Returns:
            What became of them, as for `finish_and_claim`.
        """
        origin = self._origin(provenance)
        with self.database.write() as connection:
            if not self._done(connection, claim):
                return self._superseded(connection, claim, None)
            self._write(connection, claim, results, origin, contents)
            return Finish.CLOSED

    def failed_rounds(self, key: str | None = None) -> str | None:
        """Return why rounds of a configuration, or of any, failed; None if none did."""
        which = and_(
            of_job.study_id == self.study_id, of_job.kind == "round", of_job.state == JobState.FAILED
        )
        row = self._first(
            select(of_job.id, failures.c.reason)
            .join(failures, isouter=True)
            .where(which if key is None else which & (of_job.key == key))
            .order_by(of_job.first, failures.c.id.desc())
        )
        return None if row is None else row.reason or LOST

    def _done(self, connection: Connection, claim: Claim) -> bool:
        return connection.execute(DONE, claim.held).rowcount == 1

    def _superseded(self, connection: Connection, claim: Claim, value: float | None) -> Finish:
        """Record a late result as superseded, unless an earlier call of this claim stored or recorded it."""
        if self._left_as(connection, claim) == JobState.DONE:
            ended = select(columns.state).where(self._configuration(claim.configuration.key))
            state = connection.execute(ended).scalar()
            return Finish.STORED if claim.kind == "fold" and state in OPEN else Finish.CLOSED
        known = select(superseded.c.id).where(superseded.c.claim == claim.token)
        if connection.execute(known).first() is None:
            late = {"job_id": claim.job_id, "claim": claim.token, "worker": claim.worker, "value": value}
            connection.execute(insert(superseded).values(**late, arrived_at=now()))
        return Finish.SUPERSEDED

    def _write(
        self,
        connection: Connection,
        claim: Claim,
        results: Sequence[RunResult],
        origin: int,
        contents: Mapping[int, bytes] | None = None,
    ) -> None:
        """Insert the runs of a claim that are not stored yet."""
        key, stored = claim.configuration.key, set(claim.stored)
        if claim.count > 1 and not self.study.traits.together:
            stored.update(stored_numbers(connection, self.study_id, key, claim.kind, claim.numbers))
        new = [run for run in results if run.index not in stored]
        if new:
            where = {"study_id": self.study_id, "worker": claim.worker, "provenance_id": origin}
            write_runs(connection, key, claim.kind, new, where, contents)
            if claim.again or self._checkpoint_of == claim.token:
                drop_checkpoints(connection, self.study_id, key, claim.kind, [run.index for run in new])

    def _origin(self, provenance: Mapping[str, str]) -> int:
        """Return the id of a provenance, which is stored before anything refers to it; a worker's stays the same."""
        known = tuple(provenance.items())
        if known not in self._origins:
            with self.database.write() as connection:
                found = provenance_id(connection, provenance)
            self._origins[known] = found
        return self._origins[known]

    def first_traceback(self) -> tuple[str, str] | None:
        """Return key and traceback of the first job, by rank, that is not done and has failed with one."""
        f = failures.c
        row = self._first(
            select(of_job.key, f.traceback)
            .join(jobs, of_job.id == f.job_id)
            .where(of_job.study_id == self.study_id, of_job.state != JobState.DONE, f.traceback.is_not(None))
            .order_by(of_job.rank, f.id.desc())
        )
        return None if row is None else (row.key, row.traceback)

    def one_finished(self) -> Configuration | None:
        """Return a finished configuration, None if there is none yet."""
        mine = (columns.study_id == self.study_id, columns.state == State.FINISHED)
        row = self._first(select(columns.key, columns.params).where(*mine))
        return None if row is None else read_configuration(row.key, row.params)

    def outcome(self, key: str) -> Outcome | None:
        """Return the stored result of a configuration, None if it has none."""
        with self.database.read() as connection:
            rows = connection.execute(select(configurations).where(self._configuration(key))).all()
            return read_outcomes(connection, rows)[0] if rows else None

    def jobs_left(
        self,
        *states: JobState,
        limit: int | None = None,
        key: str | None = None,
        but: Collection[str] = (),
        kind: Kind | None = None,
    ) -> int:
        """Count the jobs in some states, rounds and folds; the arguments select as those of `Ledger.claim` do."""
        statement = select(func.count()).where(of_job.study_id == self.study_id, of_job.state.in_(states))
        if limit is not None:
            statement = statement.where(of_job.rank < limit)
        if key is not None:
            statement = statement.where(of_job.key == key)
        if but:
            statement = statement.where(of_job.key.not_in(but))
        if kind is not None:
            statement = statement.where(of_job.kind == kind)
        with self.database.read() as connection:
            return connection.execute(statement).scalar_one()


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


def blocks(numbers: Sequence[int], *, together: bool) -> list[tuple[int, int]]:
    """Return the first number and the length of each run of consecutive numbers, or of each number alone."""
    blocks: list[tuple[int, int]] = []
    for number in numbers:
        if together and blocks and number == sum(blocks[-1]):
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + 1)
        else:
            blocks.append((number, 1))
    return blocks
