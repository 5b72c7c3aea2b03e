"""The ledger: every configuration of a study exactly once, however many workers come and go.

A worker *claims* a pending row and holds it under a lease on the database's clock, which its heartbeat *renews*;
it then *finishes* the row, *hands it back*, or reports a *failed attempt*. Whoever *reaps* returns the rows whose
lease ran out. Each claim carries a fresh token, and every change that a worker makes is guarded by it: a worker
that lost its lease changes nothing, and its late result is recorded as superseded. The ledger is the truth of a
study; Optuna's trials mirror it (`search.trials`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, case, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from search.database import Database, insert_many, now
from search.outcome import Outcome, finite
from search.states import COVERED, State
from search.tables import configurations, curves, folds, superseded
from studies.configuration import PARAMETERS, Configuration

# A lease outlives a few lost heartbeats, and a dead worker's configuration is free again after a minute.
LEASE_SECONDS = 60.0
# An exception may be the machine's fault (memory, disk): other workers get to try before a row counts as failed.
MAX_ERRORS = 3

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


class Ledger:
    """The configurations of one study. Methods are single transactions, safe from threads and processes.

    Every method raises as `search.database.Database.write` does.
    """

    def __init__(self, database: Database, study_id: int, lease_seconds: float = LEASE_SECONDS) -> None:
        self.database = database
        self.study_id = study_id
        self.lease_seconds = lease_seconds

    def lay_out(self, connection: Connection, grid: Sequence[Configuration]) -> int:
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
                    "rank": len(keys) + offset,
                    "state": State.PENDING,
                    "errors": 0,
                    "claims": 0,
                }
                | {name: getattr(configuration, name) for name in PARAMETERS}
                for offset, configuration in enumerate(new)
            ]
            connection.execute(insert(configurations), rows)
        return len(new)

    def claim(self, worker: str, *, limit: int | None = None, key: str | None = None) -> Claim | None:
        """Take the pending configuration of the lowest rank under a lease.

        Args:
            worker: who claims, for people.
            limit: only among the first `limit` configurations of the study.
            key: only this configuration.

        Returns:
            The claim, or None where nothing that was asked for is pending.
        """
        token = uuid.uuid4().hex
        pending = select(columns.id).where(columns.study_id == self.study_id, columns.state == State.PENDING)
        if limit is not None:
            pending = pending.where(columns.rank < limit)
        if key is not None:
            pending = pending.where(columns.key == key)
        # Workers that claim at once pass over each other's rows on PostgreSQL; SQLite has one writer at a time
        # and leaves the clause out.
        pending = pending.order_by(columns.rank).limit(1).with_for_update(skip_locked=True)
        parameters = [columns[name] for name in PARAMETERS]
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
            .returning(columns.id, *parameters)
        )
        with self.database.write() as connection:
            found = connection.execute(statement).first()
        if found is None:
            return None
        # SQLite's RETURNING gives 0 for a stored 0.0, which would be another key.
        configuration = Configuration.of(dict(zip(PARAMETERS, found[1:], strict=True)))
        return Claim(found[0], configuration, token, worker)

    def renew(self, claim: Claim) -> bool:
        """Extend the lease; False where the claim was lost."""
        return self._change(claim, lease_expires=now() + self.lease_seconds)

    def attach(self, claim: Claim, trial_id: int) -> bool:
        """Note the Optuna trial of a claim; False where the claim was lost."""
        return self._change(claim, trial_id=trial_id)

    def hand_back(self, claim: Claim) -> bool:
        """Return the configuration unfinished, as good as never claimed; False where the claim was lost."""
        return self._change(claim, **_FREE)

    def fail_attempt(self, claim: Claim, reason: str, max_errors: int = MAX_ERRORS) -> State | None:
        """Record an attempt that ended in an exception.

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
                finished_at=case((spent, now()), else_=None),
            )
            .returning(columns.state)
        )
        with self.database.write() as connection:
            state = connection.execute(statement).scalar()
        return None if state is None else State(state)

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Store a result, its folds and its curves in one transaction.

        Returns:
            True where this claim's result is the one that counts, also when an earlier call stored it and only
            the answer was lost; False where the claim was lost and the result was recorded as superseded.
        """
        values = {
            "state": outcome.state,
            "value": outcome.value,
            "val_loss": outcome.mean_val_loss,
            "val_error": outcome.mean_val_error,
            "seconds": outcome.seconds,
            "reason": outcome.reason,
            "provenance": json.dumps(dict(outcome.provenance)),
            "finished_at": now(),
            "lease_expires": None,
        }
        with self.database.write() as connection:
            changed = connection.execute(update(configurations).where(*_held(claim)).values(**values))
            if changed.rowcount == 1:
                insert_many(connection, folds, _fold_rows(claim.row_id, outcome))
                insert_many(connection, curves, _curve_rows(claim.row_id, outcome))
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

    def reap(self) -> list[Lapsed]:
        """Make the rows pending again whose lease ran out."""
        expired = (
            columns.study_id == self.study_id,
            columns.state == State.RUNNING,
            columns.lease_expires < now(),
        )
        # A look first: it takes no write lock, and nearly always there is nothing to do.
        with self.database.read() as connection:
            lapsed = connection.execute(
                select(columns.id, columns.key, columns.worker, columns.trial_id).where(*expired)
            ).all()
        if not lapsed:
            return []
        ids = [row.id for row in lapsed]
        with self.database.write() as connection:
            statement = (
                update(configurations)
                .where(*expired, columns.id.in_(ids))
                .values(**_FREE)
                .returning(columns.id)
            )
            reaped = set(connection.execute(statement).scalars())
        return [Lapsed(row.key, row.worker, row.trial_id) for row in lapsed if row.id in reaped]

    def open_count(self, limit: int | None = None) -> int:
        """How many of the first `limit` configurations are pending or running."""
        return self._count((State.PENDING, State.RUNNING), limit)

    def pending_count(self, limit: int | None = None) -> int:
        """How many of the first `limit` configurations are pending."""
        return self._count((State.PENDING,), limit)

    def _count(self, states: Sequence[State], limit: int | None) -> int:
        statement = select(func.count()).where(columns.study_id == self.study_id, columns.state.in_(states))
        if limit is not None:
            statement = statement.where(columns.rank < limit)
        with self.database.read() as connection:
            return connection.execute(statement).scalar_one()

    def outcome(self, key: str) -> Outcome | None:
        """The stored result of a configuration, None where it has none."""
        with self.database.read() as connection:
            row = connection.execute(
                select(configurations).where(columns.study_id == self.study_id, columns.key == key)
            ).first()
            if row is None or row.state not in COVERED:
                return None
            points = connection.execute(
                select(
                    curves.c.fold,
                    curves.c.epoch,
                    curves.c.train_loss,
                    curves.c.val_loss,
                    curves.c.val_error,
                )
                .where(curves.c.configuration_id == row.id)
                .order_by(curves.c.fold, curves.c.epoch)
            ).all()
            diverged = connection.execute(
                select(folds.c.diverged_epoch)
                .where(folds.c.configuration_id == row.id)
                .order_by(folds.c.fold)
            ).scalars()
            return stored_outcome(row, points, tuple(diverged))

    def result_of(self, key: str, token: str) -> tuple[State | None, Outcome | None]:
        """State of a configuration as far as one claim is concerned, and that claim's result.

        Returns:
            (None, None) where the row is in other hands or in none.
        """
        with self.database.read() as connection:
            row = connection.execute(
                select(columns.state).where(
                    columns.study_id == self.study_id, columns.key == key, columns.claim == token
                )
            ).first()
        if row is None:
            return None, None
        state = State(row.state)
        return state, self.outcome(key) if state in COVERED else None

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


def _held(claim: Claim) -> Iterable[ColumnElement[bool]]:
    return columns.id == claim.row_id, columns.claim == claim.token, columns.state == State.RUNNING


def stored_outcome(
    row: sa.Row[Any], points: Sequence[Sequence[Any]], diverged: tuple[int | None, ...]
) -> Outcome:
    """An `Outcome` from its row and its (fold, epoch, figures ...) points; NULL becomes NaN."""
    import numpy as np  # noqa: PLC0415 - commands that only look start faster without it

    figures = np.array([point[2:] for point in points], dtype=np.float64)
    train_loss, val_loss, val_error = figures.T.reshape(3, len(diverged), -1)
    return Outcome(
        state=State(row.state),
        value=row.value,
        train_loss=train_loss,
        val_loss=val_loss,
        val_error=val_error,
        diverged=diverged,
        seconds=row.seconds,
        reason=row.reason,
        provenance=json.loads(row.provenance),
    )


def _fold_rows(row_id: int, outcome: Outcome) -> list[dict[str, object]]:
    return [
        {
            "configuration_id": row_id,
            "fold": fold,
            "train_loss": finite(outcome.train_loss[fold, -1]),
            "val_loss": finite(outcome.val_loss[fold, -1]),
            "val_error": finite(outcome.val_error[fold, -1]),
            "diverged_epoch": epoch,
        }
        for fold, epoch in enumerate(outcome.diverged)
    ]


def _curve_rows(row_id: int, outcome: Outcome) -> list[dict[str, object]]:
    count, epochs = outcome.val_loss.shape
    return [
        {
            "configuration_id": row_id,
            "fold": fold,
            "epoch": epoch + 1,
            "train_loss": finite(outcome.train_loss[fold, epoch]),
            "val_loss": finite(outcome.val_loss[fold, epoch]),
            "val_error": finite(outcome.val_error[fold, epoch]),
        }
        for fold in range(count)
        for epoch in range(epochs)
    ]
