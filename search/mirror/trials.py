"""Shows the ledger in Optuna's tables, for the dashboard and Optuna's tools.

The rows are written in the ledger's own transactions, so that the two agree at every moment. Nothing here reads them
back, but for what somebody may have deleted, which is then made again from the ledger (`search.mirror.projecting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

import optuna
from optuna.trial import TrialState
from sqlalchemy import Connection, update

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.outcome import Outcome, finite
from pairsearch.search.ledger.studies import StoredStudy, read_choices, seen_by
from pairsearch.search.ledger.view import NoView, Shown, View
from pairsearch.search.mirror import presence, tables
from pairsearch.search.mirror.contents import FAILED_REASON, attributes_of, reports_of, state_of
from pairsearch.search.mirror.projecting import (
    add_by_optuna,
    add_ended,
    ended_trial,
    make_study,
    project,
)
from pairsearch.search.mirror.space import Space
from pairsearch.search.mirror.tables import trials


def open_view(database: Database, study: StoredStudy) -> View:
    """Return what shows a study in Optuna's tables, after what they lacked was made.

    Raises:
        StorageError: the installed Optuna does not know the tables in the database.
    """
    complete(database, study)
    return Trials(study) if tables.known_here(database) else AddedTrials(database, study)


# People look, and the dashboard asks again after ten seconds.
REPORT_SECONDS = 1.0


class Trials(View):
    """The trials of one study, written row by row."""

    notice = ""

    def __init__(self, study: StoredStudy) -> None:
        self._study = study
        self._reported = float("-inf")

    def due(self) -> bool:
        """Whether the last report was a while ago."""
        return monotonic() - self._reported >= REPORT_SECONDS

    def start(self, connection: Connection, shown: Shown, worker: str) -> int:
        """Add a trial in state RUNNING, with its parameters; return its id."""
        study_id = tables.find_study(connection, self._study.name, lock=True)
        if study_id is None:
            study_id = make_study(connection, self._study)
        row = {"state": TrialState.RUNNING, "datetime_start": tables.utc(), "datetime_complete": None}
        (trial_id,) = tables.insert_trials(connection, study_id, [row])
        # The grid may have grown since this worker started; the lock keeps it from growing now.
        space = Space(read_choices(connection, self._study.id))
        params = shown.configuration.params
        tables.write_params(connection, trial_id, space.categories(params), space.of(params))
        about = {"configuration": shown.configuration.key, "worker": worker, tables.ROW: shown.row_id}
        tables.write_notes(connection, tables.notes, trial_id, about)
        return trial_id

    def report(self, connection: Connection, shown: Shown, reports: Mapping[int, float]) -> None:
        """Write the metric after some steps (`search.mirror.contents.report_steps`), where it is finite."""
        known = {step: float(value) for step, value in reports.items() if finite(value) is not None}
        if known and shown.trial_id is not None and self._still_there(connection, shown):
            tables.write_reports(connection, shown.trial_id, known)
            self._reported = monotonic()

    def _still_there(self, connection: Connection, shown: Shown) -> bool:
        assert shown.trial_id is not None  # noqa: S101 - the callers have looked
        mine = tables.running_trial(shown.trial_id, self._study.name, shown.row_id)
        return connection.execute(trials.select().where(mine)).first() is not None

    def finish(self, connection: Connection, shown: Shown, worker: str, outcome: Outcome) -> int:
        """Close a trial with its result: COMPLETE with the value, or PRUNED with the reason."""
        if shown.trial_id is None or not self._closed(connection, shown, state_of(outcome)):
            # Somebody deleted it, or closed it.
            return add_ended(connection, self._study, [ended_trial(shown, worker, outcome)])[0]
        if outcome.value is not None:
            tables.write_value(connection, shown.trial_id, outcome.value)
        about = attributes_of(outcome) | {"worker": worker, "provenance": dict(outcome.provenance)}
        tables.write_notes(connection, tables.notes, shown.trial_id, about)
        tables.write_reports(connection, shown.trial_id, reports_of(self._study, outcome))
        return shown.trial_id

    def abandon(self, connection: Connection, shown: Shown, reason: str) -> None:
        """Close the trial of an attempt without result: FAIL, with the reason."""
        if shown.trial_id is not None and self._closed(connection, shown, TrialState.FAIL):
            tables.write_notes(connection, tables.notes, shown.trial_id, {FAILED_REASON: reason[:500]})

    def _closed(self, connection: Connection, shown: Shown, state: TrialState) -> bool:
        assert shown.trial_id is not None  # noqa: S101 - the callers have looked
        mine = tables.running_trial(shown.trial_id, self._study.name, shown.row_id)
        closed = update(trials).where(mine).values(state=state, datetime_complete=tables.utc())
        return connection.execute(closed).rowcount == 1

    def committed(self) -> None:
        """Do nothing: all was written in the transaction."""


class AddedTrials(NoView):
    """Where Optuna's tables are not those that we know: trials are added by Optuna itself, when they have ended."""

    notice = (
        f"Optuna {optuna.__version__} has tables that are new here: trials are added when they have ended"
    )

    def __init__(self, database: Database, study: StoredStudy) -> None:
        self._database = database
        self._study = study

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
        return complete_locked(database, study)


def complete_locked(database: Database, study: StoredStudy) -> int:
    """Do what `complete` does; the caller holds the creation lock."""
    tables.make_tables(database)
    if not tables.known_here(database):
        return add_by_optuna(database, study)
    with database.write() as connection:
        return project(connection, seen_by(connection, study))
