"""The ledger: every configuration of a study exactly once, however many workers come and go.

A worker *claims* a pending row and holds it under a lease on the database's clock, which its heartbeat *renews*;
it then *finishes* the row, *hands it back*, or reports a *failed attempt*. Whoever *reaps* returns the rows whose
lease ran out. Each claim carries a fresh token, and every change that a worker makes is guarded by it: a worker
that lost its lease changes nothing, and its late result is recorded as superseded. The ledger is the truth of a
study; Optuna's trials mirror it (`search.mirror.trials`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from pairsearch.search.database.clock import now, up_since
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations, superseded
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import read_configuration, read_outcome, write_figures, write_folds
from pairsearch.studies.configuration import Configuration

# A lease outlives a few lost heartbeats, and a dead worker's configuration is free again after a minute.
LEASE_SECONDS = 60.0
# While the server was away nobody could renew a lease: for so long after its start no lease counts as over, so that
# workers that waited with a result in hand are back first (`search.database.retry`: eleven seconds between two calls).
RETURN_SECONDS = 15.0
# An exception may be the machine's fault (memory, disk): other workers get to try before a row counts as failed. A
# worker takes what failed in its hands again only when nobody else is at work (`search.workers.worker`): so one
# attempt of each worker counts, while a single one still comes to an end. Workers are processes, not hosts: two of one
# host may differ in limits and environment, and a user with one machine must get an answer too.
MAX_ERRORS = 3
# A worker may be killed by anything, and its configuration is not to blame; but one that takes every worker with it,
# as the kernel's out-of-memory killer does, must not go on for ever.
MAX_LAPSES = 10
# Of a traceback the end is kept, which names the line that raised.
LONGEST_TRACEBACK = 20_000

columns = configurations.c


@dataclass(frozen=True, slots=True)
class Claim:
    """A configuration in the hands of one worker."""

    row_id: int
    configuration: Configuration
    token: str
    worker: str


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A claim whose lease ran out and that was reaped."""

    key: str
    worker: str
    trial_id: int | None


def new_token() -> str:
    """A token that no other claim has."""
    return uuid.uuid4().hex


class Ledger:
    """The configurations of one study. Methods are single transactions, safe from threads and processes.

    Every method raises as `search.database.connection.Database.write` does.
    """

    def __init__(self, database: Database, study_id: int, lease_seconds: float = LEASE_SECONDS) -> None:
        self.database = database
        self.study_id = study_id
        self.lease_seconds = lease_seconds

    def insert(self, connection: Connection, grid: Sequence[Configuration]) -> int:
        """Add a pending row for each configuration that has none, in the given order; returns how many.

        Runs inside the caller's transaction, under the creation lock.
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
        return len(new)

    def claim(
        self,
        worker: str,
        *,
        limit: int | None = None,
        key: str | None = None,
        token: str | None = None,
        but: Collection[str] = (),
    ) -> Claim | None:
        """Take the next pending configuration under a lease.

        That is the one of the lowest rank; those that took a worker with them, or failed, come after all others, so
        that what is at fault, they or a machine, holds up little.

        Args:
            worker: who claims, for people.
            limit: only among the first `limit` configurations of the study.
            key: only this configuration.
            token: of the claim; see `new_token`. A claim under a token that holds a configuration already fails:
                `held` gives that one.
            but: not these configurations, by their keys.

        Returns:
            The claim, or None where nothing that was asked for is pending.
        """
        token = token or new_token()
        pending = select(columns.id).where(columns.study_id == self.study_id, columns.state == State.PENDING)
        if but:
            pending = pending.where(columns.key.not_in(but))
        if limit is not None:
            pending = pending.where(columns.rank < limit)
        if key is not None:
            pending = pending.where(columns.key == key)
        # Workers that claim at once pass over each other's rows on PostgreSQL; SQLite has one writer at a time
        # and leaves the clause out.
        pending = (
            pending.order_by(columns.lapses, columns.errors, columns.rank)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(configurations)
            .where(columns.id == pending.scalar_subquery(), columns.state == State.PENDING)
            .values(
                state=State.RUNNING,
                claim=token,
                worker=worker,
                claims=columns.claims + 1,
                started_at=now(),
                lease_expires=now() + self.lease_seconds,
                trial_id=None,
                reason=None,
            )
            .returning(columns.id, columns.key, columns.params)
        )
        with self.database.write() as connection:
            found = connection.execute(statement).first()
            return None if found is None else _claim(found, token, worker)

    def held(self, worker: str, token: str) -> Claim | None:
        """The configuration that is held under a token, its lease renewed; None where none is.

        For a worker that lost the answer to its claim: the claim may have been made.
        """
        statement = (
            update(configurations)
            .where(columns.study_id == self.study_id, columns.claim == token, columns.state == State.RUNNING)
            .values(lease_expires=now() + self.lease_seconds)
            .returning(columns.id, columns.key, columns.params)
        )
        with self.database.write() as connection:
            found = connection.execute(statement).first()
            return None if found is None else _claim(found, token, worker)

    def renew(self, claim: Claim) -> bool:
        """Extend the lease; False where the claim was lost."""
        return self._change(claim, lease_expires=now() + self.lease_seconds)

    def attach(self, claim: Claim, trial_id: int) -> bool:
        """Note the Optuna trial of a claim; False where the claim was lost."""
        return self._change(claim, trial_id=trial_id)

    def hand_back(self, claim: Claim) -> bool:
        """Return the configuration unfinished, as good as never claimed; False where the claim was lost."""
        return self._change(claim, **_FREE)

    def fail_attempt(
        self, claim: Claim, reason: str, max_errors: int = MAX_ERRORS, *, traceback: str | None = None
    ) -> State | None:
        """Record an attempt that ended in an exception.

        Args:
            traceback: of the exception, its text.

        Returns:
            PENDING where it may be tried again, FAILED after `max_errors` attempts, None if the claim was lost.
        """
        spent = columns.errors + 1 >= max_errors
        statement = (
            update(configurations)
            .where(*_held(claim))
            .values(
                **(_FREE | {"state": case((spent, State.FAILED), else_=State.PENDING)}),
                errors=columns.errors + 1,
                reason=reason[:1000],
                traceback=None if traceback is None else traceback[-LONGEST_TRACEBACK:],
                finished_at=case((spent, now()), else_=None),
            )
            .returning(columns.state)
        )
        with self.database.write() as connection:
            state = connection.execute(statement).scalar()
        return None if state is None else State(state)

    def forgive(self, failures: Mapping[str, int], *, lost: bool) -> None:
        """Take back failed attempts of a worker that turned out to be broken.

        What failed for good by them is pending again. What others hold stays theirs, with fewer attempts against it.

        Args:
            failures: how many attempts, by the key of their configuration.
            lost: each configuration counts as lost with its worker instead, once: where nobody can tell whose fault
                it was, it must not go on for ever.
        """
        with self.database.write() as connection:
            # In one order, so that no two workers wait for each other.
            for key, count in sorted(failures.items()):
                spent = and_(columns.state != State.RUNNING, columns.lapses + int(lost) >= MAX_LAPSES)
                connection.execute(
                    update(configurations)
                    .where(
                        columns.study_id == self.study_id,
                        columns.key == key,
                        or_(
                            columns.state.in_((State.PENDING, State.RUNNING)),
                            and_(columns.state == State.FAILED, columns.errors >= MAX_ERRORS),
                        ),
                    )
                    .values(
                        # Somebody may have said `retry` meanwhile.
                        errors=case((columns.errors > count, columns.errors - count), else_=0),
                        lapses=columns.lapses + int(lost),
                        state=case(
                            (columns.state == State.RUNNING, State.RUNNING),
                            (spent, State.FAILED),
                            else_=State.PENDING,
                        ),
                        reason=case((spent, columns.reason), else_=None),
                        finished_at=case((spent, now()), else_=None),
                    )
                )

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Store a result, its folds and its curves in one transaction.

        Returns:
            True where this claim's result is the one that counts, also when an earlier call stored it and only
            the answer was lost; False where the claim was lost and the result was recorded as superseded.
        """
        values = {
            "state": outcome.state,
            "value": outcome.value,
            "figures": write_figures(outcome.figures),
            "seconds": outcome.seconds,
            "reason": outcome.reason,
            "traceback": None,
            "provenance": json.dumps(dict(outcome.provenance)),
            "finished_at": now(),
            "lease_expires": None,
        }
        with self.database.write() as connection:
            changed = connection.execute(update(configurations).where(*_held(claim)).values(**values))
            if changed.rowcount == 1:
                write_folds(connection, self.study_id, claim.configuration.key, outcome.folds)
                return True
            found = connection.execute(
                select(columns.claim, columns.state).where(columns.id == claim.row_id)
            ).one()
            if found.claim == claim.token and found.state != State.RUNNING:
                return True
            connection.execute(
                insert(superseded).values(
                    configuration_id=claim.row_id,
                    claim=claim.token,
                    worker=claim.worker,
                    value=outcome.value,
                    arrived_at=now(),
                )
            )
            return False

    def reap(self, max_lapses: int = MAX_LAPSES) -> list[Lapsed]:
        """Make the rows pending again whose lease ran out; one that did so `max_lapses` times is failed instead."""
        expired = (
            columns.study_id == self.study_id,
            columns.state == State.RUNNING,
            columns.lease_expires < now(),
            up_since() + min(RETURN_SECONDS, self.lease_seconds) < now(),
        )
        # A look first: it takes no write lock, and nearly always there is nothing to do.
        with self.database.read() as connection:
            lapsed = connection.execute(
                select(columns.id, columns.key, columns.worker, columns.trial_id).where(*expired)
            ).all()
        if not lapsed:
            return []
        spent = columns.lapses + 1 >= max_lapses
        reason = f"lost with its worker {max_lapses} times: does it need more memory than the workers have?"
        statement = (
            update(configurations)
            .where(
                columns.id.in_(
                    select(columns.id)
                    .where(*expired, columns.id.in_([row.id for row in lapsed]))
                    # What another worker reaps at this moment, or stores after all, is its own.
                    .with_for_update(skip_locked=True)
                )
            )
            .values(
                **(_FREE | {"state": case((spent, State.FAILED), else_=State.PENDING)}),
                lapses=columns.lapses + 1,
                reason=case((spent, reason), else_=None),
                finished_at=case((spent, now()), else_=None),
            )
            .returning(columns.id)
        )
        with self.database.write() as connection:
            reaped = set(connection.execute(statement).scalars())
        return [Lapsed(row.key, row.worker, row.trial_id) for row in lapsed if row.id in reaped]

    def retry(self) -> list[str]:
        """Make the failed rows pending again, with all their attempts before them; returns their keys."""
        statement = (
            update(configurations)
            .where(columns.study_id == self.study_id, columns.state == State.FAILED)
            .values(**_FREE, errors=0, lapses=0, reason=None, traceback=None, finished_at=None)
            .returning(columns.key)
        )
        with self.database.write() as connection:
            return sorted(connection.execute(statement).scalars())

    def first_traceback(self) -> tuple[str, str] | None:
        """Key and traceback of the first configuration, in the order of claims, whose last attempt raised one."""
        statement = (
            select(columns.key, columns.traceback)
            .where(columns.study_id == self.study_id, columns.traceback.is_not(None))
            .order_by(columns.rank)
            .limit(1)
        )
        with self.database.read() as connection:
            row = connection.execute(statement).first()
        return None if row is None else (row.key, row.traceback)

    def open_count(self, limit: int | None = None) -> int:
        """How many of the first `limit` configurations are pending or running."""
        return self._count((State.PENDING, State.RUNNING), limit)

    def pending_count(self, limit: int | None = None, but: Collection[str] = ()) -> int:
        """How many of the first `limit` configurations are pending, those of the keys `but` left out."""
        return self._count((State.PENDING,), limit, but)

    def running_count(self, limit: int | None = None) -> int:
        """How many of the first `limit` configurations are in a worker's hands."""
        return self._count((State.RUNNING,), limit)

    def _count(self, states: Sequence[State], limit: int | None, but: Collection[str] = ()) -> int:
        statement = select(func.count()).where(columns.study_id == self.study_id, columns.state.in_(states))
        if but:
            statement = statement.where(columns.key.not_in(but))
        if limit is not None:
            statement = statement.where(columns.rank < limit)
        with self.database.read() as connection:
            return connection.execute(statement).scalar_one()

    def has_results(self) -> bool:
        """Whether any configuration has a result."""
        return self._count(COVERED, None) > 0

    def one_finished(self) -> Configuration | None:
        """A configuration that a worker has trained to the end, None where there is none yet."""
        statement = (
            select(columns.key, columns.params)
            .where(columns.study_id == self.study_id, columns.state == State.FINISHED)
            .order_by(columns.rank)
            .limit(1)
        )
        with self.database.read() as connection:
            row = connection.execute(statement).first()
            return None if row is None else read_configuration(row.key, row.params)

    def outcome(self, key: str) -> Outcome | None:
        """The stored result of a configuration, None where it has none."""
        with self.database.read() as connection:
            row = connection.execute(
                select(configurations).where(columns.study_id == self.study_id, columns.key == key)
            ).first()
            return None if row is None else read_outcome(connection, row)

    def result_of(self, key: str, token: str, trial_id: int) -> tuple[State | None, Outcome | None]:
        """State of a configuration as far as one trial of one claim is concerned, and that trial's result.

        Returns:
            (None, None) where the row is in other hands or in none, or its claim has another trial: the answer to
            the making of the first one was lost, and the worker made a second.
        """
        with self.database.read() as connection:
            row = connection.execute(
                select(configurations).where(
                    columns.study_id == self.study_id,
                    columns.key == key,
                    columns.claim == token,
                    or_(columns.trial_id == trial_id, columns.trial_id.is_(None)),
                )
            ).first()
            return (None, None) if row is None else (State(row.state), read_outcome(connection, row))

    def _change(self, claim: Claim, /, **values: object) -> bool:
        with self.database.write() as connection:
            changed = connection.execute(update(configurations).where(*_held(claim)).values(**values))
        return changed.rowcount == 1


_FREE: dict[str, object] = {
    "state": State.PENDING,
    "claim": None,
    "worker": None,
    "lease_expires": None,
    "started_at": None,
    "trial_id": None,
}


def _claim(row: Sequence[Any], token: str, worker: str) -> Claim:
    row_id, key, params = row
    return Claim(row_id, read_configuration(key, params), token, worker)


def _held(claim: Claim) -> Iterable[ColumnElement[bool]]:
    return columns.id == claim.row_id, columns.claim == claim.token, columns.state == State.RUNNING
