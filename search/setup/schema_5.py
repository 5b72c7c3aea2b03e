"""The checks of schema 5, for databases that are taken there."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy import Connection

from pairsearch.search.database.urls import POSTGRESQL


def constrain(connection: Connection, op: Operations) -> None:
    """Give the tables of schema 5 their checks; SQLite's are made anew, strict."""
    recreate: Literal["always", "never"] = "never" if connection.dialect.name == POSTGRESQL else "always"
    for name, checks in _checks().items():
        table = f"pairsearch_{name}"
        with op.batch_alter_table(
            table,
            recreate=recreate,
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
            "round": "kind <> 'round' or (seconds is not null and facts is not null and provenance_id is not null)",
        },
        "curves": {},
        "checkpoints": whole("run", "epoch") | times("seconds", "saved_at") | trained,
        "models": {},
        "superseded": times("arrived_at") | value,
    }
