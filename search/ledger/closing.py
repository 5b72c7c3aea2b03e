"""What becomes of a configuration when a job of it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, update

from pairsearch.search.database.clock import now
from pairsearch.search.database.states import OPEN, JobState, State
from pairsearch.search.database.tables import configurations, curves, jobs, runs
from pairsearch.search.ledger.checkpoints import drop_checkpoints
from pairsearch.search.ledger.outcome import Outcome, RunResult, conclude
from pairsearch.search.ledger.rows import (
    read_configuration,
    read_runs,
    write_figures,
)
from pairsearch.search.ledger.statements import LEFT, LETTING_GO, LOCKING, of_job
from pairsearch.search.ledger.stored import columns
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.view import Shown, View


class Closing:
    """The configurations of one study; every method works in the caller's transaction.

    Args:
        view: what shows the study to others.
    """

    def __init__(self, study: StoredStudy, view: View) -> None:
        self._study = study
        self._view = view

    def lock(self, connection: Connection, key: str) -> Any:
        """Return the row of a configuration, which nobody else changes until the end of the transaction."""
        return connection.execute(LOCKING, {"of_study": self._study.id, "of_key": key}).first()

    def end(
        self, connection: Connection, row: Any, worker: str, ended: Outcome, origin: int
    ) -> list[str] | None:
        """Close a configuration if it has all its folds now, after a job of it has ended.

        A configuration has diverged at its first fold that did. Later folds do not belong to its result, whether they
        were trained or not: which of them are stored must not depend on who came first.

        Args:
            row: the configuration's row, locked.
            ended: the outcome of the job.
            origin: the id of its provenance.

        Returns:
            None if it is closed, else the states of the jobs that it waits for.
        """
        wanted = self._study.definition.folds
        if not self._study.traits.together and (len(ended.folds) < wanted or ended.folds[0].index > 0):
            left = self._left(connection, row.key)
            outcome = None if left else self._of_all(connection, row.key, ended)
            if outcome is None:
                self.report(connection, shown(row), ended.folds)
                return left
            ended = outcome
        self._close(connection, row, worker, ended, origin)
        return None

    def let_go(self, connection: Connection, row: Any) -> None:
        """Note that nobody holds a job of a configuration."""
        connection.execute(LETTING_GO, {"of_id": row.id})

    def _close(self, connection: Connection, row: Any, worker: str, outcome: Outcome, origin: int) -> None:
        if outcome.state == State.DIVERGED:
            self._drop(connection, row.key, 0)
        self.forget(connection, row.key)
        trial_id = self._view.finish(connection, shown(row), worker, outcome)
        self._update(
            connection,
            row.id,
            state=outcome.state,
            value=outcome.value,
            figures=write_figures(outcome.figures),
            seconds=outcome.seconds,
            reason=outcome.reason,
            provenance_id=origin,
            finished_at=now(),
            trial_id=trial_id,
        )

    def report(self, connection: Connection, of: Shown, folds: Sequence[RunResult]) -> None:
        """Show the metric of folds of a configuration that goes on, where folds are not trained together."""
        metric = self._study.definition.metric
        known = {fold.index + 1: value for fold in folds if (value := fold.last(metric)) is not None}
        if of.trial_id is not None and not self._study.traits.together and self._view.due():
            self._view.report(connection, of, known)

    def _left(self, connection: Connection, key: str) -> list[str]:
        """Return the states of the jobs that a configuration waits for, and drop those after a fold that diverged.

        The curves of the stored folds are not read, as long as folds are left.
        """
        found = connection.execute(LEFT, {"of_study": self._study.id, "of_key": key}).all()
        first = found[0].diverged if found else None
        if first is None:
            return [job.state for job in found]
        self._drop(connection, key, first + 1)
        return [job.state for job in found if job.first <= first]

    def _of_all(self, connection: Connection, key: str, ended: Outcome) -> Outcome | None:
        """Return the outcome of all stored folds, None if some are still to be trained."""
        stored = read_runs(connection, self._study.id, key, "fold")
        first = next((fold.index for fold in stored if fold.diverged is not None), None)
        wanted = self._study.definition.folds if first is None else first + 1
        pruned = ended.state == State.PRUNED
        if pruned:
            # An earlier attempt may have stored later folds, and none of some before them.
            wanted = min(wanted, ended.folds[-1].index + 1)
        folds = [fold for fold in stored if fold.index < wanted]
        if len(folds) < wanted and not pruned:
            return None
        if len(folds) < len(stored):
            self._delete_after(connection, key, folds[-1])
        return conclude(
            self._study.definition,
            self._study.traits,
            folds,
            pruned=pruned,
            seconds=sum(fold.seconds or 0.0 for fold in folds),
            provenance=ended.provenance,
        )

    def _delete_after(self, connection: Connection, key: str, last: RunResult) -> None:
        c = runs.c
        mine = and_(c.study_id == self._study.id, c.key == key, c.kind == "fold", c.run > last.index)
        late = connection.execute(select(c.id).where(mine)).scalars().all()
        connection.execute(delete(curves).where(curves.c.run_id.in_(late)))
        connection.execute(delete(runs).where(c.id.in_(late)))

    def _drop(self, connection: Connection, key: str, first: int) -> None:
        """Drop the jobs whose first fold has at least this number; whoever trains one has lost it."""
        mine = and_(
            of_job.study_id == self._study.id,
            of_job.key == key,
            of_job.kind == "fold",
            of_job.first >= first,
            of_job.state.in_((JobState.PENDING, JobState.RUNNING)),
        )
        # One that is locked is being claimed or ended; whoever does it waits for this configuration, and then looks.
        free = select(of_job.id).where(mine).with_for_update(skip_locked=True)
        connection.execute(
            update(jobs).where(of_job.id.in_(free)).values(state=JobState.DROPPED, lease_expires=None)
        )

    def forget(self, connection: Connection, key: str) -> None:
        """Delete the checkpoints of the folds of a configuration."""
        if not self._study.traits.together:
            folds = range(self._study.definition.folds)
            drop_checkpoints(connection, self._study.id, key, "fold", folds)

    def give_up(self, connection: Connection, key: str, reason: str, *, failed: bool = False) -> None:
        """Note on a configuration that an attempt at a job of it ended without a result.

        Args:
            reason: why it ended.
            failed: whether the job, and with it the configuration, has failed.
        """
        row = self.lock(connection, key)
        if row is None or row.state not in OPEN:
            return
        if failed:
            self._drop(connection, key, 0)
            self._update(
                connection, row.id, state=State.FAILED, reason=reason[:1000], finished_at=now(), **_FREE
            )
        elif self._is_held(connection, key):
            return
        else:
            self._update(connection, row.id, state=State.PENDING, **_FREE)
        if row.trial_id is not None:
            self._view.abandon(connection, shown(row), reason)

    def recount(self, connection: Connection, key: str) -> None:
        """Count the attempts at a configuration anew, after some were taken back; it may be tried again."""
        row = self.lock(connection, key)
        if row is None or row.state not in (*OPEN, State.FAILED):
            return
        mine = and_(of_job.study_id == self._study.id, of_job.key == key, of_job.kind == "fold")
        failed = connection.execute(select(of_job.id).where(mine, of_job.state == JobState.FAILED)).first()
        if failed is None:
            dropped = update(jobs).where(mine, of_job.state == JobState.DROPPED)
            connection.execute(dropped.values(state=JobState.PENDING))
        again: dict[str, object] = {"state": State.PENDING, "finished_at": None} | _FREE
        if failed is not None:
            again = {"state": State.FAILED, "finished_at": now()}
        elif self._is_held(connection, key):
            again = {}
        self._update(
            connection,
            row.id,
            errors=select(func.sum(of_job.errors)).where(mine).scalar_subquery(),
            lapses=select(func.sum(of_job.lapses)).where(mine).scalar_subquery(),
            reason=None if failed is None else row.reason,
            **again,
        )

    def _is_held(self, connection: Connection, key: str) -> bool:
        """Whether a worker holds a job of a configuration."""
        held = select(of_job.id).where(
            of_job.study_id == self._study.id,
            of_job.key == key,
            of_job.kind == "fold",
            of_job.state == JobState.RUNNING,
        )
        return connection.execute(held.limit(1)).first() is not None

    @staticmethod
    def _update(connection: Connection, row_id: int, /, **values: object) -> None:
        connection.execute(update(configurations).where(columns.id == row_id).values(**values))

    def _is(self, key: str) -> Any:
        return and_(columns.study_id == self._study.id, columns.key == key)


def shown(row: Any) -> Shown:
    """Return what a row of configurations is shown as."""
    return Shown(row.id, read_configuration(row.key, row.params), row.trial_id)


_FREE: dict[str, object] = {"worker": None, "started_at": None, "trial_id": None}
