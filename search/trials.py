"""Optuna's view of a study: every claim of the ledger as a trial, mirrored so that the dashboard can read it.

The ledger is the truth. A trial carries its claim's token as a user attribute, so that a trial which a dead worker
left RUNNING can be told from a live one and mended from the ledger, by any worker (`Mirror.reconcile`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages._rdb import models as optuna_tables
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, event, select, update
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from search.catalogue import Choices, StoredStudy, read_choices
from search.database import Database, limit_transaction, tune_sqlite
from search.errors import DatabaseAwayError, StorageError, StudyError
from search.ledger import Claim, Ledger
from search.outcome import Outcome, finite
from search.states import COVERED, State
from search.trial_storage import RunningTrial, TrialStorage

# A mean curve of about this many points: one write of some 2 ms each.
REPORTS = 10

FAILED_REASON = "failed_reason"


def report_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs whose mean is reported to Optuna: about ten, evenly spaced, the last among them."""
    step = max(1, epochs // REPORTS)
    return tuple(range(epochs, 0, -step))[::-1]


def distributions(choices: Choices) -> dict[str, BaseDistribution]:
    """Optuna's categorical distributions of a study's parameters."""
    return {name: CategoricalDistribution(values) for name, values in choices.items()}


@contextmanager
def translated(database: Database) -> Iterator[None]:
    """Turn what Optuna, SQLAlchemy and the drivers raise inside the block into our errors."""
    with database.translated():
        try:
            yield
        except StorageInternalError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, DBAPIError):
                raise cause from None
            if isinstance(cause, PendingRollbackError):
                # Optuna goes on asking, one by one, after a connection broke off.
                raise DatabaseAwayError(
                    f"database {database.label} is not reachable: the connection broke off"
                ) from None
            raise


def open_storage(database: Database) -> TrialStorage:
    """Optuna's storage in the same database; makes its tables where they are missing.

    The caller that may be the first holds `Database.creation_lock`.

    Raises:
        StorageError: Optuna's tables are of another version than the installed Optuna expects.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = database.url.render_as_string(hide_password=False)
    with translated(database):
        # Making the tables takes a second connection beside the one that asks. So would Optuna's check of their
        # version: where connections are few, as behind PgBouncer, workers that start at once would each hold one
        # and wait for another. Hence the same check here, with one at a time.
        storage = TrialStorage(
            url, engine_kwargs=database.engine_options(overflow=1), skip_compatibility_check=True
        )
        found, expected = storage.get_current_version(), storage.get_head_version()
    if found != expected:
        storage.engine.dispose()
        raise StorageError(
            f"database {database.label} has Optuna tables of version {found}, where Optuna {optuna.__version__} has "
            f"{expected}: install the other Optuna, or let `optuna storage upgrade` change the tables"
        )
    if database.is_sqlite:
        event.listen(storage.engine, "connect", tune_sqlite)
        storage.engine.dispose()  # connections made before the listener
    else:
        event.listen(storage.engine, "begin", limit_transaction)
    return storage


def create_optuna_study(database: Database, storage: TrialStorage, name: str) -> int:
    """Optuna's id of a new study; an empty one left by a creation that was cut off is taken over.

    Raises:
        StudyError: the database has a study of that name that is not ours.
    """
    with translated(database):
        try:
            return storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
        except optuna.exceptions.DuplicatedStudyError:
            study_id = storage.get_study_id_from_name(name)
        if storage.get_n_trials(study_id) or storage.get_study_directions(study_id) != [
            optuna.study.StudyDirection.MINIMIZE
        ]:
            raise StudyError(
                f"study {name}: the database has an Optuna study of that name that pairsearch did not make: "
                "use another study name or another database"
            )
        return study_id


def extend_choices(connection: Connection, study: StoredStudy, choices: Choices) -> None:
    """Write a larger grid into the distributions of the trials that there are.

    Optuna refuses a parameter whose categories differ between trials. It stores a value as its place among the
    categories, and `choices` only ever appends, so that the stored values keep their meaning. There is no public
    call for this, hence Optuna's own table, in the caller's transaction.
    """
    # Under the lock that a new trial takes before it reads the choices (`TrialStorage.start_trial`).
    studies = optuna_tables.StudyModel
    connection.execute(
        select(studies.study_id).where(studies.study_id == study.optuna_study_id).with_for_update()
    )
    trials = select(optuna_tables.TrialModel.trial_id).where(
        optuna_tables.TrialModel.study_id == study.optuna_study_id
    )
    for name, values in choices.items():
        if values != study.choices.get(name):
            connection.execute(
                update(optuna_tables.TrialParamModel)
                .where(
                    optuna_tables.TrialParamModel.param_name == name,
                    optuna_tables.TrialParamModel.trial_id.in_(trials),
                )
                .values(distribution_json=distribution_to_json(CategoricalDistribution(values)))
            )


class Mirror:
    """The trials of one study in Optuna's tables.

    Methods raise as `search.database.Database.write` does.
    """

    def __init__(self, database: Database, storage: TrialStorage, study: StoredStudy, ledger: Ledger) -> None:
        self.database = database
        self.storage = storage
        self.study = study
        self.ledger = ledger

    def start(self, claim: Claim, provenance: Mapping[str, str]) -> int:
        """Add the trial of a claim in state RUNNING, with its parameters, and return Optuna's id of it."""
        template = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),  # Optuna's convention: local time without a zone
            datetime_complete=None,
            params=claim.configuration.params,
            distributions=distributions(self.study.choices),
            user_attrs={
                "configuration": claim.configuration.key,
                "claim": claim.token,
                "worker": claim.worker,
                "provenance": dict(provenance),
            },
            system_attrs={},
            intermediate_values={},
        )
        with translated(self.database):
            trial_id = self.storage.start_trial(
                self.study.optuna_study_id,
                template,
                lambda connection: distributions(read_choices(connection, self.study.id)),
            )
        self.ledger.attach(claim, trial_id)
        return trial_id

    def choices(self) -> Choices:
        """The values of each hyperparameter, those that the grid gained since the worker started among them."""
        with self.database.read() as connection:
            return read_choices(connection, self.study.id)

    def adopt(self, claim: Claim, trial_id: int, provenance: Mapping[str, str]) -> None:
        """Bind a trial that a sampler asked for to the claim of its configuration."""
        with translated(self.database):
            self.storage.set_trial_user_attr(trial_id, "configuration", claim.configuration.key)
            self.storage.set_trial_user_attr(trial_id, "worker", claim.worker)
            self.storage.set_trial_user_attr(trial_id, "provenance", dict(provenance))
            self.storage.set_trial_user_attr(trial_id, "claim", claim.token)
        self.ledger.attach(claim, trial_id)

    def report(self, trial_id: int, epoch: int, value: float) -> None:
        """Report the mean over folds after an epoch; one that is not finite is left out."""
        if finite(value) is not None:
            # A trial whose lease was lost, or whose result is in the ledger, may have been closed by another worker.
            with translated(self.database), suppress(UpdateFinishedTrialError):
                self.storage.set_trial_intermediate_value(trial_id, epoch, float(value))

    def finish(self, trial_id: int, outcome: Outcome, reported: frozenset[int] = frozenset()) -> None:
        """Tell Optuna a result: COMPLETE with its value, or PRUNED with the reason.

        Args:
            reported: epochs whose mean was reported while training.
        """
        curve = outcome.val_loss if self.study.definition.metric == "val_loss" else outcome.val_error
        reports = {
            epoch: mean
            for epoch in report_epochs(self.study.definition.epochs)
            if epoch not in reported
            and epoch <= curve.shape[1]
            and (mean := finite(curve[:, epoch - 1].mean())) is not None
        }
        result: dict[str, Any] = {
            "val_loss": [finite(loss) for loss in outcome.val_loss[:, -1]],
            "val_error": [finite(error) for error in outcome.val_error[:, -1]],
            "seconds": round(outcome.seconds, 3),
        }
        if outcome.reason:
            result["reason"] = outcome.reason
        state = TrialState.COMPLETE if outcome.state == State.FINISHED else TrialState.PRUNED
        self._close(trial_id, state, outcome.value, {"folds": result}, reports)

    def abandon(self, trial_id: int, reason: str) -> None:
        """Close the trial of an attempt that gave no result: FAIL, with the reason."""
        self._close(trial_id, TrialState.FAIL, None, {FAILED_REASON: reason}, {})

    def _close(
        self,
        trial_id: int,
        state: TrialState,
        value: float | None,
        user_attrs: Mapping[str, Any],
        reports: Mapping[int, float],
    ) -> None:
        # Another worker may have mended it first.
        with translated(self.database), suppress(UpdateFinishedTrialError):
            self.storage.close_trial(trial_id, state, value, user_attrs, reports)

    def running(self) -> list[RunningTrial]:
        """The trials in state RUNNING."""
        with translated(self.database):
            return self.storage.running_trials(self.study.optuna_study_id)

    def reconcile(self) -> int:
        """Mend the trials that dead workers left RUNNING; returns how many.

        A trial is alive only while the ledger's row holds its claim. The trial is read before the row, and a
        claim is in the ledger before its trial exists, so a live trial is never mistaken for a dead one.
        """
        mended = 0
        for trial in self.running():
            key, token = trial.attributes.get("configuration"), trial.attributes.get("claim")
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
        # Only a sampler's trial exists before its claim, for milliseconds.
        age = datetime.now() - (trial.started or datetime.now())
        return age.total_seconds() > self.ledger.lease_seconds
