"""Inserts many rows at once, as each database does it fastest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Column, Connection, Table, bindparam, column, func, insert, select
from sqlalchemy.sql.dml import Insert

from pairsearch.search.database.clock import now
from pairsearch.search.database.urls import POSTGRESQL


def insert_many(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, object]],
    by: Column[Any] | None = None,
    moment: Column[Any] | None = None,
) -> dict[Any, int]:
    """Insert rows that name the same columns, in the connection's transaction.

    PostgreSQL gets them in one statement, as one array for each column, instead of one statement for each row.

    Args:
        by: a column that is unique in the rows; None to return nothing.
        moment: the column that gets the time.

    Returns:
        The ids of the rows by that column.
    """
    names = tuple(rows[0])
    if connection.dialect.name == POSTGRESQL:
        arrays = {name: [row[name] for row in rows] for name in names}
        inserted = connection.execute(_statement(table, names, by, moment), arrays)
    else:
        inserted = connection.execute(_statement(table, None, by, moment), rows)
    return {} if by is None else dict(inserted.all())


@cache
def _statement(
    table: Table, names: Sequence[str] | None, by: Column[Any] | None, moment: Column[Any] | None
) -> Insert:
    """Build a statement, which takes longer than a database takes for it; of arrays if columns are named."""
    timed = {} if moment is None else {moment.name: now()}
    if names is None:
        statement = insert(table).values(timed) if timed else insert(table)
    else:
        arrays = [bindparam(name, type_=ARRAY(table.c[name].type)) for name in names]
        source = func.unnest(*arrays).table_valued(*map(column, names)).render_derived()
        statement = insert(table).from_select([*names, *timed], select(*source.c, *timed.values()))
    return statement if by is None else statement.returning(by, table.c.id)
