"""Optuna's tables in the study's database: whether they are those that we know, and how rows are written into them.

Optuna's own storage writes through SQLAlchemy's ORM, with a transaction for each parameter, attribute and value. Here
the same rows are written with a few Core statements, in the transaction of the caller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Table,
    and_,
    bindparam,
    exists,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from pairsearch.search.common.errors import StorageError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.urls import SQLITE

studies: Table = models.StudyModel.__table__
directions: Table = models.StudyDirectionModel.__table__
study_notes: Table = models.StudyUserAttributeModel.__table__
study_system: Table = models.StudySystemAttributeModel.__table__
trials: Table = models.TrialModel.__table__
params: Table = models.TrialParamModel.__table__
notes: Table = models.TrialUserAttributeModel.__table__
values: Table = models.TrialValueModel.__table__
reports: Table = models.TrialIntermediateValueModel.__table__

# The user attribute by which a trial is known: the id of its configuration's row.
ROW = "row"

# The version and the columns of the tables of Optuna 5.0. A new column might need a value.
VERSION = "v3.2.0.a"
KNOWN: Mapping[Table, frozenset[str]] = {
    studies: frozenset({"study_id", "study_name"}),
    directions: frozenset({"study_direction_id", "direction", "study_id", "objective"}),
    study_notes: frozenset({"study_user_attribute_id", "study_id", "key", "value_json"}),
    study_system: frozenset({"study_system_attribute_id", "study_id", "key", "value_json"}),
    trials: frozenset({"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"}),
    params: frozenset({"param_id", "trial_id", "param_name", "param_value", "distribution_json"}),
    notes: frozenset({"trial_user_attribute_id", "trial_id", "key", "value_json"}),
    values: frozenset({"trial_value_id", "trial_id", "objective", "value", "value_type"}),
    reports: frozenset(
        {
            "trial_intermediate_value_id",
            "trial_id",
            "step",
            "intermediate_value",
            "intermediate_value_type",
        }
    ),
}


def make_tables(database: Database) -> None:
    """Create Optuna's tables where they are missing, by Optuna; the caller holds the creation lock.

    Raises:
        StorageError: they are of another version than the installed Optuna expects.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with database.read() as connection:
        found = set(inspect(connection).get_table_names())
    if {table.name for table in models.BaseModel.metadata.tables.values()} | {"alembic_version"} <= found:
        return
    with database.translated():
        # Creating the tables takes a second connection. Optuna's check of their version would take one too.
        storage = open_optuna(database)
        try:
            models.BaseModel.metadata.create_all(storage.engine)
        finally:
            storage.engine.dispose()


def open_optuna(database: Database) -> RDBStorage:
    """Open the database with Optuna's own storage."""
    url = database.url.render_as_string(hide_password=False)
    return RDBStorage(url, engine_kwargs=database.engine_options(overflow=1), skip_compatibility_check=True)


def known_here(database: Database) -> bool:
    """Whether the tables in the database, and those of the installed Optuna, are the ones that we know.

    Raises:
        StorageError: the installed Optuna does not know those in the database.
    """
    with database.read() as connection:
        current = connection.execute(text("select version_num from alembic_version")).scalar_one()
    ours = all({column.name for column in table.columns} == names for table, names in KNOWN.items())
    if current == VERSION and ours:
        return True
    storage = open_optuna(database)
    try:
        expected = storage.get_head_version()
    finally:
        storage.engine.dispose()
    if current != expected:
        raise StorageError(
            f"database {database.label} has Optuna tables of version {current}, where Optuna {optuna.__version__} has "
            f"{expected}: install the other Optuna, or let `optuna storage upgrade` change the tables"
        )
    return False


def find_study(connection: Connection, name: str, *, lock: bool = False) -> int | None:
    """Return the id of Optuna's study of a name, None if there is none.

    Args:
        lock: whether nobody else may add trials to it until the end of the transaction, since their numbers count up.
    """
    statement = select(studies.c.study_id).where(studies.c.study_name == name)
    return connection.execute(statement.with_for_update() if lock else statement).scalar()


def insert_study(connection: Connection, name: str, *, maximise: bool) -> int:
    """Insert a study and return its id."""
    study_id = connection.execute(
        insert(studies).values(study_name=name).returning(studies.c.study_id)
    ).scalar_one()
    direction = StudyDirection.MAXIMIZE if maximise else StudyDirection.MINIMIZE
    connection.execute(insert(directions).values(study_id=study_id, direction=direction, objective=0))
    return int(study_id)


def insert_trials(connection: Connection, study_id: int, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert trials and return their ids in the same order; the caller has locked the study.

    Args:
        rows: `state`, `datetime_start` and `datetime_complete` of each.
    """
    # SQLite gives ids of deleted trials again, and the last trial has the highest number.
    last = select(trials.c.number).where(trials.c.study_id == study_id).order_by(trials.c.trial_id.desc())
    before = connection.execute(last.limit(1)).scalar()
    first = 0 if before is None else before + 1
    added = insert(trials).returning(trials.c.trial_id, sort_by_parameter_order=True)
    numbered = [{**row, "study_id": study_id, "number": first + place} for place, row in enumerate(rows)]
    return list(connection.execute(added, numbered).scalars())


def utc(seconds: float | None = None) -> datetime:
    """Return a time as Optuna's tables have it, in UTC without a zone; now for None."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.replace(tzinfo=None)


def write_params(
    connection: Connection,
    trial_id: int,
    categories: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
) -> None:
    """Insert the parameters of a trial."""
    rows = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distributions[name].to_internal_repr(category),
            "distribution_json": distribution_to_json(distributions[name]),
        }
        for name, category in categories.items()
    ]
    if rows:
        connection.execute(insert(params), rows)


def write_value(connection: Connection, trial_id: int, value: float) -> None:
    """Insert the value of a trial."""
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    connection.execute(insert(values).values(trial_id=trial_id, objective=0, value=stored, value_type=kind))


def write_notes(connection: Connection, table: Table, row_id: int, attributes: Mapping[str, Any]) -> None:
    """Write attributes of a study or a trial, as JSON, in place of those of the same keys.

    Args:
        table: `notes` of trials, `study_notes` or `study_system`.
    """
    rows = [{"of": row_id, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
    if rows:
        connection.execute(_noting(connection.dialect.name, table), rows)


@cache
def _noting(dialect: str, table: Table) -> Insert:
    owner = "trial_id" if table is notes else "study_id"
    statement = _upsert(dialect, table)
    return statement.values({owner: bindparam("of")}).on_conflict_do_update(
        index_elements=[owner, "key"], set_={"value_json": statement.excluded.value_json}
    )


def write_reports(connection: Connection, trial_id: int, by_step: Mapping[int, float]) -> None:
    """Write intermediate values of a trial, in place of those of the same steps."""
    kinds = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
    rows = []
    for step, report in by_step.items():
        stored, kind = kinds(report)
        rows.append(
            {
                "trial_id": trial_id,
                "step": step,
                "intermediate_value": stored,
                "intermediate_value_type": kind,
            }
        )
    if rows:
        connection.execute(_reporting(connection.dialect.name), rows)


@cache
def _reporting(dialect: str) -> Insert:
    statement = _upsert(dialect, reports)
    names = ("intermediate_value", "intermediate_value_type")
    return statement.on_conflict_do_update(
        index_elements=["trial_id", "step"], set_={name: statement.excluded[name] for name in names}
    )


def running_trial(trial_id: int, study: str, row_id: int) -> ColumnElement[bool]:
    """Return the condition that a row of `trials` is the running trial of a row of configurations.

    SQLite gives the ids of deleted trials to others.
    """
    own = select(studies.c.study_id).where(studies.c.study_name == study).scalar_subquery()
    noted = exists().where(
        notes.c.trial_id == trials.c.trial_id, notes.c.key == ROW, notes.c.value_json == str(row_id)
    )
    return and_(
        trials.c.trial_id == trial_id, trials.c.study_id == own, trials.c.state == TrialState.RUNNING, noted
    )


def _upsert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return sqlite.insert(table) if dialect == SQLITE else postgresql.insert(table)
