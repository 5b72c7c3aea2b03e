"""A table for terminals of any width that never cuts a value.

In a narrow terminal headers fold, columns without variation move below the table, or rows are stacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from pairsearch.search.results.fields import Field, Item
from pairsearch.search.results.formatting import words

STACKED = "  "
"""Indentation of the lines of a stacked row after its first."""


class Sheet(Generic[Item]):
    """A table that is laid out for the width of the terminal when it is printed."""

    def __init__(
        self,
        fields: Sequence[Field[Item]],
        items: Iterable[Item],
        title: str | None = None,
        caption: str | None = None,
    ) -> None:
        self.fields = fields
        self.rows = [[field.cell(item) for field in fields] for item in items]
        self.title = title
        self.caption = caption

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the sheet out as a table if it fits, without constant columns if only that fits, else as stacked rows."""
        every = list(range(len(self.fields)))
        same = [
            place
            for place in every
            if self.fields[place].constant_below and len({row[place] for row in self.rows}) == 1
        ]
        varying = [place for place in every if place not in same]
        if self._width(every) <= options.max_width:
            yield self._table(every, self.caption, options.max_width)
        elif len(self.rows) > 1 and same and self._width(varying) <= options.max_width:
            said = ", ".join(f"{self.fields[place].name} {self.rows[0][place]}" for place in same)
            below = f"The same in all rows: {said}."
            yield self._table(varying, None, options.max_width)
            yield Text(below if self.caption is None else f"{below}\n{self.caption}", overflow="fold")
        else:
            if self.title is not None:
                yield Text(self.title, overflow="fold")
            for row in self.rows:
                yield from self._stacked(row, options.max_width)
            if self.caption is not None:
                yield Text(self.caption, overflow="fold")

    def _least(self, place: int) -> int:
        """Return the smallest width of a column that breaks neither a value nor a word of its header."""
        field, values = self.fields[place], [row[place] for row in self.rows]
        if field.prose:
            values = [word for value in values for word in value.split()]
        return max(map(len, [*words(field.name).split(), *values]))

    def _width(self, places: Sequence[int]) -> int:
        """Return the smallest width of a table of these columns."""
        return 1 + sum(3 + self._least(place) for place in places)

    def _table(self, places: Sequence[int], caption: str | None, room: int) -> Table:
        """Lay out a table of some columns that is at most `room` characters wide; `room` is at least `_width`."""
        table = Table(title=self.title, caption=caption, title_justify="left", caption_justify="left")
        room -= self._width(places)
        for place in places:
            field = self.fields[place]
            header, least = words(field.name), self._least(place)
            # Widths are fixed here, since Rich would shrink some columns in favour of others and cut their values.
            width = least + min(
                room, max([len(header), *(len(row[place]) for row in self.rows), least]) - least
            )
            room -= width - least
            table.add_column(header, justify="right" if field.right else "left", width=width, overflow="fold")
        for row in self.rows:
            table.add_row(*(row[place] for place in places))
        return table

    def _stacked(self, row: Sequence[str], width: int) -> RenderResult:
        """Lay out a row as `name value, name value, ...`, with as many on a line as fit."""
        line = ""
        for field, value in zip(self.fields, row, strict=True):
            if not value:
                continue
            entry = f"{words(field.name)} {value}"
            joined = f"{line}, {entry}" if line.strip() else f"{line}{entry}"
            if line.strip() and len(joined) > width - 1:
                yield Text(f"{line},", overflow="fold")
                joined = f"{STACKED}{entry}"
            line = joined
        yield Text(line, overflow="fold")
