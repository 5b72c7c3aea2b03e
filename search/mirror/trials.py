"""Mirrors every claim of the ledger as a trial in Optuna's tables, for the dashboard and Optuna's tools.

The ledger decides; the trials follow. A trial has its claim's token as a user attribute, by which any worker can
recognise a trial that a dead worker left RUNNING, and close it from the ledger (`Mirror.reconcile`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, event

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.transactions import limit_transaction, tune_sqlite
from pairsearch.search.errors import StorageError
from pairsearch.search.ledger.configurations import Claim, Ledger
from pairsearch.search.ledger.outcome import Outcome, finite
from pairsearch.search.ledger.studies import Choices, StoredStudy, get_study, read_choices
from pairsearch.search.mirror.contents import FAILED_REASON, attributes_of, reports_of, state_of
from pairsearch.search.mirror.presence import mirrored
from pairsearch.search.mirror.restoring import restore
from pairsearch.search.mirror.storage import RunningTrial, TrialIdentity, TrialStorage
from pairsearch.search.mirror.study import (
    FinishedTrialError,
    LostTrialError,
    Space,
    translated,
    watched,
)
from pairsearch.studies.configuration import Params


def open_storage(database: Database) -> TrialStorage:
    """Open Optuna's storage in the same database, and create its tables if they are missing.

    A caller that may be the first holds `Database.creation_lock`.

    Raises:
        StorageError: Optuna's tables have another version than the installed Optuna expects.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = database.url.render_as_string(hide_password=False)
    with translated(database):
        # Creating the tables takes a second connection. Optuna's check of their version would take one too: where
        # connections are few, as behind PgBouncer, workers that start together would each hold one and wait for
        # another. The check below does the same with one connection.
        storage = TrialStorage(
            url, engine_kwargs=database.engine_options(overflow=1), skip_compatibility_check=True
        )
        current, expected = storage.get_current_version(), _expected_version(storage)
    if current != expected:
        storage.engine.dispose()
        raise StorageError(
            f"database {database.label} has Optuna tables of version {current}, where Optuna {optuna.__version__} has "
            f"{expected}: install the other Optuna, or let `optuna storage upgrade` change the tables"
        )
    if database.is_sqlite:
        event.listen(storage.engine, "connect", tune_sqlite)
        storage.engine.dispose()  # closes the connections made before the listener
    else:
        event.listen(storage.engine, "begin", limit_transaction)
    return storage


_expected: list[str] = []


def _expected_version(storage: TrialStorage) -> str:
    """What the installed Optuna expects; it runs the files of all its migrations whenever it is asked."""
    if not _expected:
        _expected.append(storage.get_head_version())
    return _expected[0]


class Mirror:
    """The trials of one study in Optuna's tables.

    Methods raise what `search.database.connection.Database.write` raises.
    """

    def __init__(self, database: Database, storage: TrialStorage, study: StoredStudy, ledger: Ledger) -> None:
        self.database = database
        self.storage = storage
        self.study = study
        self.ledger = ledger
        # Tokens of claims by trial id, which tell a trial from a later one with the same id.
        self._claims: dict[int, str] = {}

    def mend(self) -> int:
        """Restore from the ledger what someone deleted of Optuna's study; return how many trials.

        Raises:
            StudyError: Optuna has another study of that name.
        """
        if mirrored(self.database, self.study):
            restored = 0
        else:
            with self.database.creation_lock():
                restored = restore(self.database, self.storage, self.study)
        optuna_study_id = get_study(self.database, self.study.name).optuna_study_id
        self.study = dataclasses.replace(self.study, optuna_study_id=optuna_study_id)
        return restored

    def start(self, claim: Claim, provenance: Mapping[str, str]) -> int:
        """Add the trial of a claim in state RUNNING, with its parameters; return its id."""
        space, params = Space(self.study.choices), claim.configuration.params
        template = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),  # Optuna's convention: local time without a zone
            datetime_complete=None,
            params=space.categories(params),
            distributions=space.of(params),
            user_attrs={
                "configuration": claim.configuration.key,
                "claim": claim.token,
                "worker": claim.worker,
                "provenance": dict(provenance),
            },
            system_attrs={},
            intermediate_values={},
        )
        try:
            trial_id = self._add(template, params)
        except LostTrialError:
            self.mend()
            trial_id = self._add(template, params)
        self._claims[trial_id] = claim.token
        self.ledger.attach(claim, trial_id)
        return trial_id

    def _add(self, template: FrozenTrial, params: Params) -> int:
        def current(connection: Connection) -> tuple[Mapping[str, Any], Mapping[str, BaseDistribution]]:
            space = Space(read_choices(connection, self.study.id))
            return space.categories(params), space.of(params)

        with watched(self.database, self.study.name):
            return self.storage.start_trial(self.study.name, template, current)

    def holds(self, trial_id: int) -> bool:
        """Whether a trial still exists, and was not replaced by another with the same id."""
        try:
            with watched(self.database, self.study.name):
                return self.storage.holds(trial_id, self._identity(trial_id))
        except LostTrialError:
            return False

    def _identity(self, trial_id: int) -> TrialIdentity:
        return TrialIdentity(self.study.name, self._claims.get(trial_id))

    def choices(self) -> Choices:
        """Read the current values of each parameter: the grid may have grown since the worker started."""
        with self.database.read() as connection:
            return read_choices(connection, self.study.id)

    def adopt(self, claim: Claim, trial_id: int, provenance: Mapping[str, str]) -> None:
        """Bind a trial that a sampler asked for to the claim of its configuration."""
        # If the trial was deleted, its result is mirrored at the end (`_close`).
        if self.holds(trial_id):
            with suppress(LostTrialError), watched(self.database, self.study.name):
                self.storage.set_trial_user_attr(trial_id, "configuration", claim.configuration.key)
                self.storage.set_trial_user_attr(trial_id, "worker", claim.worker)
                self.storage.set_trial_user_attr(trial_id, "provenance", dict(provenance))
                self.storage.set_trial_user_attr(trial_id, "claim", claim.token)
        self._claims[trial_id] = claim.token
        self.ledger.attach(claim, trial_id)

    def report(self, trial_id: int, step: int, value: float) -> None:
        """Report the metric after a step (`search.mirror.contents.report_steps`), unless it is not finite."""
        if finite(value) is not None:
            # Another worker may have closed the trial if its lease was lost or its result is in the ledger. If it was
            # deleted, its result is mirrored at the end.
            with (
                suppress(FinishedTrialError, LostTrialError),
                watched(self.database, self.study.name),
            ):
                self.storage.report(trial_id, step, float(value), self._identity(trial_id))

    def finish(self, trial_id: int, outcome: Outcome, reported: frozenset[int] = frozenset()) -> None:
        """Close a trial with its result: COMPLETE with the value, or PRUNED with the reason.

        Args:
            reported: steps that were reported during training.
        """
        reports = reports_of(self.study, outcome, reported)
        self._close(trial_id, state_of(outcome), outcome.value, attributes_of(outcome), reports)

    def abandon(self, trial_id: int, reason: str) -> None:
        """Close the trial of an attempt without result: FAIL, with the reason."""
        self._close(trial_id, TrialState.FAIL, None, {FAILED_REASON: reason}, {})

    def _close(
        self,
        trial_id: int,
        state: TrialState,
        value: float | None,
        user_attrs: Mapping[str, Any],
        reports: Mapping[int, float],
    ) -> None:
        identity = self._identity(trial_id)
        try:
            # Another worker may have closed the trial first.
            with suppress(FinishedTrialError), watched(self.database, self.study.name):
                self.storage.close_trial(trial_id, state, value, user_attrs, reports, identity)
        except LostTrialError:
            # The result is in the ledger by now, from which it is restored.
            self.mend()
        self._claims.pop(trial_id, None)

    def running(self) -> list[RunningTrial]:
        """Read the trials in state RUNNING."""
        with watched(self.database, self.study.name):
            return self.storage.running_trials(self.study.optuna_study_id)

    def reconcile(self) -> int:
        """Close the trials that dead workers left RUNNING, and restore deleted ones; return how many.

        A trial is alive only while the ledger's row has its claim. The trial is read before the row, and a claim is in
        the ledger before its trial exists, so that a live trial is never mistaken for a dead one.
        """
        mended = self.mend()
        for trial in self.running():
            key, token = trial.attributes.get("configuration"), trial.attributes.get("claim")
            if isinstance(token, str):
                self._claims[trial.trial_id] = token
            if token is None:
                if not self._abandoned_before_claim(trial):
                    continue
                self.abandon(trial.trial_id, "its worker ended before it claimed the configuration")
            else:
                state, outcome = self.ledger.result_of(str(key), str(token), trial.trial_id)
                if state == State.RUNNING:
                    continue
                if outcome is not None and state in COVERED:
                    self.finish(trial.trial_id, outcome, trial.reported)
                else:
                    self.abandon(
                        trial.trial_id, "its worker ended or lost its lease: the configuration went back"
                    )
            mended += 1
        return mended

    def _abandoned_before_claim(self, trial: RunningTrial) -> bool:
        # Only the trial of a sampler exists before its claim, and only for milliseconds.
        age = datetime.now() - (trial.started or datetime.now())
        return age.total_seconds() > self.ledger.lease_seconds
