"""The columns of tables that are shown, in a terminal or on a page: each states its header and its cells once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Field(Generic[Item]):
    """A column of a table with a row for each item."""

    name: str
    cell: Callable[[Item], str]
    """Returns the text of an item's cell."""
    right: bool = True
    """Whether it holds numbers; texts begin at the left."""
    prose: bool = False
    """Whether its values may fold between words."""
    constant_below: bool = False
    """Whether a value that all rows share may be shown once below the table, if the terminal is narrow."""
