"""Claims: who holds which job, under leases on the database's clock.

Each claim has a new token, and every change that a worker makes requires it: a worker that lost its lease changes
nothing. The token stays on the job until the next claim or until it is reaped, so that every change that ends an
attempt recognises its own repetition where only the answer was lost.

A transaction locks a job before its configuration. Jobs that others hold locked at that moment are passed over, and
whoever holds one looks at the configuration again once it has that lock; so no two transactions wait for each other.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import IntEnum, auto
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, select, update

from pairsearch.search.common.machine import LEASE_SECONDS
from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import OPEN, JobState
from pairsearch.search.database.tables import configurations, jobs, studies
from pairsearch.search.ledger.checkpoints import Kept, find_checkpoint, put_checkpoint
from pairsearch.search.ledger.closing import Closing, shown
from pairsearch.search.ledger.rows import read_configuration, stored_numbers
from pairsearch.search.ledger.statements import (
    BEGINNING,
    CLAIMED,
    RENEWING,
    columns,
    jobs_of,
    of_job,
    taking,
)
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.view import Shown, View
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Kind


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that one worker holds.

    Args:
        stored: numbers of the runs that are stored already.
        again: whether it was claimed before, so that it may have runs and checkpoints.
        shown: the configuration as it is shown; None for rounds.
    """

    job_id: int
    configuration: Configuration
    kind: Kind
    first: int
    count: int
    token: str
    worker: str
    stored: tuple[int, ...]
    again: bool
    shown: Shown | None

    @property
    def held(self) -> dict[str, object]:
        """The parameters of `HELD`."""
        return {"of_id": self.job_id, "of_token": self.token}

    @property
    def numbers(self) -> range:
        """The numbers of its runs."""
        return range(self.first, self.first + self.count)

    @property
    def left(self) -> tuple[int, ...]:
        """The numbers of the runs that are still to be trained."""
        return tuple(run for run in self.numbers if run not in self.stored)


class Renewal(IntEnum):
    """What became of a claim whose lease was renewed; false where it was lost."""

    LOST = 0
    HELD = auto()
    TO_STOP = auto()
    """It is held, and the study's workers are to end."""


def worker_name() -> str:
    """Return a unique name of a worker, which begins with its host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


def new_token() -> str:
    """Return a token that no other claim has."""
    return uuid.uuid4().hex


class Leases:
    """The claims of one study's jobs. Each method is one transaction, safe to call from any thread or process.

    Every method raises what `search.database.connection.Database.write` raises.
    """

    def __init__(
        self,
        database: Database,
        study: StoredStudy,
        lease_seconds: float = LEASE_SECONDS,
        view: View | None = None,
    ) -> None:
        self.database = database
        self.study = study
        self.study_id = study.id
        self.lease_seconds = lease_seconds
        self.view = view or View()
        self._closing = Closing(study, self.view)
        self._origins: dict[tuple[tuple[str, str], ...], int] = {}
        # The token of the claim under which a checkpoint was stored last.
        self._checkpoint_of: str | None = None

    def stop(self) -> None:
        """Tell all workers of the study to hand back what they hold, and to end."""
        self._set_stop(now())

    def go_on(self) -> None:
        """Let workers begin again after a stop."""
        if self.stopped():
            self._set_stop(None)

    def _set_stop(self, moment: ColumnElement[float] | None) -> None:
        with self.database.write() as connection:
            connection.execute(update(studies).where(studies.c.id == self.study_id).values(stopped_at=moment))

    def stopped(self) -> bool:
        """Whether the workers of the study are to end."""
        mine = studies.c.id == self.study_id
        return self._first(select(studies.c.id).where(mine, studies.c.stopped_at.is_not(None))) is not None

    def claim(
        self,
        worker: str,
        *,
        limit: int | None = None,
        key: str | None = None,
        token: str | None = None,
        but: Collection[str] = (),
        begun: bool = False,
        runs: int = 1,
        kind: Kind | None = None,
    ) -> Claim | None:
        """Claim the first pending job, under a lease: rounds first, then the folds of the lowest rank.

        Jobs that failed, or were lost with their worker, come after all others: whether they or a machine are at
        fault, they delay the rest as little as possible.

        Args:
            limit: claim only folds of the first `limit` configurations of the study.
            token: the token of the claim; None for a new one. If the token already holds a job, use `held` instead.
            but: keys of configurations not to claim.
            runs: take up to so many folds of a configuration at once, where each is a job of its own; they are one job
                from then on.
            begun: claim only rounds, and folds of configurations of which another fold was claimed before.

        Returns:
            The claim, or None if no such job is pending, or the study's workers are to stop.
        """
        options = {"of_limit": limit, "of_key": key, "of_but": list(but) or None, "of_kind": kind}
        given: dict[str, object] = {name: value for name, value in options.items() if value is not None}
        with self.database.write() as connection:
            return self._taken(connection, worker, token or new_token(), runs, given, begun)

    def _taken(
        self,
        connection: Connection,
        worker: str,
        token: str,
        runs: int,
        given: dict[str, object],
        begun: bool,
    ) -> Claim | None:
        statement = taking(frozenset(given), begun)
        given |= {"token": token, "by": worker, "lease": self.lease_seconds, "of_study": self.study_id}
        while (row := connection.execute(statement, given).first()) is not None:
            count = row.runs + (self._merged(connection, row, runs - 1) if runs > 1 else 0)
            claim = self._begun(connection, row, count, worker, token)
            if claim is not None:
                return claim
            # Its configuration ended between the two locks.
            self._drop(connection, row.id)
        return None

    def _next(self, connection: Connection, row: Any, worker: str, token: str, runs: int) -> Claim | None:
        """Claim the next fold of a configuration whose row the caller has locked, unless it was tried before.

        Other configurations are left alone: two that lock one and then another might wait for each other.
        """
        if not self.study.folds_apart:
            return None
        # With the rank: PostgreSQL goes through all pending jobs for the key, as long as it has no statistics of a new
        # study.
        given = {"of_key": row.key, "of_rank": row.rank, "of_kind": "fold", "of_errors": 0, "of_lapses": 0}
        return self._taken(connection, worker, token, runs, given, begun=False)

    def _merged(self, connection: Connection, row: Any, most: int) -> int:
        """Make the next jobs of a configuration, which nobody has tried, part of a job; return how many they were."""
        if row.kind == "round" or not self.study.folds_apart:
            return 0
        rows = connection.execute(
            select(of_job.id, of_job.first)
            .where(
                jobs_of(self.study_id, row.key, row.kind, JobState.PENDING),
                *(of_job.first > row.first, of_job.claims == 0, of_job.errors == 0, of_job.lapses == 0),
            )
            .order_by(of_job.first)
            .limit(most)
            .with_for_update(skip_locked=True)
        ).all()
        expected = range(row.first + row.runs, row.first + row.runs + most)
        next_ones = [one.id for one, number in zip(rows, expected, strict=False) if one.first == number]
        if next_ones:
            connection.execute(delete(jobs).where(of_job.id.in_(next_ones)))
            count = row.runs + len(next_ones)
            connection.execute(update(jobs).where(of_job.id == row.id).values(count=count))
        return len(next_ones)

    def _begun(self, connection: Connection, row: Any, count: int, worker: str, token: str) -> Claim | None:
        """Note on the configuration that a worker has begun with a job; None if the configuration has ended."""
        if row.kind == "round":
            return self._claim(connection, row, count, worker, token, None)
        mine = {"of_study": self.study_id, "of_key": row.key, "by": worker}
        begun = connection.execute(BEGINNING, mine).first()
        if begun is None:
            return None
        of = shown(begun)
        if of.trial_id is None and (trial_id := self.view.start(connection, of, worker)) is not None:
            connection.execute(
                update(configurations).where(columns.id == of.row_id).values(trial_id=trial_id)
            )
            of = replace(of, trial_id=trial_id)
        return self._claim(connection, row, count, worker, token, of)

    def _claim(
        self, connection: Connection, row: Any, count: int, worker: str, token: str, of: Shown | None
    ) -> Claim:
        again = row.claims > 1
        stored: tuple[int, ...] = ()
        if again:
            numbers = range(row.first, row.first + count)
            stored = stored_numbers(connection, self.study_id, row.key, row.kind, numbers)
        configuration = read_configuration(row.key, row.params) if of is None else of.configuration
        return Claim(row.id, configuration, row.kind, row.first, count, token, worker, stored, again, of)

    def held(self, worker: str, token: str) -> Claim | None:
        """Return the claim of a token with its lease renewed, or None if there is none.

        A worker that lost the answer to `claim` learns by this whether the claim was made.
        """
        with self.database.write() as connection:
            return self._held(connection, worker, token)

    def _held(self, connection: Connection, worker: str, token: str) -> Claim | None:
        row = connection.execute(
            update(jobs)
            .where(of_job.study_id == self.study_id, of_job.claim == token, of_job.state == JobState.RUNNING)
            .values(lease_expires=now() + self.lease_seconds)
            .returning(*CLAIMED)
        ).first()
        if row is None:
            return None
        of = shown(self._closing.lock(connection, row.key)) if row.kind == "fold" else None
        return self._claim(connection, row, row.runs, worker, token, of)

    def renew(self, claim: Claim) -> Renewal:
        """Extend the lease of a claim."""
        with self.database.write() as connection:
            return self._renewed(connection, claim)

    def save_checkpoint(self, claim: Claim, run: int, kept: Kept) -> bool:
        """Store the checkpoint of a run of a job, in place of an earlier one; return False if the claim was lost."""
        with self.database.write() as connection:
            held = self._goes_on(connection, claim)
            if held:
                self._checkpoint_of = claim.token
                put_checkpoint(connection, self.study_id, claim.configuration.key, claim.kind, run, kept)
            return held

    def find_checkpoint(self, claim: Claim, run: int) -> Kept | None:
        """Return the checkpoint of a run of a job, None if it has none."""
        with self.database.read() as connection:
            return find_checkpoint(connection, self.study_id, claim.configuration.key, claim.kind, run)

    def _renewed(self, connection: Connection, claim: Claim) -> Renewal:
        renewed = connection.execute(RENEWING, claim.held | {"lease": self.lease_seconds}).first()
        if renewed is None:
            return Renewal.LOST
        return Renewal.HELD if renewed.stopped is None else Renewal.TO_STOP

    def _goes_on(self, connection: Connection, claim: Claim) -> bool:
        """Renew a claim before something is stored; return False if it was lost, or its configuration has ended.

        A configuration that diverged may have ended while the job was locked, which then was not dropped with the rest.
        """
        if not self._renewed(connection, claim):
            return False
        if claim.kind == "round" or not self.study.folds_apart:
            return True
        row = self._closing.lock(connection, claim.configuration.key)
        if row is not None and row.state in OPEN:
            return True
        self._drop(connection, claim.job_id)
        return False

    def _first(self, statement: Select[Any]) -> Any:
        """Read the first row that a statement finds, None if there is none."""
        with self.database.read() as connection:
            return connection.execute(statement.limit(1)).first()

    def _configuration(self, key: str) -> ColumnElement[bool]:
        return and_(columns.study_id == self.study_id, columns.key == key)

    @staticmethod
    def _drop(connection: Connection, job_id: int) -> None:
        connection.execute(update(jobs).where(of_job.id == job_id).values(state=JobState.DROPPED))
