"""The elements of a report: parts, sections, and blocks of text, tables and figures. This module knows no HTML.

Texts are plain, and are escaped where they are rendered. The exception are texts in the specification of a figure,
which Plotly reads as a subset of HTML: they are escaped by `search.report.drawing.plain` when they are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pairsearch.search.results.fields import Field, Item

Spec = dict[str, Any]
"""A Plotly figure as plain data: `{"data": [...], "layout": {...}}`."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A hint about missing results, with the command that produces them."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Its first `labels` columns are text, the others are numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1

    @classmethod
    def of(cls, caption: str, fields: Sequence[Field[Item]], items: Iterable[Item]) -> Table:
        """Make a table with a row for each item; the columns of numbers come last."""
        return cls(
            caption,
            tuple(field.name for field in fields),
            tuple(tuple(field.cell(item) for field in fields) for item in items),
            sum(not field.right for field in fields),
        )


@dataclass(frozen=True, slots=True)
class View:
    """One of several alternative drawings of a figure."""

    label: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with one or more views of the same size."""

    name: str
    """Name of its image files: lower-case letters, digits, - and _."""
    title: str
    caption: str
    alt: str
    """Description of the figure for people who cannot see it."""
    views: tuple[View, ...]
    height: int = 420
    """Height in CSS pixels."""
    least_width: int = 0
    """Width in CSS pixels below which the page scrolls the figure instead of shrinking it."""
    choice: str = "Show"
    """Label of the selector of views."""


def view_names(figure: Figure) -> list[str]:
    """Return a name for each view: the figure's, with numbers from 1 if there are several views."""
    count = len(figure.views)
    return [figure.name] if count == 1 else [f"{figure.name}-{place}" for place in range(1, count + 1)]


Block = Paragraph | Notice | Table | Figure


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A chapter about all studies, or about one."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Document:
    title: str
    facts: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def figures(self) -> list[Figure]:
        sections = [section for part in self.parts for section in part.sections]
        return [block for section in sections for block in section.blocks if isinstance(block, Figure)]
