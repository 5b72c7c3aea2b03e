"""Reads a finished study of Optuna's that pairsearch did not make, whose trials reported one value per fold."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import inspect

from pairsearch.search.common.errors import InputError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.results.foreign import Judged, value_of
from pairsearch.studies.configuration import Configuration


def read_finished(url: str, name: str | None, metric: str) -> tuple[str, bool, list[Judged]]:
    """Return a study's name, whether its value is minimised, and its configurations, whose value is called `metric`.

    Of trials with the same parameters the first counts; failed ones have no result and are left out. Without a name it
    is the only study there is.

    Raises:
        InputError: there is no such study, it is not finished, or its trials did not report one value per fold.
        StorageError: the database cannot be opened.
    """
    database = Database(url)
    try:
        if database.file is not None and not database.file.is_file():
            raise InputError(f"there is no database {database.label}")
        with database.read() as connection:
            # Optuna would make its tables.
            if not inspect(connection).has_table("trial_intermediate_values"):
                raise InputError(f"database {database.label} has no tables of Optuna's")
        with database.translated():
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            storage = RDBStorage(database.url.render_as_string(hide_password=False))
            try:
                return _read(storage, name, database.label, metric)
            finally:
                storage.remove_session()
                storage.engine.dispose()
    finally:
        database.close()


def _read(storage: RDBStorage, name: str | None, label: str, metric: str) -> tuple[str, bool, list[Judged]]:
    known = optuna.get_all_study_names(storage)
    if name is None and len(known) == 1:
        (name,) = known
    if name is None or name not in known:
        said = "which study? --study NAME:" if name is None else f"it has no study {name!a}:"
        raise InputError(f"database {label}: {said} expected one of {', '.join(known)}")
    study = optuna.load_study(study_name=name, storage=storage)
    if len(study.directions) > 1:
        raise InputError(f"Optuna study {name}: it has {len(study.directions)} objectives, expected one")
    trials = [trial for trial in study.trials if trial.state != TrialState.FAIL]
    if left := [trial.number for trial in trials if not trial.state.is_finished()]:
        raise InputError(f"Optuna study {name}: trial {left[0]} is not finished ({len(left)} in all)")
    counts = Counter(len(trial.intermediate_values) for trial in trials if trial.state == TrialState.COMPLETE)
    if len(counts) != 1 or min(counts) < 2:
        raise InputError(
            f"Optuna study {name}: expected one intermediate value per fold from each finished trial, at least two, "
            f"got {', '.join(map(str, sorted(counts))) or 'no finished trial'}"
        )
    found: dict[Configuration, Judged] = {}
    for trial in trials:
        if values := _folds(trial, name):
            params = {parameter: value_of(value) for parameter, value in trial.params.items()}
            ended = State.PRUNED if trial.state == TrialState.PRUNED else None
            seconds = 0.0 if trial.duration is None else trial.duration.total_seconds()
            found.setdefault(Configuration(params), Judged(params, {metric: values}, seconds, ended))
    return name, study.direction == optuna.study.StudyDirection.MINIMIZE, list(found.values())


def _folds(trial: FrozenTrial, name: str) -> list[float]:
    """Return the values of a trial's folds, in the order of its steps; raises InputError where its value is no mean."""
    values = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        mean = fmean(values)
        if math.isfinite(mean) and not math.isclose(mean, trial.value, rel_tol=1e-6, abs_tol=1e-9):
            raise InputError(
                f"Optuna study {name}: trial {trial.number} has the value {trial.value:g}, and the mean of its "
                f"{len(values)} intermediate values is {mean:g}: expected one intermediate value per fold"
            )
    return values
