"""Makes Optuna's study of one of ours, and the trials that it lacks, from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection, Update, or_, select, update

from pairsearch.search.common.errors import StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, OPEN, State
from pairsearch.search.database.tables import configurations
from pairsearch.search.database.tables import studies as study_rows
from pairsearch.search.ledger.closing import shown
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import read_configuration, read_outcomes
from pairsearch.search.ledger.studies import Choices, StoredStudy, read_choices
from pairsearch.search.ledger.view import Shown
from pairsearch.search.mirror import tables
from pairsearch.search.mirror.contents import FAILED_REASON, attributes_of, reports_of, state_of
from pairsearch.search.mirror.description import describe_study, system_attributes, user_attributes
from pairsearch.search.mirror.space import Space
from pairsearch.search.mirror.tables import directions, notes, params, trials

# Results read at a time.
CHUNK = 200
columns = configurations.c


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial to add.

    Args:
        of: its configuration.
        notes: its user attributes.
        outcome: the result; None for a configuration that failed.
        started: seconds since 1970, None if that is not known; so is the next.
    """

    of: Shown
    notes: dict[str, Any]
    outcome: Outcome | None
    started: float | None = None
    finished: float | None = None


def make_study(connection: Connection, study: StoredStudy, *, new: bool = False) -> int:
    """Make Optuna's study where it is missing, describe it, and note its id with ours; return the id.

    Args:
        new: whether our study is new, so that one of Optuna's that has trials is somebody else's.

    Raises:
        StudyError: Optuna has a study of that name that pairsearch did not make.
    """
    maximise = study.metric.maximise
    study_id = tables.find_study(connection, study.name, lock=True)
    if study_id is None:
        study_id = tables.insert_study(connection, study.name, maximise=maximise)
    else:
        _check_ours(connection, study_id, study.name, maximise=maximise, new=new)
    describe_study(connection, study_id, study.definition, study.traits)
    connection.execute(update(study_rows).where(study_rows.c.id == study.id).values(optuna_study_id=study_id))
    return study_id


def _check_ours(connection: Connection, study_id: int, name: str, *, maximise: bool, new: bool) -> None:
    own = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    of_ours = own.join(notes, notes.c.trial_id == trials.c.trial_id).where(notes.c.key == "configuration")
    foreign = connection.execute(own.limit(1)).first() and (
        new or not connection.execute(of_ours.limit(1)).first()
    )
    stored = connection.execute(select(directions.c.direction).where(directions.c.study_id == study_id))
    wanted = "MAXIMIZE" if maximise else "MINIMIZE"
    if foreign or [direction.name for direction in stored.scalars()] != [wanted]:
        raise _not_ours(name)


def _not_ours(name: str) -> StudyError:
    return StudyError(
        f"study {name}: the database has an Optuna study of that name that pairsearch did not make: "
        "use another study name or another database"
    )


def project(connection: Connection, study: StoredStudy) -> int:
    """Make the study and the trials that Optuna lacks, close those that nobody trains, and return how many it were.

    The ledger does not store attempts without a result, so that of deleted failures only the reason of a failed
    configuration is made again.

    Raises:
        StudyError: Optuna has a study of that name that pairsearch did not make.
    """
    study_id = make_study(connection, study)
    known = connection.execute(
        select(trials.c.trial_id, trials.c.state, notes.c.value_json)
        .join(notes, notes.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, notes.c.key == tables.ROW)
    ).all()
    ended: dict[str, list[int]] = {}
    for row in known:
        if row.state in (TrialState.COMPLETE, TrialState.PRUNED):
            ended.setdefault(row.value_json, []).append(row.trial_id)
    failed = {row.value_json for row in known if row.state == TrialState.FAIL}
    rows = connection.execute(
        select(configurations)
        .where(
            columns.study_id == study.id,
            or_(columns.state.in_((*COVERED, State.FAILED)), columns.trial_id.is_not(None)),
        )
        .order_by(columns.started_at, columns.id)
    ).all()
    alive = {row.trial_id for row in rows if row.state in OPEN}
    left = [row.trial_id for row in known if row.state == TrialState.RUNNING and row.trial_id not in alive]
    for trial_id in left:
        connection.execute(
            update(trials)
            .where(trials.c.trial_id == trial_id)
            .values(state=TrialState.FAIL, datetime_complete=tables.utc())
        )
        reason = "its worker ended or lost its lease: the configuration went back"
        tables.write_notes(connection, notes, trial_id, {FAILED_REASON: reason})
    lost = []
    for row in rows:
        of_row = ended.get(str(row.id), [])
        if row.state in COVERED and of_row and row.trial_id not in of_row:
            # A copy of the study was put back under its name.
            connection.execute(_with_trial(row.id, of_row[0]))
        elif (row.state in COVERED and not of_row) or (
            row.state == State.FAILED and str(row.id) not in failed
        ):
            lost.append(row)
    for start in range(0, len(lost), CHUNK):
        chunk = lost[start : start + CHUNK]
        made = [_ended(*of) for of in zip(chunk, read_outcomes(connection, chunk), strict=True)]
        for row, trial_id in zip(chunk, add_ended(connection, study, made), strict=True):
            if row.state in COVERED:
                connection.execute(_with_trial(row.id, trial_id))
    return len(left) + len(lost)


def _with_trial(row_id: int, trial_id: int) -> Update:
    return update(configurations).where(columns.id == row_id).values(trial_id=trial_id)


def _ended(row: Any, outcome: Outcome | None) -> Ended:
    if outcome is None:
        return Ended(shown(row), {FAILED_REASON: row.reason}, None, row.started_at, row.finished_at)
    return ended_trial(shown(row), row.worker, outcome, row.started_at, row.finished_at)


def ended_trial(
    of: Shown,
    worker: str | None,
    outcome: Outcome,
    started: float | None = None,
    finished: float | None = None,
) -> Ended:
    """Return the trial of a result."""
    about = {"worker": worker, "provenance": dict(outcome.provenance)} | attributes_of(outcome)
    return Ended(of, about, outcome, started or finished, finished)


def add_ended(connection: Connection, study: StoredStudy, ended: Sequence[Ended]) -> list[int]:
    """Add trials as their workers would have left them, and return their ids in the same order."""
    study_id = tables.find_study(connection, study.name, lock=True)
    if study_id is None:
        study_id = make_study(connection, study)
    rows = [
        {
            "state": TrialState.FAIL if one.outcome is None else state_of(one.outcome),
            "datetime_start": tables.utc(one.started),
            "datetime_complete": tables.utc(one.finished),
        }
        for one in ended
    ]
    ids = tables.insert_trials(connection, study_id, rows)
    space = Space(study.choices)
    for trial_id, one in zip(ids, ended, strict=True):
        point = one.of.configuration
        tables.write_params(connection, trial_id, space.categories(point.params), space.of(point.params))
        about = {"configuration": point.key, tables.ROW: one.of.row_id} | one.notes
        tables.write_notes(connection, notes, trial_id, about)
        if one.outcome is not None:
            if one.outcome.value is not None:
                tables.write_value(connection, trial_id, one.outcome.value)
            tables.write_reports(connection, trial_id, reports_of(study, one.outcome))
    return ids


def extend_choices(connection: Connection, study: StoredStudy, choices: Choices) -> None:
    """Write the values of a larger grid into the distributions of existing trials.

    Optuna refuses parameters whose categories differ between trials. It stores a value as its index in the categories,
    and new values are only ever appended, so that stored values keep their meaning. Optuna has no public function for
    this, so that its table is updated directly.
    """
    # `Trials.start` takes the same lock before it reads the choices.
    study_id = tables.find_study(connection, study.name, lock=True)
    mine = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    before, after = (Space(grown).distributions for grown in (study.choices, choices))
    for name, distribution in after.items():
        if name in before and distribution != before[name]:
            connection.execute(
                update(params)
                .where(params.c.param_name == name, params.c.trial_id.in_(mine))
                .values(distribution_json=distribution_to_json(distribution))
            )


def _made_by_optuna(storage: RDBStorage, study: StoredStudy, space: Space) -> optuna.Study:
    """Return Optuna's study with its description, made where it is missing.

    Optuna refuses values of a larger grid beside those of a smaller one, so that the study is then made anew, without
    its trials.
    """
    make = partial(
        optuna.create_study,
        study_name=study.name,
        storage=storage,
        direction="maximize" if study.metric.maximise else "minimize",
        load_if_exists=True,
    )
    theirs = make()
    added = theirs.get_trials(deepcopy=False)
    if added and not any(tables.ROW in trial.user_attrs for trial in added):
        raise _not_ours(study.name)
    kept = storage.get_study_system_attrs(storage.get_study_id_from_name(study.name))
    if any(
        space.distributions.get(name) != known
        for trial in added
        for name, known in trial.distributions.items()
    ):
        optuna.delete_study(study_name=study.name, storage=storage)
        theirs = make()
    _describe(storage, study, kept)
    return theirs


def _describe(storage: RDBStorage, study: StoredStudy, kept: Mapping[str, Any]) -> None:
    """Do what `describe_study` does through Optuna's storage, for what has changed.

    Args:
        kept: system attributes that the study has, or had before it was made anew.
    """
    study_id = storage.get_study_id_from_name(study.name)
    user, system = storage.get_study_user_attrs(study_id), storage.get_study_system_attrs(study_id)
    for key, value in user_attributes(study.definition, study.traits).items():
        if user.get(key) != value:
            storage.set_study_user_attr(study_id, key, value)
    wanted = {**kept, **system_attributes(kept, study.definition, study.traits)}
    for key, value in wanted.items():
        if system.get(key) != value:
            storage.set_study_system_attr(study_id, key, value)


def add_by_optuna(database: Database, study: StoredStudy) -> int:
    """Add the trials of results that have none through Optuna's public functions; return how many.

    This is for tables of a later Optuna, which we do not know. The caller holds the creation lock.

    Raises:
        StudyError: Optuna has a study of that name that pairsearch did not make.
    """
    storage = tables.open_optuna(database)
    try:
        with database.read() as connection:
            # The grid may have grown since this worker started.
            space = Space(read_choices(connection, study.id))
        theirs = _made_by_optuna(storage, study, space)
        known = {trial.user_attrs.get(tables.ROW) for trial in theirs.get_trials(deepcopy=False)}
        with database.read() as connection:
            covered = (columns.study_id == study.id, columns.state.in_(COVERED))
            rows = connection.execute(select(configurations).where(*covered).order_by(columns.id)).all()
            lost = [row for row in rows if row.id not in known]
            outcomes = read_outcomes(connection, lost) if lost else []
        for row, outcome in zip(lost, outcomes, strict=True):
            assert outcome is not None  # noqa: S101 - it is covered
            params = read_configuration(row.key, row.params).params
            about = {"configuration": row.key, tables.ROW: row.id, "worker": row.worker}
            theirs.add_trial(
                create_trial(
                    state=state_of(outcome),
                    value=outcome.value,
                    params=space.categories(params),
                    distributions=space.of(params),
                    user_attrs=about | {"provenance": dict(outcome.provenance)} | attributes_of(outcome),
                    intermediate_values=reports_of(study, outcome),
                )
            )
        return len(lost)
    finally:
        storage.remove_session()
        storage.engine.dispose()
