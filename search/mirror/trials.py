"""Shows the ledger in Optuna's tables, for the dashboard and Optuna's tools.

The rows are written in the ledger's own transactions, so that the two agree at every moment. Nothing here reads them
back, but for what somebody may have deleted, which is then made again from the ledger (`search.mirror.projecting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

import optuna
from optuna.trial import TrialState
from sqlalchemy import Connection, select, update

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.outcome import Outcome, finite
from pairsearch.search.ledger.studies import StoredStudy, seen_by
from pairsearch.search.ledger.view import Shown, View
from pairsearch.search.mirror import presence, tables
from pairsearch.search.mirror.projecting import (
    FAILED_REASON,
    add_by_optuna,
    add_trials,
    ended_trial,
    make_trial,
    project,
)
from pairsearch.search.mirror.tables import trials

# People look, and the dashboard asks again after ten seconds.
REPORT_SECONDS = 1.0


def open_view(database: Database, study: StoredStudy) -> View:
    """Return what shows a study in Optuna's tables, after what they lacked was made; raises as `known_here`."""
    complete(database, study)
    return (Trials if tables.known_here(database) else AddedTrials)(database, study)


class _Shown(View):
    def __init__(self, database: Database, study: StoredStudy) -> None:
        self._database = database
        self._study = study

    def complete(self) -> int:
        return complete(self._database, self._study)


class Trials(_Shown):
    """The trials of one study, written row by row."""

    _reported = float("-inf")

    def due(self) -> bool:
        return monotonic() - self._reported >= REPORT_SECONDS

    def start(self, connection: Connection, shown: Shown, worker: str) -> int:
        trial = make_trial(TrialState.RUNNING, {"worker": worker})
        (trial_id,) = add_trials(connection, self._study, {shown: trial})
        return trial_id

    def report(self, connection: Connection, shown: Shown, reports: Mapping[int, float]) -> None:
        """Write the metric after some steps (`StoredStudy.report_steps`), where it is finite."""
        known = {step: float(value) for step, value in reports.items() if finite(value) is not None}
        if not known or shown.trial_id is None:
            return
        mine = tables.running_trial(shown.trial_id, self._study.name, shown.row_id)
        if connection.execute(select(trials.c.trial_id).where(mine)).first() is not None:
            reported = make_trial(TrialState.RUNNING, {}, reports=known)
            tables.write_trials(connection, {shown.trial_id: reported})
            self._reported = monotonic()

    def finish(self, connection: Connection, shown: Shown, worker: str, outcome: Outcome) -> int:
        """Close a trial with its result: COMPLETE with the value, or PRUNED with the reason."""
        trial = ended_trial(self._study, worker, outcome)
        if shown.trial_id is None or not self._closed(connection, shown, shown.trial_id, trial.state):
            # Somebody deleted it, or closed it.
            (trial_id,) = add_trials(connection, self._study, {shown: trial})
            return trial_id
        tables.write_trials(connection, {shown.trial_id: trial})
        return shown.trial_id

    def abandon(self, connection: Connection, shown: Shown, reason: str) -> None:
        """Close the trial of an attempt without result: FAIL, with the reason."""
        if shown.trial_id is not None and self._closed(connection, shown, shown.trial_id, TrialState.FAIL):
            failed = make_trial(TrialState.FAIL, {FAILED_REASON: reason[:500]})
            tables.write_trials(connection, {shown.trial_id: failed})

    def _closed(self, connection: Connection, shown: Shown, trial_id: int, state: TrialState) -> bool:
        mine = tables.running_trial(trial_id, self._study.name, shown.row_id)
        closed = update(trials).where(mine).values(state=state, datetime_complete=tables.utc())
        return connection.execute(closed).rowcount == 1


class AddedTrials(_Shown):
    """Where Optuna's tables are not those that we know: trials are added by Optuna itself, when they have ended."""

    notice = (
        f"Optuna {optuna.__version__} has tables that are new here: trials are added when they have ended"
    )

    def committed(self) -> None:
        """Add the trials of all results that have none, one worker at a time."""
        with self._database.creation_lock():
            add_by_optuna(self._database, self._study)


def complete(database: Database, study: StoredStudy) -> int:
    """Make what Optuna's tables lack of a study, where somebody deleted it; return how many trials it were.

    Raises:
        StudyError: Optuna has another study of that name.
    """
    if presence.shown(database, study):
        return 0
    with database.creation_lock():
        if not tables.make_tables(database):
            return add_by_optuna(database, study)
        with database.write() as connection:
            return project(connection, seen_by(connection, study))
