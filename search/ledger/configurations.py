"""The ledger: one row for each configuration of a study, whose result is stored exactly once.

A worker *claims* a pending row and holds it under a lease on the database's clock, which its heartbeat *renews*. Then
it *finishes* the row, *hands it back*, or reports a *failed attempt*. *Reaping*, which any process may do, makes rows
pending again whose lease ran out. Each claim has a new token, and every change that a worker makes requires it: a
worker that lost its lease changes nothing, and its late result is recorded as superseded. The ledger decides what a
study contains; Optuna's trials mirror it (`search.mirror.trials`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Update, and_, case, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from pairsearch.search.database.clock import now, up_since
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, superseded
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import read_configuration, write_figures, write_folds
from pairsearch.search.ledger.stored import StoredConfigurations, columns
from pairsearch.search.machine import LEASE_SECONDS
from pairsearch.studies.configuration import Configuration

# Nobody can renew a lease while the server is down. For this long after its start no lease counts as expired, so that
# workers with a finished result can return first (`search.database.retry` pauses up to eleven seconds between calls).
RETURN_SECONDS = 15.0
# An exception may be the machine's fault (memory, disk), so a second worker tries before a row counts as failed, unless
# the first one can tell that it is not at fault (`search.workers.worker`). A worker repeats its own failed attempt only
# when no other worker is active: a study with a single worker still ends. Workers are processes, not hosts: two on one
# host may differ in limits and environment, and a user with one machine needs an answer too.
MAX_ERRORS = 2
# A worker may be killed for reasons that have nothing to do with its configuration. But a configuration that gets every
# worker killed, for example by the kernel's out-of-memory killer, must not be tried for ever.
MAX_LAPSES = 10
# A longer traceback loses its beginning; its end names the line that raised.
LONGEST_TRACEBACK = 20_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A configuration that one worker holds."""

    row_id: int
    configuration: Configuration
    token: str
    worker: str


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A claim that was reaped after its lease ran out."""

    key: str
    worker: str
    trial_id: int | None


def new_token() -> str:
    """Return a token that no other claim has."""
    return uuid.uuid4().hex


class Ledger(StoredConfigurations):
    """The configurations of one study, and every change of them.

    Args:
        lease_seconds: how long a claim lasts without renewal.
    """

    def __init__(self, database: Database, study_id: int, lease_seconds: float = LEASE_SECONDS) -> None:
        super().__init__(database, study_id)
        self.lease_seconds = lease_seconds

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
        """Claim the pending configuration of the lowest rank, under a lease.

        Configurations that failed, or were lost with their worker, come after all others: whether they or a machine
        are at fault, they delay the rest as little as possible.

        Args:
            worker: name of the worker, for display.
            limit: claim only among the first `limit` configurations of the study.
            key: claim only this configuration.
            token: the token of the claim; None for a new one. If the token already holds a configuration, use `held`
                instead.
            but: keys of configurations not to claim.

        Returns:
            The claim, or None if no such configuration is pending.
        """
        token = token or new_token()
        pending = select(columns.id).where(columns.study_id == self.study_id, columns.state == State.PENDING)
        if but:
            pending = pending.where(columns.key.not_in(but))
        if limit is not None:
            pending = pending.where(columns.rank < limit)
        if key is not None:
            pending = pending.where(columns.key == key)
        # On PostgreSQL, workers that claim at the same time skip each other's rows. SQLite has one writer at a time and
        # leaves the clause out.
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
        )
        return self._claimed(statement, worker, token)

    def held(self, worker: str, token: str) -> Claim | None:
        """Return the claim of a token with its lease renewed, or None if there is none.

        A worker that lost the answer to `claim` learns by this whether the claim was made.
        """
        statement = (
            update(configurations)
            .where(columns.study_id == self.study_id, columns.claim == token, columns.state == State.RUNNING)
            .values(lease_expires=now() + self.lease_seconds)
        )
        return self._claimed(statement, worker, token)

    def _claimed(self, statement: Update, worker: str, token: str) -> Claim | None:
        with self.database.write() as connection:
            row = connection.execute(statement.returning(columns.id, columns.key, columns.params)).first()
            return (
                None if row is None else Claim(row.id, read_configuration(row.key, row.params), token, worker)
            )

    def renew(self, claim: Claim) -> bool:
        """Extend the lease of a claim; return False if the claim was lost."""
        return self._change(claim, lease_expires=now() + self.lease_seconds)

    def attach(self, claim: Claim, trial_id: int) -> bool:
        """Store the Optuna trial of a claim; return False if the claim was lost."""
        return self._change(claim, trial_id=trial_id)

    def hand_back(self, claim: Claim) -> bool:
        """Make the configuration pending again without counting an attempt; return False if the claim was lost."""
        return self._change(claim, **_FREE)

    def fail_attempt(
        self, claim: Claim, reason: str, *, final: bool = False, traceback: str | None = None
    ) -> State | None:
        """Record an attempt that ended in an exception, or at the time limit.

        Args:
            final: whether the configuration has failed by this attempt alone.
            traceback: the text of the exception's traceback; None where the time limit ended the attempt.

        Returns:
            PENDING if the configuration may be tried again, FAILED if it was the last attempt, None if the claim was
            lost.
        """
        spent = columns.errors + 1 >= (1 if final else MAX_ERRORS)
        statement = (
            update(configurations)
            .where(*_held(claim))
            .values(
                **_freed(spent),
                errors=columns.errors + 1,
                reason=reason[:1000],
                traceback=None if traceback is None else traceback[-LONGEST_TRACEBACK:],
            )
            .returning(columns.state)
        )
        with self.database.write() as connection:
            state = connection.execute(statement).scalar()
        return None if state is None else State(state)

    def forgive(self, failures: Mapping[str, int], *, lost: bool) -> None:
        """Subtract the failed attempts of a worker that turned out to be broken.

        Configurations that counted as failed because of them are pending again. A configuration that another worker
        holds by now stays with it.

        Args:
            failures: number of attempts to subtract, by the key of the configuration.
            lost: whether each configuration counts as lost with its worker once instead, so that it is not tried for
                ever where nobody can tell whether it or the worker was at fault.
        """
        with self.database.write() as connection:
            # Sorted, so that two workers lock rows in the same order and cannot deadlock.
            for key, count in sorted(failures.items()):
                spent = and_(columns.state != State.RUNNING, columns.lapses + int(lost) >= MAX_LAPSES)
                connection.execute(
                    update(configurations)
                    .where(
                        columns.study_id == self.study_id,
                        columns.key == key,
                        or_(
                            columns.state.in_((State.PENDING, State.RUNNING)),
                            # A row without a traceback failed at the time limit.
                            and_(
                                columns.state == State.FAILED,
                                columns.errors >= MAX_ERRORS,
                                columns.traceback.is_not(None),
                            ),
                        ),
                    )
                    .values(
                        # `retry` may have reset the count in the meantime.
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
        """Store a result with its folds and curves in one transaction.

        Returns:
            True if the result of this claim counts, also if an earlier call stored it and only the answer was lost;
            False if the claim was lost and the result was recorded as superseded.
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
            row = connection.execute(
                select(columns.claim, columns.state).where(columns.id == claim.row_id)
            ).one()
            if row.claim == claim.token and row.state != State.RUNNING:
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

    def reap(self) -> list[Lapsed]:
        """Make rows pending again whose lease ran out; a row fails when this happens `MAX_LAPSES` times."""
        expired = (
            columns.study_id == self.study_id,
            columns.state == State.RUNNING,
            columns.lease_expires < now(),
            up_since() + min(RETURN_SECONDS, self.lease_seconds) < now(),
        )
        # Reading first takes no write lock, and nearly always there is nothing to reap.
        with self.database.read() as connection:
            lapsed = connection.execute(
                select(columns.id, columns.key, columns.worker, columns.trial_id).where(*expired)
            ).all()
        if not lapsed:
            return []
        spent = columns.lapses + 1 >= MAX_LAPSES
        reason = f"lost with its worker {MAX_LAPSES} times: does it need more memory than the workers have?"
        statement = (
            update(configurations)
            .where(
                columns.id.in_(
                    select(columns.id)
                    .where(*expired, columns.id.in_([row.id for row in lapsed]))
                    # Skip rows that another process is reaping or finishing at this moment.
                    .with_for_update(skip_locked=True)
                )
            )
            .values(
                **_freed(spent),
                lapses=columns.lapses + 1,
                reason=case((spent, reason), else_=None),
            )
            .returning(columns.id)
        )
        with self.database.write() as connection:
            reaped = set(connection.execute(statement).scalars())
        return [Lapsed(row.key, row.worker, row.trial_id) for row in lapsed if row.id in reaped]

    def retry(self) -> list[str]:
        """Make failed rows pending again, their attempts reset to zero; return their keys."""
        statement = (
            update(configurations)
            .where(columns.study_id == self.study_id, columns.state == State.FAILED)
            .values(**_FREE, errors=0, lapses=0, reason=None, traceback=None, finished_at=None)
            .returning(columns.key)
        )
        with self.database.write() as connection:
            return sorted(connection.execute(statement).scalars())

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


def _freed(spent: ColumnElement[bool]) -> dict[str, object]:
    """Return the values of a row whose attempt failed: it has failed where its attempts are spent."""
    state = case((spent, State.FAILED), else_=State.PENDING)
    return _FREE | {"state": state, "finished_at": case((spent, now()), else_=None)}


def _held(claim: Claim) -> Iterable[ColumnElement[bool]]:
    return columns.id == claim.row_id, columns.claim == claim.token, columns.state == State.RUNNING
