"""Inserts many rows at once, as each database does it fastest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Insert,
    Table,
    bindparam,
    column,
    func,
    insert,
    select,
)

from pairsearch.search.database.urls import POSTGRESQL


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that name the same columns, in the connection's transaction.

    PostgreSQL gets them in one statement, as one array for each column, instead of one statement for each row.
    """
    if connection.dialect.name == POSTGRESQL:
        connection.execute(_insert_arrays(table, list(rows[0])), _arrays(rows))
    else:
        connection.execute(insert(table), rows)


def insert_numbered(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, object]],
    by: Column[Any],
    also: Mapping[str, ColumnElement[Any]],
) -> dict[Any, int]:
    """Insert rows as `insert_many` does, and return their ids by the value of a column that is unique in them.

    Args:
        also: columns that the database computes, the same in all rows.
    """
    if connection.dialect.name == POSTGRESQL:
        statement = _insert_arrays(table, list(rows[0]), also).returning(by, table.c.id)
        return dict(connection.execute(statement, _arrays(rows)).all())
    statement = insert(table).values(dict(also)).returning(by, table.c.id)
    return dict(connection.execute(statement, rows).all())


def _insert_arrays(
    table: Table, names: Sequence[str], also: Mapping[str, ColumnElement[Any]] | None = None
) -> Insert:
    arrays = [bindparam(name, type_=ARRAY(table.c[name].type)) for name in names]
    source = func.unnest(*arrays).table_valued(*map(column, names)).render_derived()
    more = also or {}
    return insert(table).from_select([*names, *more], select(*source.c, *more.values()))


def _arrays(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
