"""What columns may hold. The database itself refuses other types and values; JSON is checked when it is read.

Other programs can write to the database too. A wrong text leaves `search.database.connection` as an error of one line
that names table, row and column.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import (
    REAL,
    CheckConstraint,
    Column,
    ColumnElement,
    Dialect,
    Double,
    Integer,
    MetaData,
    String,
    Text,
    or_,
)
from sqlalchemy.types import TypeDecorator

from pairsearch.search.database.urls import SQLITE

# How many characters of a wrong value a message shows.
SHOWN = 60
LARGEST = sys.float_info.max


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
        self.table, self.column, self.wanted, self.value, self.where = table, column, wanted, value, where

    def line(self, where: str) -> str:
        """Return the message for users."""
        shown = ascii(self.value)
        shown = f"{shown[:SHOWN]}..." if len(shown) > SHOWN else shown
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


def _are_numbers(values: Iterable[object]) -> bool:
    return all(value is None or _is_number(value) for value in values)


KINDS: dict[str, Callable[[object], bool]] = {
    "JSON object": lambda value: isinstance(_json(value), dict),
    "JSON object of numbers": lambda value: (
        isinstance(read := _json(value), dict) and _are_numbers(read.values())
    ),
    "JSON array of numbers": lambda value: isinstance(read := _json(value), list) and _are_numbers(read),
}

# Kinds of the columns whose text has a structure.
NAMED_KINDS = {
    "params": "JSON object",
    "facts": "JSON object",
    "figures": "JSON object of numbers",
    "points": "JSON array of numbers",
}


class Checked(TypeDecorator[Any]):
    """A column of texts that checks each when it is read from the database; NULL passes."""

    impl = Text
    cache_ok = True

    def __init__(self, table: str, column: str, kind: str) -> None:
        super().__init__()
        self.table, self.column, self.kind = table, column, kind

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return the check. The drivers return Python's own texts, so there is nothing to convert."""
        fits, table, column, kind = KINDS[self.kind], self.table, self.column, self.kind

        def process(value: Any) -> Any:
            if value is None or fits(value):
                return value
            raise WrongValueError(table, column, kind, value)

        return process


def constrain(metadata: MetaData) -> None:
    """Give every column what holds it to its values, and make SQLite's tables strict.

    Numbers are finite, and not below 0 or the `least` of the column's `info`; ids may be any. A column with `values` in
    its `info` has one of them.
    """
    for table in metadata.tables.values():
        table.dialect_options[SQLITE]["strict"] = True
        for column in table.columns:
            if column.name.endswith("id"):
                continue
            if (condition := _condition(column)) is not None:
                table.append_constraint(CheckConstraint(condition, name=column.name))
            # Strict tables know a few names of types only.
            if isinstance(column.type, Double):
                column.type = column.type.with_variant(REAL(), SQLITE)
            elif column.name in NAMED_KINDS:
                column.type = Checked(table.name, column.name, NAMED_KINDS[column.name])
            elif isinstance(column.type, String):
                column.type = column.type.with_variant(Text(), SQLITE)


def _condition(column: Column[Any]) -> ColumnElement[bool] | None:
    least = column.info.get("least", 0)
    if "values" in column.info:
        # SQLite would make a table of a list for each row that it inserts.
        return or_(*(column == value for value in column.info["values"]))
    if isinstance(column.type, Double):
        return column.between(least, LARGEST)
    return column >= least if isinstance(column.type, Integer) else None
