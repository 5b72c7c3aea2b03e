"""What becomes of a configuration when a job of it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update

from pairsearch.search.database.clock import now
from pairsearch.search.database.states import OPEN, OPEN_JOBS, JobState, State
from pairsearch.search.database.tables import configurations, curves, jobs, runs
from pairsearch.search.ledger.checkpoints import drop_checkpoints
from pairsearch.search.ledger.outcome import Outcome, RunResult, conclude, fold_reports
from pairsearch.search.ledger.rows import read_configuration, read_runs, write_figures
from pairsearch.search.ledger.statements import LEFT, LOCKING, columns, jobs_of, of_job
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.view import Shown, View

_FREE: dict[str, object] = {"worker": None, "started_at": None, "trial_id": None}


class Closing:
    """The configurations of one study; every method works in the caller's transaction."""

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
        if ended.state == State.DIVERGED:
            self._drop(connection, row.key)
        if not self._study.traits.together:
            folds = range(self._study.definition.folds)
            drop_checkpoints(connection, self._study.id, row.key, "fold", folds)
        trial_id = self._view.finish(connection, shown(row), worker, ended)
        self._update(
            connection,
            row.id,
            state=ended.state,
            value=ended.value,
            figures=write_figures(ended.figures),
            seconds=ended.seconds,
            reason=ended.reason,
            provenance_id=origin,
            finished_at=now(),
            trial_id=trial_id,
        )
        return None

    def report(self, connection: Connection, of: Shown, folds: Sequence[RunResult]) -> None:
        """Show the metric of folds of a configuration that goes on, where folds are not trained together."""
        if of.trial_id is not None and not self._study.traits.together and self._view.due():
            self._view.report(connection, of, fold_reports(folds, self._study.definition.metric))

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

    def _drop(self, connection: Connection, key: str, first: int = 0) -> None:
        """Drop the jobs whose first fold has at least this number; whoever trains one has lost it."""
        # One that is locked is being claimed or ended; whoever does it waits for this configuration, and then looks.
        left = select(of_job.id).where(self._jobs(key, *OPEN_JOBS), of_job.first >= first)
        dropped = update(jobs).where(of_job.id.in_(left.with_for_update(skip_locked=True)))
        connection.execute(dropped.values(state=JobState.DROPPED, lease_expires=None))

    def give_up(
        self, connection: Connection, key: str, why: str, *, failed: bool = False, **values: object
    ) -> None:
        """Note on a configuration that an attempt at a job of it ended without a result.

        Args:
            failed: whether the job, and with it the configuration, has failed.
            values: columns of the configuration that change although another worker holds a job of it.
        """
        row = self.lock(connection, key)
        if row is None or row.state not in OPEN:
            return
        held = False
        if failed:
            self._drop(connection, key)
            values |= {"state": State.FAILED, "reason": why[:1000], "finished_at": now()} | _FREE
        elif not (held := self._is_held(connection, key)):
            values |= {"state": State.PENDING} | _FREE
        if values:
            self._update(connection, row.id, **values)
        if row.trial_id is not None and not held:
            self._view.abandon(connection, shown(row), why)

    def recount(self, connection: Connection, key: str) -> None:
        """Count the attempts at a configuration anew, after some were taken back; it may be tried again."""
        row = self.lock(connection, key)
        if row is None or row.state not in (*OPEN, State.FAILED):
            return
        failed = select(of_job.id).where(self._jobs(key, JobState.FAILED))
        again: dict[str, object] = {"reason": None}
        if connection.execute(failed).first() is not None:
            again = {"state": State.FAILED, "finished_at": now()}
        else:
            dropped = update(jobs).where(self._jobs(key, JobState.DROPPED))
            connection.execute(dropped.values(state=JobState.PENDING))
            if not self._is_held(connection, key):
                again |= {"state": State.PENDING, "finished_at": None} | _FREE
        for count in (of_job.errors, of_job.lapses):
            again[count.name] = select(func.sum(count)).where(self._jobs(key)).scalar_subquery()
        self._update(connection, row.id, **again)

    def _is_held(self, connection: Connection, key: str) -> bool:
        """Whether a worker holds a job of a configuration."""
        held = select(of_job.id).where(self._jobs(key, JobState.RUNNING)).limit(1)
        return connection.execute(held).first() is not None

    def _jobs(self, key: str, *states: JobState) -> ColumnElement[bool]:
        return jobs_of(self._study.id, key, "fold", *states)

    @staticmethod
    def _update(connection: Connection, row_id: int, /, **values: object) -> None:
        connection.execute(update(configurations).where(columns.id == row_id).values(**values))


def shown(row: Any) -> Shown:
    """Return what a row of configurations is shown as."""
    return Shown(row.id, read_configuration(row.key, row.params), row.trial_id)
