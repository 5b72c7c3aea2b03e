"""What a report is made of: parts, sections and blocks of text, tables and figures. Nothing here knows HTML.

Texts are plain: whoever shows them escapes them. The one exception are texts inside a figure's specification,
which Plotly reads as a small HTML of its own: they go through `search.report.drawing.plain`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
"""A Plotly figure as plain data: `{"data": [...], "layout": {...}}`."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What is missing, and the command that would bring it."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first `labels` columns are text, the others figures."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1


@dataclass(frozen=True, slots=True)
class View:
    """One state of a figure that can be switched."""

    label: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with one or more views of the same size."""

    name: str
    """Of its image files: lower-case letters, numbers, - and _."""
    title: str
    caption: str
    alt: str
    """What it shows, for those who do not see it."""
    views: tuple[View, ...]
    height: int = 420
    """CSS pixels."""
    least_width: int = 0
    """CSS pixels below which the page scrolls the figure instead of squeezing it."""
    choice: str = "Show"
    """What the views differ in."""


def view_names(figure: Figure) -> list[str]:
    """A name for each view: the figure's, numbered from 1 where there are several."""
    count = len(figure.views)
    return [figure.name] if count == 1 else [f"{figure.name}-{place}" for place in range(1, count + 1)]


Block = Paragraph | Notice | Table | Figure


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what is under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A chapter: all studies together, or one study."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    @property
    def figures(self) -> list[Figure]:
        """The figures in their order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]


@dataclass(frozen=True, slots=True)
class Report:
    """The whole document."""

    title: str
    facts: tuple[str, ...]
    parts: tuple[Part, ...] = field(default=())

    @property
    def figures(self) -> list[Figure]:
        """The figures in their order."""
        return [figure for part in self.parts for figure in part.figures]
