"""Optuna's study of one of ours: made, given a larger grid; and what goes wrong with it as our errors."""

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

# The trial that was to be changed is finished already.
FinishedTrialError = UpdateFinishedTrialError


class LostTrialError(WorkError):
    """Optuna's study or trial is not there any more: somebody deleted it."""


class Space:
    """A study's parameters as Optuna has them: categorical, in the order in which their values came into the grid.

    To Optuna 1, 1.0 and true are one category. A parameter that has several of such values is a text there, which
    tells them apart.
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
        """The distributions of the parameters that a point has."""
        return {name: self.distributions[name] for name in params}

    def categories(self, params: Params) -> dict[str, Value]:
        """A point's values as categories."""
        return {name: self._category(name, value) for name, value in params.items()}

    def values(self, categories: Params) -> dict[str, Value]:
        """The values of a point, from its categories."""
        return {
            name: next(value for value in self.choices[name] if self._category(name, value) == category)
            if name in self._as_text
            else category
            for name, category in categories.items()
        }


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


@contextmanager
def watched(database: Database, name: str) -> Iterator[None]:
    """As `translated`, where others may have deleted a study's trials, the study or all of Optuna's tables.

    Raises:
        LostTrialError: they did.
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
    """Optuna's id of a new study; an empty one left by a creation that was cut off is taken over.

    Args:
        maximise: whether a higher value is better.
        restoring: so is one with trials of ours.

    Raises:
        StudyError: the database has a study of that name that is not ours.
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
