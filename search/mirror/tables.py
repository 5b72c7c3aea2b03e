"""Optuna's tables in the study's database: whether they are those that we know, and how rows are written into them.

Optuna's own storage writes through SQLAlchemy's ORM, with a transaction for each parameter, attribute and value. Here
the same rows are written with a few Core statements, in the transaction of the caller.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, insert, select
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

# The version of the tables of Optuna 5.0. Those of another one may have columns that need a value.
VERSION = "v3.2.0.a"


def make_tables(database: Database) -> bool:
    """Create Optuna's tables where they are missing, by Optuna; return what `known_here` does, and raise what it does.

    The caller holds the creation lock.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with database.read() as connection:
        found = set(sa.inspect(connection).get_table_names())
    if not {*models.BaseModel.metadata.tables, "alembic_version"} <= found:
        # Optuna makes them as it opens the database, which takes a second connection.
        with database.translated(), optuna_storage(database):
            pass
    return known_here(database)


def open_optuna(database: Database) -> RDBStorage:
    """Open the database with Optuna's own storage."""
    url = database.url.render_as_string(hide_password=False)
    return RDBStorage(url, engine_kwargs=database.engine_options(overflow=1), skip_compatibility_check=True)


@contextmanager
def optuna_storage(database: Database) -> Iterator[RDBStorage]:
    """Open the database with Optuna's own storage for a `with` statement."""
    storage = open_optuna(database)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def known_here(database: Database) -> bool:
    """Whether we know the tables in the database; raises StorageError where the installed Optuna does not."""
    with database.read() as connection:
        current = connection.execute(sa.text("select version_num from alembic_version")).scalar_one()
    if current == VERSION:
        return True
    with optuna_storage(database) as storage:
        expected = storage.get_head_version()
    if current != expected:
        raise StorageError(
            f"database {database.label} has Optuna tables of version {current}, where Optuna {optuna.__version__} has "
            f"{expected}: install the other Optuna, or let `optuna storage upgrade` change the tables"
        )
    return False


def find_study(connection: Connection, name: str) -> int | None:
    """Return the id of Optuna's study of a name, None if there is none.

    Nobody else adds trials to it until the end of the transaction, since their numbers count up.
    """
    own = select(studies.c.study_id).where(studies.c.study_name == name)
    return connection.execute(own.with_for_update()).scalar()


def insert_study(connection: Connection, name: str, direction: StudyDirection) -> int:
    """Insert a study and return its id."""
    made = insert(studies).values(study_name=name).returning(studies.c.study_id)
    study_id = int(connection.execute(made).scalar_one())
    connection.execute(insert(directions).values(study_id=study_id, direction=direction, objective=0))
    return study_id


def insert_trials(connection: Connection, study_id: int, made: Sequence[FrozenTrial]) -> list[int]:
    """Insert trials with all that they have; return their ids in the same order. The caller has found the study."""
    # SQLite gives ids of deleted trials again, and the last trial has the highest number.
    last = select(trials.c.number).where(trials.c.study_id == study_id).order_by(trials.c.trial_id.desc())
    before = connection.execute(last.limit(1)).scalar()
    rows = [
        {
            "study_id": study_id,
            "number": number,
            "state": trial.state,
            "datetime_start": trial.datetime_start,
            "datetime_complete": trial.datetime_complete,
        }
        for number, trial in enumerate(made, 0 if before is None else before + 1)
    ]
    added = insert(trials).returning(trials.c.trial_id, sort_by_parameter_order=True)
    ids = list(connection.execute(added, rows).scalars())
    write_trials(connection, dict(zip(ids, made, strict=True)))
    return ids


def write_trials(connection: Connection, by_id: Mapping[int, FrozenTrial]) -> None:
    """Write parameters, value, attributes and reports of trials, each in place of the one of the same name or step."""
    rows: dict[Table, list[dict[str, Any]]] = {params: [], values: [], notes: [], reports: []}
    for trial_id, trial in by_id.items():
        of = {"trial_id": trial_id}
        for name, category in trial.params.items():
            distribution = trial.distributions[name]
            internal = distribution.to_internal_repr(category)
            text = distribution_to_json(distribution)
            rows[params].append(of | {"param_name": name, "param_value": internal, "distribution_json": text})
        if trial.value is not None:
            value, kind = models.TrialValueModel.value_to_stored_repr(trial.value)
            rows[values].append(of | {"objective": 0, "value": value, "value_type": kind})
        rows[notes] += _attributes(of, trial.user_attrs)
        for step, report in trial.intermediate_values.items():
            stored, sort = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(report)
            rows[reports].append(
                of | {"step": step, "intermediate_value": stored, "intermediate_value_type": sort}
            )
    for table, of_table in rows.items():
        _write(connection, table, of_table)


def write_notes(connection: Connection, table: Table, study_id: int, attributes: Mapping[str, Any]) -> None:
    """Write attributes of a study in `study_notes` or `study_system`, in place of those of the same keys."""
    _write(connection, table, _attributes({"study_id": study_id}, attributes))


def _attributes(of: Mapping[str, int], attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**of, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _write(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(_upsert(connection.dialect.name, table, tuple(rows[0])), rows)


@cache
def _upsert(dialect: str, table: Table, columns: Sequence[str]) -> sa.Insert:
    """Return the statement that inserts a row, in place of the one that is the same under the table's constraint."""
    (unique,) = (rule for rule in table.constraints if isinstance(rule, sa.UniqueConstraint))
    keys = unique.columns.keys()
    new = sqlite.insert(table) if dialect == SQLITE else postgresql.insert(table)
    changed = {name: new.excluded[name] for name in columns if name not in keys}
    return new.on_conflict_do_update(index_elements=keys, set_=changed)


def utc(seconds: float | None = None) -> datetime:
    """Return a time as Optuna's tables have it, in UTC without a zone; now for None."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.replace(tzinfo=None)


def running_trial(trial_id: int, study: str, row_id: int) -> sa.ColumnElement[bool]:
    """Return the condition that a row of `trials` is the running trial of a row of configurations.

    SQLite gives the ids of deleted trials to others.
    """
    own = select(studies.c.study_id).where(studies.c.study_name == study).scalar_subquery()
    noted = sa.exists().where(
        notes.c.trial_id == trials.c.trial_id, notes.c.key == ROW, notes.c.value_json == str(row_id)
    )
    return sa.and_(
        trials.c.trial_id == trial_id, trials.c.study_id == own, trials.c.state == TrialState.RUNNING, noted
    )
