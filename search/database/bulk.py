"""Inserts many rows at once, as each database does it fastest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Column, Connection, Insert, Table, bindparam, column, func, insert, select
from sqlalchemy.sql.dml import ReturningInsert

from pairsearch.search.database.clock import now
from pairsearch.search.database.urls import POSTGRESQL


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that name the same columns, in the connection's transaction.

    PostgreSQL gets them in one statement, as one array for each column, instead of one statement for each row.
    """
    if connection.dialect.name == POSTGRESQL:
        connection.execute(_insert_arrays(table, tuple(rows[0])), _arrays(rows))
    else:
        connection.execute(insert(table), rows)


def insert_numbered(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, object]],
    by: Column[Any],
    moment: Column[Any],
) -> dict[Any, int]:
    """Insert rows as `insert_many` does, with the time as `moment`; return their ids by a column unique in them."""
    if connection.dialect.name == POSTGRESQL:
        statement = _insert_arrays(table, tuple(rows[0]), by, moment)
        return dict(connection.execute(statement, _arrays(rows)).all())
    return dict(connection.execute(_insert_each(table, by, moment), rows).all())


# Building a statement takes longer than a database takes for it.
@cache
def _insert_each(table: Table, by: Column[Any], moment: Column[Any]) -> ReturningInsert[Any]:
    return insert(table).values({moment: now()}).returning(by, table.c.id)


@cache
def _insert_arrays(
    table: Table, names: Sequence[str], by: Column[Any] | None = None, moment: Column[Any] | None = None
) -> Insert:
    arrays = [bindparam(name, type_=ARRAY(table.c[name].type)) for name in names]
    source = func.unnest(*arrays).table_valued(*map(column, names)).render_derived()
    if moment is None:
        return insert(table).from_select(names, select(*source.c))
    timed = insert(table).from_select([*names, moment.name], select(*source.c, now()))
    return timed if by is None else timed.returning(by, table.c.id)


def _arrays(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
