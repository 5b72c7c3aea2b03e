"""Restores from the ledger what someone deleted of Optuna's: trials, the study, or all tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Row, and_, or_, select, update

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations
from pairsearch.search.database.tables import studies as study_rows
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import read_configuration, read_outcomes
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.contents import FAILED_REASON, attributes_of, reports_of, state_of
from pairsearch.search.mirror.description import describe_study
from pairsearch.search.mirror.storage import TrialStorage
from pairsearch.search.mirror.study import Space, create_optuna_study, translated

# Trials written in one transaction.
CHUNK = 200
columns = configurations.c


def restore(database: Database, storage: TrialStorage, study: StoredStudy) -> int:
    """Restore Optuna's study and a trial for each result of the ledger; return how many trials were added.

    The caller holds the creation lock. If the call is interrupted, the next one completes it. The ledger does not store
    attempts without a result, so that of deleted failures only the reason of a failed configuration is restored.

    Raises:
        StudyError: Optuna has a study of that name that pairsearch did not create.
    """
    with translated(database):
        storage.make_tables()
    optuna_study_id = create_optuna_study(
        database, storage, study.name, maximise=study.metric.maximise, restoring=True
    )
    with translated(database):
        describe_study(storage, optuna_study_id, study.definition, study.traits)
        trials = storage.get_all_trials(optuna_study_id, deepcopy=False)
    carrying = {
        trial.user_attrs.get("claim"): trial._trial_id for trial in trials if trial.state != TrialState.FAIL
    }
    failed = {trial.user_attrs.get("configuration") for trial in trials if trial.state == TrialState.FAIL}
    with database.read() as connection:
        rows = connection.execute(
            select(configurations)
            .where(
                columns.study_id == study.id,
                or_(
                    and_(columns.state.in_(COVERED), columns.claim.is_not(None)),
                    columns.state == State.FAILED,
                ),
            )
            .order_by(columns.started_at, columns.id)
        ).all()
    lost = [
        row
        for row in rows
        if (row.key not in failed if row.state == State.FAILED else row.claim not in carrying)
    ]
    for start in range(0, len(lost), CHUNK):
        chunk = lost[start : start + CHUNK]
        with database.read() as connection:
            outcomes = read_outcomes(connection, chunk)
        templates = [_template(study, *of) for of in zip(chunk, outcomes, strict=True)]
        with translated(database):
            ids = storage.add_trials(optuna_study_id, templates)
        carrying |= {row.claim: trial_id for row, trial_id in zip(chunk, ids, strict=True)}
    with database.write() as connection:
        for row in rows:
            trial_id = carrying.get(row.claim)
            if row.state in COVERED and row.trial_id != trial_id:
                connection.execute(
                    update(configurations)
                    .where(columns.id == row.id, columns.claim == row.claim)
                    .values(trial_id=trial_id)
                )
        # This comes last: until then the study counts as not mirrored, and the next call restores the rest.
        connection.execute(
            update(study_rows).where(study_rows.c.id == study.id).values(optuna_study_id=optuna_study_id)
        )
    return len(lost)


def _template(study: StoredStudy, row: Row[Any], outcome: Outcome | None) -> FrozenTrial:
    """Return the trial as its worker would have left it."""
    configuration, space = read_configuration(row.key, row.params), Space(study.choices)
    notes: dict[str, Any] = {"configuration": row.key}
    if outcome is None:
        notes[FAILED_REASON] = row.reason
    else:
        notes |= {
            "claim": row.claim,
            "worker": row.worker,
            "provenance": dict(outcome.provenance),
            **attributes_of(outcome),
        }
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState.FAIL if outcome is None else state_of(outcome),
        value=None if outcome is None else outcome.value,
        datetime_start=_local(row.finished_at if row.started_at is None else row.started_at),
        datetime_complete=_local(row.finished_at),
        params=space.categories(configuration.params),
        distributions=space.of(configuration.params),
        user_attrs=notes,
        system_attrs={},
        intermediate_values={} if outcome is None else reports_of(study, outcome),
    )


def _local(seconds: float | None) -> datetime:
    # Optuna's convention: local time without a zone, and for a trial whose time is unknown the moment when it is added.
    return datetime.now() if seconds is None else datetime.fromtimestamp(seconds)
