"""Optuna's view of a study: every claim of the ledger as a trial, mirrored so that the dashboard can read it.

The ledger is the truth. A trial carries its claim's token as a user attribute, so that a trial which a dead worker
left RUNNING can be told from a live one and mended from the ledger, by any worker (`Mirror.reconcile`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models as optuna_tables
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, event, select, update
from sqlalchemy.exc import DBAPIError

from search.catalogue import Choices, StoredStudy
from search.database import Database, tune_sqlite
from search.errors import StorageError, StudyError
from search.ledger import Claim, Ledger
from search.outcome import Outcome, finite
from search.states import COVERED, State
from studies.configuration import Configuration, Value
from studies.definition import Definition

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
def _translated(database: Database) -> Iterator[None]:
    with database.translated():
        try:
            yield
        except StorageInternalError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, DBAPIError):
                raise cause from None
            raise


def open_storage(database: Database) -> RDBStorage:
    """Optuna's storage in the same database; makes its tables where they are missing.

    The caller that may be the first holds `Database.creation_lock`.

    Raises:
        StorageError: Optuna's tables are of another version than the installed Optuna expects.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = database.url.render_as_string(hide_password=False)
    with _translated(database):
        try:
            # Checking the schema takes a second connection beside the one that asks.
            storage = RDBStorage(url, engine_kwargs=database.engine_options(overflow=1))
        except RuntimeError as error:
            raise StorageError(f"database {database.label}: {error}") from None
    if database.is_sqlite:
        event.listen(storage.engine, "connect", tune_sqlite)
        storage.engine.dispose()  # connections made before the listener
    return storage


def create_optuna_study(database: Database, storage: RDBStorage, name: str) -> int:
    """Optuna's id of a new study; an empty one left by a creation that was cut off is taken over.

    Raises:
        StudyError: the database has a study of that name that is not ours.
    """
    with _translated(database):
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


def describe_study(
    storage: RDBStorage, study_id: int, definition: Definition, source: tuple[str, str]
) -> None:
    """Note on Optuna's study what it searches, for those who meet it in the dashboard."""
    facts = {
        "title": definition.title,
        "architecture": definition.architecture,
        "protocol": f"{definition.protocol}, {definition.folds} folds, {definition.epochs} epochs",
        "metric": f"mean {definition.metric} over folds after the last epoch",
        "data": f"{source[0]} {source[1][:12]}",
        "definition": definition.fingerprint[:12],
    }
    for key, value in facts.items():
        storage.set_study_user_attr(study_id, key, value)


def extend_choices(connection: Connection, study: StoredStudy, choices: Choices) -> None:
    """Write a larger grid into the distributions of the trials that there are.

    Optuna refuses a parameter whose categories differ between trials. It stores a value as its place among the
    categories, and `choices` only ever appends, so that the stored values keep their meaning. There is no public
    call for this, hence Optuna's own table, in the caller's transaction.
    """
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

    def __init__(self, database: Database, storage: RDBStorage, study: StoredStudy, ledger: Ledger) -> None:
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
        with _translated(self.database):
            trial_id = self.storage.create_new_trial(self.study.optuna_study_id, template)
        self.ledger.attach(claim, trial_id)
        return trial_id

    def adopt(self, claim: Claim, trial_id: int, provenance: Mapping[str, str]) -> None:
        """Bind a trial that a sampler asked for to the claim of its configuration."""
        with _translated(self.database):
            self.storage.set_trial_user_attr(trial_id, "configuration", claim.configuration.key)
            self.storage.set_trial_user_attr(trial_id, "worker", claim.worker)
            self.storage.set_trial_user_attr(trial_id, "provenance", dict(provenance))
            self.storage.set_trial_user_attr(trial_id, "claim", claim.token)
        self.ledger.attach(claim, trial_id)

    def report(self, trial_id: int, epoch: int, value: float) -> None:
        """Report the mean over folds after an epoch; one that is not finite is left out."""
        if finite(value) is not None:
            # A trial whose lease was lost, or whose result is in the ledger, may have been closed by another worker.
            with _translated(self.database), suppress(UpdateFinishedTrialError):
                self.storage.set_trial_intermediate_value(trial_id, epoch, float(value))

    def finish(self, trial_id: int, outcome: Outcome, reported: frozenset[int] = frozenset()) -> None:
        """Tell Optuna a result: COMPLETE with its value, or PRUNED with the reason.

        Args:
            reported: epochs whose mean was reported while training.
        """
        curve = outcome.val_loss if self.study.definition.metric == "val_loss" else outcome.val_error
        for epoch in report_epochs(self.study.definition.epochs):
            if epoch not in reported and epoch <= curve.shape[1]:
                self.report(trial_id, epoch, curve[:, epoch - 1].mean())
        result: dict[str, Any] = {
            "val_loss": [finite(loss) for loss in outcome.val_loss[:, -1]],
            "val_error": [finite(error) for error in outcome.val_error[:, -1]],
            "seconds": round(outcome.seconds, 3),
        }
        if outcome.reason:
            result["reason"] = outcome.reason
        state = TrialState.COMPLETE if outcome.state == State.FINISHED else TrialState.PRUNED
        values = None if outcome.value is None else [outcome.value]
        self._close(trial_id, state, "folds", result, values)

    def abandon(self, trial_id: int, reason: str) -> None:
        """Close the trial of an attempt that gave no result: FAIL, with the reason."""
        self._close(trial_id, TrialState.FAIL, FAILED_REASON, reason)

    def _close(
        self, trial_id: int, state: TrialState, attr: str, note: Any, values: list[float] | None = None
    ) -> None:
        with _translated(self.database):
            try:
                self.storage.set_trial_user_attr(trial_id, attr, note)
                self.storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                pass  # another worker mended it first

    def running(self) -> list[FrozenTrial]:
        """The trials in state RUNNING."""
        with _translated(self.database):
            trials: list[FrozenTrial] = self.storage.get_all_trials(
                self.study.optuna_study_id, deepcopy=False, states=(TrialState.RUNNING,)
            )
        return trials

    def reconcile(self) -> int:
        """Mend the trials that dead workers left RUNNING; returns how many.

        A trial is alive only while the ledger's row holds its claim. The trial is read before the row, and a
        claim is in the ledger before its trial exists, so a live trial is never mistaken for a dead one.
        """
        mended = 0
        for trial in self.running():
            key, token = trial.user_attrs.get("configuration"), trial.user_attrs.get("claim")
            if token is None:
                if not self._abandoned_before_claim(trial):
                    continue
                self.abandon(trial._trial_id, "its worker ended before it claimed the configuration")
            else:
                state, outcome = self.ledger.result_of(str(key), str(token))
                if state == State.RUNNING:
                    continue
                if outcome is not None and state in COVERED:
                    self.finish(trial._trial_id, outcome, frozenset(trial.intermediate_values))
                else:
                    self.abandon(
                        trial._trial_id, "its worker ended or lost its lease: the configuration went back"
                    )
            mended += 1
        return mended

    def _abandoned_before_claim(self, trial: FrozenTrial) -> bool:
        # Only a sampler's trial exists before its claim, for milliseconds.
        age = datetime.now() - (trial.datetime_start or datetime.now())
        return age.total_seconds() > self.ledger.lease_seconds


class Sampler:
    """Asks Optuna's sampler for the next configuration, where a definition names one other than `grid`."""

    def __init__(self, mirror: Mirror) -> None:
        definition = mirror.study.definition
        self.mirror = mirror
        samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "tpe": lambda: optuna.samplers.TPESampler(constant_liar=True),
            "random": optuna.samplers.RandomSampler,
            "gp": optuna.samplers.GPSampler,
        }
        with _translated(mirror.database):
            self.optuna_study = optuna.load_study(
                study_name=mirror.study.name,
                storage=mirror.storage,
                sampler=samplers[definition.sampler](),
                pruner=optuna.pruners.NopPruner(),
            )

    def ask(self) -> tuple[int, Configuration]:
        """A new trial in state RUNNING, and the configuration that it proposes."""
        with _translated(self.mirror.database):
            trial = self.optuna_study.ask(distributions(self.mirror.study.choices))
            params: dict[str, Value] = trial.params
            return trial._trial_id, Configuration.of(params)

    def answer(self, trial_id: int, configuration: Configuration) -> None:
        """Close a trial whose configuration is not free: with its result where there is one, else as FAIL."""
        outcome = self.mirror.ledger.outcome(configuration.key)
        with _translated(self.mirror.database):
            self.mirror.storage.set_trial_user_attr(trial_id, "configuration", configuration.key)
            self.mirror.storage.set_trial_user_attr(trial_id, "answered_from_ledger", outcome is not None)
        if outcome is None:
            self.mirror.abandon(trial_id, "its configuration is in another worker's hands, or failed")
        else:
            self.mirror.finish(trial_id, outcome)


class Pruner:
    """Asks Optuna's pruner whether a trial may stop early."""

    def __init__(self, mirror: Mirror) -> None:
        kind = mirror.study.definition.pruner
        pruners = {"none": optuna.pruners.NopPruner, "median": optuna.pruners.MedianPruner}
        self.mirror = mirror
        self.active = kind != "none"
        pruner = (
            optuna.pruners.HyperbandPruner(max_resource=mirror.study.definition.epochs)
            if kind == "hyperband"
            else pruners[kind]()
        )
        with _translated(mirror.database):
            self.optuna_study = optuna.load_study(
                study_name=mirror.study.name, storage=mirror.storage, pruner=pruner
            )

    def should_prune(self, trial_id: int) -> bool:
        """Whether the reports so far are poor enough to stop."""
        if not self.active:
            return False
        with _translated(self.mirror.database):
            pruned: bool = optuna.trial.Trial(self.optuna_study, trial_id).should_prune()
        return pruned
