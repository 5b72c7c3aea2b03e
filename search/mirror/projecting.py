"""Makes Optuna's study of one of ours, and its trials, from the ledger."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Connection, bindparam, or_, select, update

from pairsearch.search.common.errors import StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, OPEN, State
from pairsearch.search.database.tables import configurations
from pairsearch.search.database.tables import studies as study_rows
from pairsearch.search.ledger.closing import shown
from pairsearch.search.ledger.outcome import Outcome, reports_of
from pairsearch.search.ledger.rows import read_outcomes
from pairsearch.search.ledger.studies import Choices, StoredStudy, read_choices
from pairsearch.search.ledger.unfinished import WENT_BACK
from pairsearch.search.ledger.view import Shown
from pairsearch.search.mirror import tables
from pairsearch.search.mirror.description import system_attributes, user_attributes
from pairsearch.search.mirror.tables import notes, trials
from pairsearch.search.sampling.space import Space
from pairsearch.studies.definition import Definition
from pairsearch.studies.problem import Traits

FAILED_REASON = "failed_reason"
# Results read at a time.
CHUNK = 200
columns = configurations.c


def make_trial(
    state: TrialState,
    attributes: dict[str, Any],
    value: float | None = None,
    reports: dict[int, float] | None = None,
) -> FrozenTrial:
    """Return a trial of this moment, without what it has of its configuration."""
    trial = create_trial(state=state, value=value, user_attrs=attributes, intermediate_values=reports)
    trial.datetime_start = tables.utc()
    trial.datetime_complete = tables.utc() if state.is_finished() else None
    return trial


def ended_trial(study: StoredStudy, worker: str | None, outcome: Outcome) -> FrozenTrial:
    """Return the trial of a result; as an attribute, it has the figures of each fold, the time, and the reason."""
    finals = [fold.final for fold in outcome.folds]
    folds: dict[str, Any] = {name: [final.get(name) for final in finals] for name in outcome.figures}
    folds["seconds"] = round(outcome.seconds, 3)
    if outcome.reason:
        folds["reason"] = outcome.reason
    state = TrialState.COMPLETE if outcome.state == State.FINISHED else TrialState.PRUNED
    about = {"worker": worker, "provenance": dict(outcome.provenance), "folds": folds}
    return make_trial(state, about, outcome.value, reports_of(study, outcome))


def _stored_trial(study: StoredStudy, row: Any, outcome: Outcome | None) -> FrozenTrial:
    """Return the trial of a row that has ended, as its worker left it."""
    if outcome is None:
        trial = make_trial(TrialState.FAIL, {FAILED_REASON: row.reason})
    else:
        trial = ended_trial(study, row.worker, outcome)
    trial.datetime_start = tables.utc(row.started_at or row.finished_at)
    trial.datetime_complete = tables.utc(row.finished_at)
    return trial


def of_configuration(trial: FrozenTrial, of: Shown, space: Space) -> FrozenTrial:
    """Add its parameters to a trial, and the attributes by which it is known."""
    trial.params = space.categories(of.configuration.params)
    trial.distributions = space.of(of.configuration.params)
    trial.user_attrs = {"configuration": of.configuration.key, tables.ROW: of.row_id} | trial.user_attrs
    return trial


def add_trials(connection: Connection, study: StoredStudy, made: Mapping[Shown, FrozenTrial]) -> list[int]:
    """Add trials to Optuna's study, which is made where it is missing; return their ids in the same order."""
    study_id = tables.find_study(connection, study.name)
    if study_id is None:
        study_id = make_study(connection, study)
    # The grid may have grown since the study was read; the lock keeps it from growing now.
    space = Space(read_choices(connection, study.id))
    whole = [of_configuration(trial, of, space) for of, trial in made.items()]
    return tables.insert_trials(connection, study_id, whole)


def make_study(connection: Connection, study: StoredStudy, *, new: bool = False) -> int:
    """Make Optuna's study where it is missing, describe it, and note its id with ours; return the id.

    Args:
        new: whether our study is new, so that one of Optuna's that has trials is somebody else's.

    Raises:
        StudyError: Optuna has a study of that name that pairsearch did not make.
    """
    wanted = StudyDirection.MAXIMIZE if study.metric.maximise else StudyDirection.MINIMIZE
    study_id = tables.find_study(connection, study.name)
    if study_id is None:
        study_id = tables.insert_study(connection, study.name, wanted)
    else:
        own = select(trials.c.trial_id).where(trials.c.study_id == study_id).limit(1)
        ours = own.join(notes).where(notes.c.key == "configuration")
        stored = select(tables.directions.c.direction).where(tables.directions.c.study_id == study_id)
        if [*connection.execute(stored).scalars()] != [wanted] or (
            connection.execute(own).first() and (new or not connection.execute(ours).first())
        ):
            raise _not_ours(study.name)
    describe_study(connection, study_id, study.definition, study.traits)
    connection.execute(update(study_rows).where(study_rows.c.id == study.id).values(optuna_study_id=study_id))
    return study_id


def describe_study(connection: Connection, study_id: int, definition: Definition, traits: Traits) -> None:
    """Write the attributes and the note of a study, or update them after the definition has changed."""
    c = tables.study_system.c
    rows = connection.execute(select(c.key, c.value_json).where(c.study_id == study_id))
    known = {row.key: json.loads(row.value_json) for row in rows}
    tables.write_notes(connection, tables.study_notes, study_id, user_attributes(definition, traits))
    tables.write_notes(
        connection, tables.study_system, study_id, system_attributes(known, definition, traits)
    )


def _not_ours(name: str) -> StudyError:
    return StudyError(
        f"study {name}: the database has an Optuna study of that name that pairsearch did not make: "
        "use another study name or another database"
    )


def project(connection: Connection, study: StoredStudy) -> int:
    """Make the study and the trials that Optuna lacks, close those that nobody trains, and return how many it were.

    The ledger does not store attempts without a result, so that of deleted failures only the reason of a failed
    configuration is made again. It raises what `make_study` does.
    """
    study_id = make_study(connection, study)
    known = connection.execute(
        select(trials.c.trial_id, trials.c.state, notes.c.value_json)
        .join(notes)
        .where(trials.c.study_id == study_id, notes.c.key == tables.ROW)
    ).all()
    rows = connection.execute(
        select(configurations)
        .where(columns.study_id == study.id, or_(columns.state.not_in(OPEN), columns.trial_id.is_not(None)))
        .order_by(columns.started_at, columns.id)
    ).all()
    alive = {row.trial_id for row in rows if row.state in OPEN}
    left = [row.trial_id for row in known if row.state == TrialState.RUNNING and row.trial_id not in alive]
    if left:
        ended = {"state": TrialState.FAIL, "datetime_complete": tables.utc()}
        closing = update(trials).where(trials.c.trial_id == bindparam("of")).values(**ended)
        connection.execute(closing, [{"of": trial_id} for trial_id in left])
        failed = make_trial(TrialState.FAIL, {FAILED_REASON: WENT_BACK})
        tables.write_trials(connection, dict.fromkeys(left, failed))
    ended_as: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for row in known:
        if row.state.is_finished():
            ended_as[row.value_json, row.state == TrialState.FAIL].append(row.trial_id)
    with_trial = update(configurations).where(columns.id == bindparam("of"))
    lost = []
    for row in rows:
        own = ended_as[str(row.id), row.state == State.FAILED]
        if row.state in OPEN:
            continue
        if not own:
            lost.append(row)
        elif row.state in COVERED and row.trial_id not in own:
            # A copy of the study was put back under its name.
            connection.execute(with_trial, {"of": row.id, "trial_id": own[0]})
    for start in range(0, len(lost), CHUNK):
        chunk = lost[start : start + CHUNK]
        outcomes = read_outcomes(connection, chunk)
        made = {shown(row): _stored_trial(study, row, of) for row, of in zip(chunk, outcomes, strict=True)}
        for row, trial_id in zip(chunk, add_trials(connection, study, made), strict=True):
            if row.state in COVERED:
                connection.execute(with_trial, {"of": row.id, "trial_id": trial_id})
    return len(left) + len(lost)


def extend_choices(connection: Connection, study: StoredStudy, choices: Choices) -> None:
    """Write the values of a larger grid into the distributions of existing trials.

    Optuna refuses parameters whose categories differ between trials. It stores a value as its index in the categories,
    and new values are only ever appended, so that stored values keep their meaning. Optuna has no public function for
    this, so that its table is updated directly.
    """
    # `add_trials` takes the same lock before it reads the choices.
    study_id = tables.find_study(connection, study.name)
    mine = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    before, after = (Space(grown).distributions for grown in (study.choices, choices))
    for name, distribution in after.items():
        if distribution != before.get(name):
            connection.execute(
                update(tables.params)
                .where(tables.params.c.param_name == name, tables.params.c.trial_id.in_(mine))
                .values(distribution_json=distribution_to_json(distribution))
            )


def add_by_optuna(database: Database, study: StoredStudy) -> int:
    """Add the trials of results that have none through Optuna's public functions; return how many.

    This is for tables of a later Optuna, which we do not know. The caller holds the creation lock. It raises what
    `make_study` does.
    """
    with tables.optuna_storage(database) as storage:
        with database.read() as connection:
            space = Space(read_choices(connection, study.id))  # the grid may have grown
        theirs = _made_by_optuna(storage, study, space)
        known = {trial.user_attrs.get(tables.ROW) for trial in theirs.get_trials(deepcopy=False)}
        with database.read() as connection:
            covered = (columns.study_id == study.id, columns.state.in_(COVERED))
            rows = connection.execute(select(configurations).where(*covered).order_by(columns.id)).all()
            lost = [row for row in rows if row.id not in known]
            outcomes = read_outcomes(connection, lost)
        for row, outcome in zip(lost, outcomes, strict=True):
            theirs.add_trial(of_configuration(_stored_trial(study, row, outcome), shown(row), space))
        return len(lost)


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
    kept = storage.get_study_system_attrs(theirs._study_id)
    if any(space.distributions.get(name) != one for of in added for name, one in of.distributions.items()):
        optuna.delete_study(study_name=study.name, storage=storage)
        theirs = make()
    study_id = theirs._study_id
    wanted = kept | system_attributes(kept, study.definition, study.traits)
    for known, of, write in (
        (storage.get_study_system_attrs(study_id), wanted, storage.set_study_system_attr),
        (theirs.user_attrs, user_attributes(study.definition, study.traits), storage.set_study_user_attr),
    ):
        for key, value in of.items():
            if known.get(key) != value:
                write(study_id, key, value)
    return theirs
