"""A table for terminals of any width that never cuts a value: headers fold, what does not vary goes below, or rows
are stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from pairsearch.search.results.formatting import words

STACKED = "  "
"""Before the lines of a stacked row but for its first."""


@dataclass(frozen=True, slots=True)
class Field:
    """A column."""

    name: str
    right: bool = True
    prose: bool = False
    """Its values may fold between words."""
    constant_below: bool = False
    """Where room is short, a value that all rows share is said once, below the table."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows under fields, laid out for the width that there is when it is printed."""

    fields: Sequence[Field]
    rows: Sequence[Sequence[str]]
    title: str | None = None
    caption: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A table where one fits, without the columns that do not vary where only that fits, else stacked rows."""
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
        """The least width of a column in which no word of its header, and no value, is broken."""
        field, values = self.fields[place], [row[place] for row in self.rows]
        if field.prose:
            values = [word for value in values for word in value.split()]
        return max(map(len, [*words(field.name).split(), *values]))

    def _width(self, places: Sequence[int]) -> int:
        """The least width of a table of these columns."""
        return 1 + sum(3 + self._least(place) for place in places)

    def _table(self, places: Sequence[int], caption: str | None, room: int) -> Table:
        """A table of at most so many characters in width, at least `_width` of these columns."""
        table = Table(title=self.title, caption=caption, title_justify="left", caption_justify="left")
        room -= self._width(places)
        for place in places:
            field = self.fields[place]
            header, least = words(field.name), self._least(place)
            # Rich would take room from one column for another, and cut what then has too little.
            width = least + min(
                room, max([len(header), *(len(row[place]) for row in self.rows), least]) - least
            )
            room -= width - least
            table.add_column(header, justify="right" if field.right else "left", width=width, overflow="fold")
        for row in self.rows:
            table.add_row(*(row[place] for place in places))
        return table

    def _stacked(self, row: Sequence[str], width: int) -> RenderResult:
        """A row as `name value` after `name value`, as many on a line as fit."""
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
