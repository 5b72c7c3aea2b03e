"""Column types that check each value when it is read.

Other programs can write to the database too, and SQLite accepts text in a column of numbers. A wrong value leaves
`search.database.connection` as an error of one line that names table, row and column.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Dialect, Double, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from pairsearch.search.database.states import JobState, State

# How many characters of a wrong value a message shows.
SHOWN = 60


class WrongValueError(Exception):
    """A column contains a value that pairsearch cannot have written.

    Args:
        column: name of the column.
        wanted: what the column should contain, a key of `KINDS` for example.
        value: the wrong value; None for NULL.
        where: the row; None if it has to be looked up by the value.
    """

    def __init__(self, table: str, column: str, wanted: str, value: object, where: str | None = None) -> None:
        super().__init__(table, column, wanted, value, where)
        self.table = table
        self.column = column
        self.wanted = wanted
        self.value = value
        self.where = where

    def line(self, where: str) -> str:
        """Return the message for users."""
        shown = ascii(self.value)
        if len(shown) > SHOWN:
            shown = f"{shown[:SHOWN]}..."
        instead = "" if self.value is None else f", but {shown}"
        return f"row {where} of table {self.table} has no {self.wanted} as its {self.column}{instead}"


def _is_number(value: object) -> bool:
    return (type(value) is float and math.isfinite(value)) or type(value) is int


def _json(value: object) -> object:
    """Return what a text of JSON holds, None where the value is none."""
    try:
        return json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None


def _is_figures(value: object) -> bool:
    read = _json(value)
    return isinstance(read, dict) and all(figure is None or _is_number(figure) for figure in read.values())


def _is_curve(value: object) -> bool:
    read = _json(value)
    return isinstance(read, list) and all(point is None or _is_number(point) for point in read)


KINDS: dict[str, Callable[[object], bool]] = {
    "number": _is_number,
    "whole number": lambda value: type(value) is int,
    "text": lambda value: type(value) is str,
    "bytes": lambda value: isinstance(value, bytes | memoryview),
    "known state": frozenset({*State, *JobState}).__contains__,
    "JSON object": lambda value: isinstance(_json(value), dict),
    "JSON object of numbers": _is_figures,
    "JSON array of numbers": _is_curve,
}

# Kinds of the text columns whose text has a structure.
NAMED_KINDS = {
    "state": "known state",
    "provenance": "JSON object",
    "params": "JSON object",
    "facts": "JSON object",
    "figures": "JSON object of numbers",
    "points": "JSON array of numbers",
}


class Checked(TypeDecorator[Any]):
    """A column type that checks each value read from the database; NULL passes."""

    impl = Text
    cache_ok = True

    def __init__(self, stored: TypeEngine[Any], table: str, column: str, kind: str) -> None:
        super().__init__()
        self.stored = stored
        self.impl = stored  # type: ignore[assignment] # a class here, an instance in an instance: SQLAlchemy's way
        self.table = table
        self.column = column
        self.kind = kind

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return the check. The drivers return Python's own numbers and texts, so there is nothing to convert."""
        fits, table, column, kind = KINDS[self.kind], self.table, self.column, self.kind

        def process(value: Any) -> Any:
            if value is None or fits(value):
                return value
            raise WrongValueError(table, column, kind, value)

        return process


def check_columns(metadata: MetaData, but: Table) -> None:
    """Give every column a `Checked` type, except `id` columns, foreign keys and the table `but`."""
    for table in metadata.tables.values():
        for column in table.columns:
            if not (table is but or column.foreign_keys or column.name == "id"):
                column.type = Checked(column.type, table.name, column.name, _kind(column))


def _kind(column: Column[Any]) -> str:
    if isinstance(column.type, Double | Integer):
        return "number" if isinstance(column.type, Double) else "whole number"
    if isinstance(column.type, LargeBinary):
        return "bytes"
    return NAMED_KINDS.get(column.name, "text")


def required(table: str, row: Any, *names: str) -> None:
    """Check that columns of a row are not NULL.

    Raises:
        WrongValueError: a column is NULL; the error names the first.
    """
    for name in names:
        if getattr(row, name) is None:
            raise WrongValueError(
                table, name, NAMED_KINDS.get(name, "number"), None, f"id={row.id} ({row.key!a})"
            )
