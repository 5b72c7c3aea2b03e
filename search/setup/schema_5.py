"""The tables, columns and checks of schema 5, for databases that are taken there."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection

from pairsearch.search.database.urls import POSTGRESQL

ADDED = """
create table pairsearch_provenances (
    id {serial} not null primary key, digest varchar(64) not null, facts text not null, unique (digest));
create table pairsearch_jobs (
    id {serial} not null primary key, study_id integer not null references pairsearch_studies (id), key text not null,
    kind varchar(8) not null, first integer not null, count integer not null, rank integer not null, params text,
    state varchar(16) not null, errors integer not null, lapses integer not null, claims integer not null,
    claim varchar(32), worker text, lease_expires double precision, unique (study_id, key, kind, first));
create index pairsearch_jobs_claim on pairsearch_jobs (study_id, state, lapses, errors, rank, id);
create table pairsearch_failures (
    id {serial} not null primary key, job_id integer not null references pairsearch_jobs (id),
    claim varchar(32) not null, worker text not null, reason text not null, traceback text,
    counts integer not null, failed_at double precision not null, unique (claim));
create index ix_pairsearch_failures_job_id on pairsearch_failures (job_id);
create table pairsearch_checkpoints (
    study_id integer not null references pairsearch_studies (id), key text not null, kind varchar(8) not null,
    run integer not null, epoch integer not null, curves text not null, seconds double precision not null,
    content {bytes}, file text, saved_at double precision not null, primary key (study_id, key, kind, run));
create table pairsearch_models (
    run_id integer not null primary key references pairsearch_runs (id), content {bytes} not null);
alter table pairsearch_configurations add column provenance_id integer references pairsearch_provenances (id);
alter table pairsearch_runs add column provenance_id integer references pairsearch_provenances (id);
alter table pairsearch_studies add column stopped_at double precision
"""
SUPERSEDED = """
drop table pairsearch_superseded;
create table pairsearch_superseded (
    id {serial} not null primary key, job_id integer not null references pairsearch_jobs (id),
    claim varchar(32) not null, worker text not null, value double precision, arrived_at double precision not null)
"""
DROPPED = """
drop index pairsearch_configurations_claim;
create index pairsearch_configurations_state on pairsearch_configurations (study_id, state, rank);
alter table pairsearch_configurations drop column claim;
alter table pairsearch_configurations drop column lease_expires;
alter table pairsearch_configurations drop column traceback;
alter table pairsearch_configurations drop column provenance;
alter table pairsearch_runs drop column provenance
"""


def run(connection: Connection, script: str, **words: str) -> None:
    """Run statements, with the database's own names of types, and further words of the script's."""
    is_postgresql = connection.dialect.name == POSTGRESQL
    serial, content = ("serial", "bytea") if is_postgresql else ("integer", "blob")
    for statement in script.format(serial=serial, bytes=content, **words).split(";"):
        connection.exec_driver_sql(statement)


def constrain(connection: Connection) -> None:
    """Give the tables of schema 5 their checks; SQLite's are made anew, strict."""
    op = Operations(MigrationContext.configure(connection))
    for name, checks in _checks().items():
        table = f"pairsearch_{name}"
        with op.batch_alter_table(
            table,
            recreate="never" if connection.dialect.name == POSTGRESQL else "always",
            table_kwargs={"sqlite_strict": True},
            reflect_kwargs={"listeners": [("column_reflect", _name_strictly)]},
        ) as batch:
            for column, check in checks.items():
                batch.create_check_constraint(f"{table}_{column}_check", check)


def _name_strictly(inspector: Any, table: sa.Table, column: Any) -> None:
    """Give a column a type that a strict table knows."""
    if isinstance(column["type"], sa.Double):
        column["type"] = sa.REAL()
    elif isinstance(column["type"], sa.String):
        column["type"] = sa.Text()


def _checks() -> dict[str, dict[str, str]]:
    largest = "1.7976931348623157e+308"

    def whole(*columns: str, least: int = 0) -> dict[str, str]:
        return {column: f"{column} >= {least}" for column in columns}

    def times(*columns: str) -> dict[str, str]:
        return {column: f"{column} BETWEEN 0 AND {largest}" for column in columns}

    def one_of(column: str, *values: str) -> dict[str, str]:
        return {column: " OR ".join(f"{column} = {value}" for value in values)}

    value = {"value": f"value BETWEEN -{largest} AND {largest}"}
    trained = one_of("kind", "'fold'", "'round'")
    pending, running, failed = "'pending'", "'running'", "'failed'"
    return {
        "schema": whole("version"),
        "studies": times("created_at", "stopped_at"),
        "provenances": {},
        "configurations": whole("rank", "errors", "lapses", "claims")
        | times("started_at", "finished_at", "seconds")
        | value
        | one_of("state", pending, running, "'finished'", "'diverged'", "'pruned'", failed)
        | {
            "finished": "state <> 'finished' or value is not null",
            "covered": "state = 'pending' or state = 'running' or state = 'failed' "
            "or (seconds is not null and provenance_id is not null)",
        },
        "jobs": whole("first", "errors", "lapses", "claims")
        | whole("count", least=1)
        | whole("rank", least=-1)
        | times("lease_expires")
        | trained
        | one_of("state", pending, running, "'done'", failed, "'dropped'"),
        "failures": times("failed_at") | one_of("counts", "0", "1"),
        "runs": whole("run", "epochs")
        | whole("diverged_epoch", least=1)
        | times("seconds", "finished_at")
        | one_of("kind", "'fold'", "'round'", "'mean'")
        | {
            "round": "kind <> 'round' or (seconds is not null and facts is not null and provenance_id is not null)"
        },
        "curves": {},
        "checkpoints": whole("run", "epoch") | times("seconds", "saved_at") | trained,
        "models": {},
        "superseded": times("arrived_at") | value,
    }
