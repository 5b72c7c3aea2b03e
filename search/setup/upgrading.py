"""Takes a database of an older schema to this program's, with all its results.

Each step stands for itself, in the words of the schema that it begins with and not in those of `database.tables`, which
go on changing. Data definition is part of the transaction on both databases, so that a step is done as a whole or not
at all.
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
from sqlalchemy import Connection, event

from pairsearch.search.common.errors import InputError, NoStudiesError, StorageError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.tables import SCHEMA_VERSION
from pairsearch.search.database.urls import POSTGRESQL
from pairsearch.search.ledger.studies import list_studies
from pairsearch.search.mirror.trials import complete
from pairsearch.search.setup import schema_5

LARGEST = "1.7976931348623157e+308"
SUBMISSIONS = f"""
create table pairsearch_submissions (
    id {{serial}} not null primary key, study_id integer not null references pairsearch_studies (id),
    engine {{name}} not null, address text not null, native_id text not null,
    workers integer not null, submitted_at {{double}} not null, ended_at {{double}},
    constraint pairsearch_submissions_workers_check check (workers >= 1),
    constraint pairsearch_submissions_submitted_at_check check (submitted_at BETWEEN 0 AND {LARGEST}),
    constraint pairsearch_submissions_ended_at_check check (ended_at BETWEEN 0 AND {LARGEST})) {{strict}};
create index ix_pairsearch_submissions_study_id on pairsearch_submissions (study_id)
"""
"""What schema 6 adds."""


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
            if before not in STEPS:
                raise StorageError(
                    f"database {database.label} has schema version {before}: this program upgrades from "
                    f"{min(STEPS)} to {SCHEMA_VERSION}; use the version of pairsearch that it is from"
                )
            copy = None if database.file is None else _copied(database.file, before)
            try:
                _stepped(url, before)
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


def _stepped(url: str, before: int) -> None:
    """Take the steps from a version to this program's, in one transaction."""
    database = Database(url)
    if database.is_sqlite:
        # A table that is made anew is dropped in between, and others refer to it.
        event.listen(database.engine, "connect", lambda made, _: made.execute("PRAGMA foreign_keys = OFF"))
    try:
        with database.write() as connection:
            for version in range(before, SCHEMA_VERSION):
                STEPS[version](connection)
            _run(connection, "update pairsearch_schema set version = :version", version=SCHEMA_VERSION)
    finally:
        database.close()


def _copied(file: Path, version: int) -> Path:
    copy = file.with_name(f"{file.name}.schema-{version}")
    if copy.exists():
        raise StorageError(f"{copy} is there already: it would be overwritten; move it away")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _to_5(connection: Connection) -> None:
    """Jobs and failures come in beside configurations, and provenance in a table of its own."""
    schema_5.run(connection, schema_5.ADDED)
    texts = (
        "select provenance from pairsearch_configurations where provenance is not null "
        "union select provenance from pairsearch_runs where provenance is not null order by provenance"
    )
    for facts in _run(connection, texts).scalars().all():
        digest = hashlib.sha256(facts.encode()).hexdigest()
        added = "insert into pairsearch_provenances (digest, facts) values (:digest, :facts)"
        _run(connection, added, digest=digest, facts=facts)
    for table in ("pairsearch_configurations", "pairsearch_runs"):
        source = "(select id from pairsearch_provenances where facts = provenance)"
        _run(connection, f"update {table} set provenance_id = {source}")  # noqa: S608 - constants
    of_key = _jobs_of_configurations(connection)
    late = (
        "select s.claim, s.worker, s.value, s.arrived_at, c.study_id, c.key from pairsearch_superseded s "
        "join pairsearch_configurations c on c.id = s.configuration_id order by s.id"
    )
    results = [dict(row) for row in _run(connection, late).mappings()]
    schema_5.run(connection, schema_5.SUPERSEDED)
    for row in results:
        added = (
            "insert into pairsearch_superseded (job_id, claim, worker, value, arrived_at) "
            "values (:job, :claim, :worker, :value, :arrived_at)"
        )
        _run(connection, added, job=of_key[row["study_id"], row["key"]], **row)
    _name_trials(connection)
    _run(
        connection,
        "update pairsearch_configurations set state = 'pending', worker = null, started_at = null, "
        "trial_id = null where state in ('pending', 'running')",
    )
    schema_5.run(connection, schema_5.DROPPED)
    schema_5.constrain(connection)


def _jobs_of_configurations(connection: Connection) -> dict[tuple[int, str], int]:
    """Insert jobs for what is open or failed, and for what has late results; return the first job of each."""
    of_study: dict[int, tuple[int, int]] = {}
    for study in _run(connection, "select id, definition, problem from pairsearch_studies"):
        definition, problem = json.loads(study.definition), json.loads(study.problem)
        whole = problem["together"] or definition.get("pruner", "none") != "none"
        of_study[study.id] = (definition["folds"], definition["folds"] if whole else 1)
    rows = _run(
        connection,
        "select c.* from pairsearch_configurations c where c.state in ('pending', 'running', 'failed') or "
        "exists (select 1 from pairsearch_superseded s where s.configuration_id = c.id) order by c.rank",
    ).all()
    found: dict[tuple[int, str], int] = {}
    for row in rows:
        folds, size = of_study[row.study_id]
        for first in range(0, folds, size):
            state = {"pending": "pending", "running": "pending"}.get(row.state, "done")
            if row.state == "failed":
                state = "dropped" if first else "failed"
            # Errors that only one fold can have made must not count for all.
            counted = size == folds or state == "failed"
            job_id = _run(
                connection,
                "insert into pairsearch_jobs "
                "(study_id, key, kind, first, count, rank, state, errors, lapses, claims) "
                "values (:study, :key, 'fold', :first, :count, :rank, :state, :errors, :lapses, 0) returning id",
                study=row.study_id,
                key=row.key,
                first=first,
                count=size,
                rank=row.rank,
                state=state,
                errors=row.errors if counted else 0,
                lapses=row.lapses if counted else 0,
            ).scalar_one()
            found.setdefault((row.study_id, row.key), job_id)
            if row.traceback is not None and first == 0:
                _run(
                    connection,
                    "insert into pairsearch_failures (job_id, claim, worker, reason, traceback, counts, failed_at) "
                    "values (:job, :claim, 'unknown', :reason, :traceback, 1, :at)",
                    job=job_id,
                    claim=f"schema-4-{row.id}",  # it kept no token of a failed attempt
                    reason=row.reason or "",
                    traceback=row.traceback,
                    at=row.finished_at or 0.0,
                )
    return found


def _name_trials(connection: Connection) -> None:
    """Give the trials of Optuna's the attribute by which they are known, the row of their configuration."""
    if not sa.inspect(connection).has_table("trial_user_attributes"):
        return
    rows = _run(connection, "select id, study_id, key from pairsearch_configurations")
    ids = {(row.study_id, row.key): row.id for row in rows}
    trials = _run(
        connection,
        "select t.trial_id, a.value_json, p.id as study_id from trials t "
        "join studies s on s.study_id = t.study_id join pairsearch_studies p on p.name = s.study_name "
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


def _to_6(connection: Connection) -> None:
    """Submissions to clusters' engines come in."""
    types = {"name": "text", "double": "real", "strict": "strict"}
    if connection.dialect.name == POSTGRESQL:
        types = {"name": "varchar(64)", "double": "double precision", "strict": ""}
    schema_5.run(connection, SUBMISSIONS, **types)


STEPS: Mapping[int, Callable[[Connection], None]] = {4: _to_5, 5: _to_6}
"""The step from each version to the next."""
