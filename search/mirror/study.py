"""Creates Optuna's study for one of ours, extends its grid, and translates the errors of Optuna's storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages._rdb import models as optuna_tables
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from pairsearch.search.database.connection import Database
from pairsearch.search.database.driver_errors import deleted_meanwhile
from pairsearch.search.errors import DatabaseAwayError, StudyError, WorkError
from pairsearch.search.ledger.studies import Choices, StoredStudy
from pairsearch.search.mirror.storage import TrialStorage
from pairsearch.studies.configuration import Params, Value

# Under this name other rooms can catch it without importing Optuna: the trial to change is already finished.
FinishedTrialError = UpdateFinishedTrialError


class LostTrialError(WorkError):
    """Someone deleted Optuna's study or trial."""


class Space:
    """The parameters of a study as Optuna's categorical distributions, values in the order of their addition.

    Optuna takes 1, 1.0 and true for one category. A parameter that has several of these is stored as text, in which
    they differ.
    """

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self._as_text = {name for name, values in choices.items() if len(set(values)) < len(values)}
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution([self._category(name, value) for value in values])
            for name, values in choices.items()
        }

    def _category(self, name: str, value: Value) -> Value:
        return repr(value) if name in self._as_text else value

    def of(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the distributions of a point's parameters."""
        return {name: self.distributions[name] for name in params}

    def categories(self, params: Params) -> dict[str, Value]:
        """Convert the values of a point to categories."""
        return {name: self._category(name, value) for name, value in params.items()}

    def values(self, categories: Params) -> dict[str, Value]:
        """Convert the categories of a point to values."""
        return {
            name: next(value for value in self.choices[name] if self._category(name, value) == category)
            if name in self._as_text
            else category
            for name, category in categories.items()
        }


@contextmanager
def translated(database: Database) -> Iterator[None]:
    """Translate the errors of Optuna, SQLAlchemy and the drivers that the block raises (`Database.translated`)."""
    with database.translated():
        try:
            yield
        except StorageInternalError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, DBAPIError):
                raise cause from None
            if isinstance(cause, PendingRollbackError):
                # Optuna goes on with further queries after its connection was closed.
                raise DatabaseAwayError(
                    f"database {database.label} is not reachable: the connection broke off"
                ) from None
            raise


@contextmanager
def watched(database: Database, name: str) -> Iterator[None]:
    """Translate errors as `translated` does, including those after someone deleted trials, the study or the tables.

    Raises:
        LostTrialError: something was deleted.
    """
    try:
        with translated(database):
            yield
    except (KeyError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not deleted_meanwhile(error):
            raise
        raise LostTrialError(
            f"study {name}: what Optuna has of it was deleted while it was in use: run it again"
        ) from None


def create_optuna_study(
    database: Database, storage: TrialStorage, name: str, *, maximise: bool, restoring: bool = False
) -> int:
    """Create Optuna's study and return its id; take over an empty one that an interrupted creation left.

    Args:
        name: the study's name.
        maximise: whether a higher value is better.
        restoring: whether to take over a study that has trials of pairsearch, too.

    Raises:
        StudyError: Optuna has a study of that name that pairsearch did not create.
    """
    kinds = optuna.study.StudyDirection
    directions = [kinds.MAXIMIZE if maximise else kinds.MINIMIZE]
    with translated(database):
        try:
            return storage.create_new_study(directions, name)
        except optuna.exceptions.DuplicatedStudyError:
            study_id = storage.get_study_id_from_name(name)
        trials = storage.get_all_trials(study_id, deepcopy=False)
        foreign = trials and not (restoring and any("configuration" in trial.user_attrs for trial in trials))
        if foreign or storage.get_study_directions(study_id) != directions:
            raise StudyError(
                f"study {name}: the database has an Optuna study of that name that pairsearch did not make: "
                "use another study name or another database"
            )
        return study_id


def extend_choices(connection: Connection, study: StoredStudy, choices: Choices) -> None:
    """Write the values of a larger grid into the distributions of existing trials, in the caller's transaction.

    Optuna refuses parameters whose categories differ between trials. It stores a value as its index in the categories,
    and new values are only ever appended, so that stored values keep their meaning. Optuna has no public function for
    this, so that its table is updated directly.
    """
    # `TrialStorage.start_trial` takes the same lock before it reads the choices.
    studies = optuna_tables.StudyModel
    connection.execute(
        select(studies.study_id).where(studies.study_id == study.optuna_study_id).with_for_update()
    )
    trials = select(optuna_tables.TrialModel.trial_id).where(
        optuna_tables.TrialModel.study_id == study.optuna_study_id
    )
    before, after = (Space(grown).distributions for grown in (study.choices, choices))
    for name, distribution in after.items():
        if name in before and distribution != before[name]:
            connection.execute(
                update(optuna_tables.TrialParamModel)
                .where(
                    optuna_tables.TrialParamModel.param_name == name,
                    optuna_tables.TrialParamModel.trial_id.in_(trials),
                )
                .values(distribution_json=distribution_to_json(distribution))
            )
