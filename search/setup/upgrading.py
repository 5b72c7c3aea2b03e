"""Takes a database of an older schema to this program's, with all its results.

Its rows are put aside in other tables, the tables are made anew (`search.database.tables`), and the rows come back.
What a version changed beside columns that came or went is a step on the rows that are aside, in the words of that
version: later changes do not reach into it. Data definition is part of the transaction on both databases, so that all
is done or nothing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from pairsearch.search.common.errors import InputError, NoStudiesError, StorageError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.tables import SCHEMA_VERSION, metadata
from pairsearch.search.database.urls import POSTGRESQL
from pairsearch.search.ledger.studies import list_studies
from pairsearch.search.mirror.trials import complete

OLDEST = 4
"""The first version that can be upgraded."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What was done."""

    before: int
    """The schema version that the database had."""
    copy: Path | None
    """The file that it was copied to before; None where it is PostgreSQL, or nothing had to be done."""


def upgrade(url: str) -> Upgraded:
    """Take a database to this program's schema; where it has that already, nothing is done.

    A SQLite file is copied first, to a file beside it. No worker may be at work: one of an older program ends with an
    error at its next write.
    """
    database = Database(url)
    try:
        if database.file is not None and not database.file.exists():
            raise NoStudiesError(f"no database at {database.file}: `pairsearch create` makes one")
        with database.creation_lock():
            before = database.schema_version()
            if before is None:
                raise NoStudiesError(
                    f"database {database.label} holds no studies: there is nothing to upgrade"
                )
            if before == SCHEMA_VERSION:
                return Upgraded(before, None)
            if not OLDEST <= before < SCHEMA_VERSION:
                raise StorageError(
                    f"database {database.label} has schema version {before}: this program upgrades from "
                    f"{OLDEST} to {SCHEMA_VERSION}; use the version of pairsearch that it is from"
                )
            copy = None if database.file is None else _copied(database.file, before)
            try:
                with database.write() as connection:
                    _make_anew(connection, before)
            except InputError as error:
                if copy is not None:
                    copy.unlink()
                raise StorageError(
                    f"{error}: pairsearch cannot have written it: nothing was changed; correct the value first"
                ) from None
        open_database(database)
        for study in list_studies(database):
            complete(database, study)
        return Upgraded(before, copy)
    finally:
        database.close()


def _copied(file: Path, version: int) -> Path:
    copy = file.with_name(f"{file.name}.schema-{version}")
    if copy.exists():
        raise StorageError(f"{copy} is there already: it would be overwritten; move it away")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _make_anew(connection: Connection, before: int) -> None:
    """Make the tables anew, with the rows that they had."""
    old = sa.MetaData()
    old.reflect(connection, only=lambda name, _: name.startswith("pairsearch_"))
    for name in old.tables:
        aside = _aside(name)
        _run(connection, f"create table {aside} as select * from {name}")  # noqa: S608 - names of tables
    old.drop_all(connection)
    for version in range(before, SCHEMA_VERSION):
        if (step := STEPS.get(version)) is not None:
            step(connection)
    metadata.create_all(connection)
    for table in metadata.sorted_tables:
        if sa.inspect(connection).has_table(_aside(table.name)):
            _bring_back(connection, table)
    _run(connection, "update pairsearch_schema set version = :version", version=SCHEMA_VERSION)


def _aside(table: str) -> str:
    return table.replace("pairsearch_", "pairsearch_old_")


def _bring_back(connection: Connection, table: sa.Table) -> None:
    """Insert the rows of a table that are aside, and have PostgreSQL count on from their ids."""
    name, aside = table.name, _aside(table.name)
    kept = _run(connection, f"select * from {aside} limit 0").keys()  # noqa: S608 - names of tables and columns
    columns = ", ".join(column.name for column in table.columns if column.name in kept)
    _run(connection, f"insert into {name} ({columns}) select {columns} from {aside}")  # noqa: S608
    _run(connection, f"drop table {aside}")
    if connection.dialect.name == POSTGRESQL and table.autoincrement_column is not None:
        last = f"select max(id) as id from {name}"  # noqa: S608
        counted = f"pg_get_serial_sequence('{name}', 'id')"
        _run(connection, f"select setval({counted}, id) from ({last}) as last where id is not null")  # noqa: S608


def _to_5(connection: Connection) -> None:
    """Jobs and failures come in beside configurations, and provenance in a table of its own."""
    _run(connection, "create table pairsearch_old_provenances (id integer, digest text, facts text)")
    texts = (
        "select provenance from pairsearch_old_configurations where provenance is not null "
        "union select provenance from pairsearch_old_runs where provenance is not null order by provenance"
    )
    for number, facts in enumerate(_run(connection, texts).scalars().all(), start=1):
        digest = hashlib.sha256(facts.encode()).hexdigest()
        added = "insert into pairsearch_old_provenances values (:number, :digest, :facts)"
        _run(connection, added, number=number, digest=digest, facts=facts)
    for table in ("pairsearch_old_configurations", "pairsearch_old_runs"):
        _run(connection, f"alter table {table} add column provenance_id integer")
        source = "(select id from pairsearch_old_provenances where facts = provenance)"
        _run(connection, f"update {table} set provenance_id = {source}")  # noqa: S608 - constants
    _add_jobs(connection)
    _run(connection, "alter table pairsearch_old_superseded add column job_id integer")
    _run(
        connection,
        "update pairsearch_old_superseded set job_id = (select j.id from pairsearch_old_jobs j "
        "join pairsearch_old_configurations c on c.study_id = j.study_id and c.key = j.key "
        "where c.id = configuration_id and j.first = 0)",
    )
    _name_trials(connection)
    _run(
        connection,
        "update pairsearch_old_configurations set state = 'pending', worker = null, started_at = null, "
        "trial_id = null where state in ('pending', 'running')",
    )


def _add_jobs(connection: Connection) -> None:
    """Add jobs for what is open or failed, and for what has late results."""
    _run(
        connection,
        "create table pairsearch_old_jobs (id integer, study_id integer, key text, kind text, first integer, "
        "count integer, rank integer, state text, errors integer, lapses integer, claims integer)",
    )
    _run(
        connection,
        "create table pairsearch_old_failures (id integer, job_id integer, claim text, worker text, reason text, "
        "traceback text, counts integer, failed_at double precision)",
    )
    of_study: dict[int, tuple[int, int]] = {}
    for study in _run(connection, "select id, definition, problem from pairsearch_old_studies"):
        definition, problem = json.loads(study.definition), json.loads(study.problem)
        whole = problem["together"] or definition.get("pruner", "none") != "none"
        of_study[study.id] = (definition["folds"], definition["folds"] if whole else 1)
    rows = _run(
        connection,
        "select c.* from pairsearch_old_configurations c where c.state in ('pending', 'running', 'failed') or "
        "exists (select 1 from pairsearch_old_superseded s where s.configuration_id = c.id) order by c.rank",
    ).all()
    job_id = 0
    for row in rows:
        folds, size = of_study[row.study_id]
        for first in range(0, folds, size):
            job_id += 1
            state = {"pending": "pending", "running": "pending"}.get(row.state, "done")
            if row.state == "failed":
                state = "dropped" if first else "failed"
            # Errors that only one fold can have made must not count for all.
            counted = size == folds or state == "failed"
            _run(
                connection,
                "insert into pairsearch_old_jobs values "
                "(:id, :study, :key, 'fold', :first, :count, :rank, :state, :errors, :lapses, 0)",
                id=job_id,
                study=row.study_id,
                key=row.key,
                first=first,
                count=size,
                rank=row.rank,
                state=state,
                errors=row.errors if counted else 0,
                lapses=row.lapses if counted else 0,
            )
            if row.traceback is not None and first == 0:
                _run(
                    connection,
                    "insert into pairsearch_old_failures values "
                    "(:id, :job, :claim, 'unknown', :reason, :traceback, 1, :at)",
                    id=row.id,
                    job=job_id,
                    claim=f"schema-4-{row.id}",  # it kept no token of a failed attempt
                    reason=row.reason or "",
                    traceback=row.traceback,
                    at=row.finished_at or 0.0,
                )


def _name_trials(connection: Connection) -> None:
    """Give the trials of Optuna's the attribute by which they are known, the row of their configuration."""
    if not sa.inspect(connection).has_table("trial_user_attributes"):
        return
    rows = _run(connection, "select id, study_id, key from pairsearch_old_configurations")
    ids = {(row.study_id, row.key): row.id for row in rows}
    trials = _run(
        connection,
        "select t.trial_id, a.value_json, p.id as study_id from trials t "
        "join studies s on s.study_id = t.study_id join pairsearch_old_studies p on p.name = s.study_name "
        "join trial_user_attributes a on a.trial_id = t.trial_id and a.key = 'configuration'",
    ).all()
    for trial in trials:
        row_id = ids.get((trial.study_id, json.loads(trial.value_json)))
        if row_id is not None:
            added = (
                "insert into trial_user_attributes (trial_id, key, value_json) values (:trial, 'row', :row)"
            )
            _run(connection, added, trial=trial.trial_id, row=str(row_id))


def _run(connection: Connection, statement: str, **values: object) -> sa.CursorResult[Any]:
    return connection.execute(sa.text(statement), values)


STEPS: Mapping[int, Callable[[Connection], None]] = {4: _to_5}
"""What the way from a version to the next one changes in the rows that are aside; nothing for most versions."""
