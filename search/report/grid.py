"""The grid: heat maps of each figure over two parameters, in facets over two more.

The axes are the first two parameters with fractional values, such as learning rates, or else the first that vary. The
others follow in the order of the definition: columns of facets, rows of facets, a selector. If there are more, a cell
shows the best over their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from pairsearch.search.database.states import State
from pairsearch.search.report.content import Figure, Notice, Section, Spec, View
from pairsearch.search.report.drawing import (
    INK,
    LEGEND,
    MUTED,
    SCALE,
    VERMILLION,
    Shade,
    briefly,
    categories,
    chart,
    note,
    plain,
    scatter,
    shortened,
    slug,
    spans,
    suffix,
    thinned,
)
from pairsearch.search.report.importance import section_blocks as importance_blocks
from pairsearch.search.report.parallel import parallel_coordinates
from pairsearch.search.report.parameters import Parameter
from pairsearch.search.report.reading import Point, Reading
from pairsearch.search.results.formatting import label, unit, with_unit
from pairsearch.studies.configuration import describe
from pairsearch.studies.problem import Metric

MARKS: dict[str, Spec] = {
    "search’s best": {"symbol": "circle-open", "size": 34, "line": {"width": 3, "color": VERMILLION}},
    "paper’s configuration": {"symbol": "square-open", "size": 38, "line": {"width": 2, "color": INK}},
    "diverged": {"symbol": "x-thin", "size": 11, "line": {"width": 2, "color": VERMILLION}},
    "pruned": {"symbol": "line-ew", "size": 11, "line": {"width": 2, "color": MUTED}},
    "failed": {"symbol": "triangle-up-open", "size": 11, "color": INK, "line": {"width": 1.5, "color": INK}},
    "running": {"symbol": "circle", "size": 6, "color": MUTED},
    "not started": {"symbol": "circle", "size": 2.5, "color": MUTED},
}
"""Marks on cells, the later ones on top; all but the first two say why a cell has no figure."""
FACETS = 6
"""The largest number of columns of facets, rows of facets, and views."""
WIDE, NARROW = 48, 20
"""Size in CSS pixels of a cell with its figure written in it, and of a cell without."""
ROOM = 1200
"""Width and height in CSS pixels for all facets together; there are at least two facets."""


NAMELESS = Parameter("", ("",))


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension of a heat map, which shows a parameter, or one without a name if there are too few."""

    parameter: Parameter = NAMELESS
    place: int | None = None
    """Index of the parameter in the study's."""
    shown: tuple[int, ...] = (0,)
    """Indices of the levels that are drawn."""

    @property
    def label(self) -> str:
        return self.parameter.label

    @property
    def texts(self) -> list[str]:
        return [self.parameter.texts[level] for level in self.shown]

    def level(self, point: Point) -> int:
        return 0 if self.place is None else point.places[self.place]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The assignment of parameters to the dimensions of a heat map."""

    x: Dimension
    y: Dimension
    columns: Dimension
    rows: Dimension
    selector: Dimension
    merged: tuple[Parameter, ...]
    """Parameters without a dimension; a cell shows the best over their values."""
    left_out: str
    """A sentence about values that are not drawn; empty if all are."""

    @classmethod
    def of(cls, reading: Reading) -> Arrangement:
        """Arrange the parameters of a study so that the best and the paper's configuration are drawn."""
        known = list(enumerate(reading.parameters))
        axes = sorted(known, key=lambda one: (not one[1].varies, not one[1].continuous))[:2]
        others = [one for one in known if one not in axes and one[1].varies]
        best_and_paper = {reading.best, reading.paper}
        marked = [point for point in reading.points if point.configuration in best_and_paper]
        whole = [
            Dimension(parameter, place, tuple(range(len(parameter.levels))))
            for place, parameter in sorted(axes)
        ]
        x, y = (*whole, Dimension())[:2]
        rooms = (*(min(FACETS, max(2, ROOM // (NARROW * len(axis.shown)))) for axis in (x, y)), FACETS)
        facets = [Dimension(), Dimension(), Dimension()]
        said = []
        for index, ((place, parameter), room) in enumerate(zip(others, rooms, strict=False)):
            kept = _kept(parameter, {point.places[place] for point in marked}, room)
            facets[index] = Dimension(parameter, place, kept)
            if len(kept) < len(parameter.levels):
                said.append(f"{len(kept)} of the {len(parameter.levels)} values of the {parameter.label}")
        merged = tuple(parameter for _, parameter in others[len(rooms) :])
        left_out = f" Drawn are {', and '.join(said)}." if said else ""
        columns, rows, selector = facets
        return cls(x, y, columns, rows, selector, merged, left_out)

    @property
    def cell(self) -> int:
        """Size of a cell in CSS pixels; figures are written in cells if all facets fit side by side then."""
        return WIDE if WIDE * len(self.columns.shown) * len(self.x.shown) <= ROOM else NARROW

    @property
    def over(self) -> str:
        return " × ".join(filter(None, [self.x.label, self.y.label]))


def _kept(parameter: Parameter, marked: set[int], room: int) -> tuple[int, ...]:
    """Choose at most `room` levels of a parameter, including those that are marked; return their indices."""
    places = range(len(parameter.levels))
    if len(places) <= room:
        return tuple(places)
    others = [place for place in places if place not in marked]
    left = room - len(marked)
    return tuple(sorted(marked | set(thinned(others, left) if left > 1 else others[:left])))


def section(reading: Reading) -> Section:
    if not reading.finished:
        return Section("The grid", (Notice(f"There is nothing to draw: {reading.ended}."),))
    return Section(
        "The grid",
        (
            *(heat_map(reading, name, metric) for name, metric in reading.compared.items()),
            parallel_coordinates(reading),
            *importance_blocks(reading),
        ),
    )


def heat_map(reading: Reading, figure: str, metric: Metric) -> Figure:
    arranged = Arrangement.of(reading)
    known = [value for point in reading.points if (value := point.figure(figure)) is not None]
    shade = Shade.over(known or [0.0, 1.0], metric)
    drawing = _Drawing(reading, arranged, figure, metric, shade)
    selector = arranged.selector
    every = [one.label for one in (selector.parameter, *arranged.merged) if one.label]
    views = [View(f"best over {', '.join(every)}" if every else "", drawing.facets(None))]
    if selector.label:
        views += [
            View(f"{selector.label} {text}", drawing.facets(level))
            for level, text in zip(selector.shown, selector.texts, strict=True)
        ]
    rows, columns = len(arranged.rows.shown), len(arranged.columns.shown)
    cell = arranged.cell
    what = label(figure, metric)
    scale = "of its logarithm " if shade.logarithmic else ""
    facets = " and ".join(filter(None, [arranged.columns.label, arranged.rows.label]))
    return Figure(
        f"{reading.study.name}-{slug(figure)}",
        f"Mean {what} over {arranged.over}",
        f"Means over folds after the last epoch{', in per cent' if metric.percent else ''}. Colours follow "
        f"the square root {scale}between best and worst, so that differences near the best are seen. "
        "A ring is the search’s best by the study’s metric"
        + (", a square the paper’s configuration" if reading.paper is not None else "")
        + "; cells without a figure stay white, and the mark in them says why."
        + (f" “Best over” takes the best figure over {', '.join(every)}." if every else "")
        + ("" if cell == WIDE else " Point at a cell to read its figure.")
        + arranged.left_out,
        f"Heat maps of the mean {what}{f', one for each value of {facets}' if facets else ''}; "
        + (f"the best is {briefly(metric, shade.best)}" if known else "nothing is finished")
        + f"; {reading.counts[State.DIVERGED]} configurations diverged and "
        f"{reading.counts[State.PENDING] + reading.counts[State.RUNNING]} are not finished.",
        tuple(views),
        height=120 + rows * max(150, (cell - 4) * len(arranged.y.shown)),
        least_width=130 + columns * max(150, cell * len(arranged.x.shown)),
        choice=(selector.label[:1].upper() + selector.label[1:]) or "Show",
    )


Marked = dict[tuple[str, int], list[tuple[int, int, str]]]
"""Indices of cells on both axes with a hover text, by the name of the mark and the index of the facet."""
Cells = dict[tuple[int, int], list[Point]]
"""Points by their indices on both axes; if a cell has several, it shows the best."""


@dataclass(frozen=True, slots=True)
class _Drawing:
    """Draws the views of a heat map."""

    reading: Reading
    arranged: Arrangement
    figure: str
    metric: Metric
    shade: Shade

    def facets(self, selected: int | None) -> Spec:
        """Draw a view of the points with one level of the selector, or of all for None."""
        arranged = self.arranged
        written = arranged.cell == WIDE
        by_facet = self._cells(selected)
        columns, rows = arranged.columns, arranged.rows
        across, down = spans(len(columns.shown), 0.03), spans(len(rows.shown), 0.06)[::-1]
        data: list[Spec] = []
        notes: list[Spec] = []
        axes: Spec = {}
        marked: Marked = {}
        for index, (row, column) in enumerate(product(range(len(rows.shown)), range(len(columns.shown)))):
            cells = by_facet.get((columns.shown[column], rows.shown[row]), {})
            data.append(self._heat(cells, index, written))
            for (x, y), points in cells.items():
                for mark, text in self._marks(points):
                    marked.setdefault((mark, index), []).append((x, y, text))
            end, first, last = suffix(index), column == 0, row == len(rows.shown) - 1
            axes[f"xaxis{end}"] = categories(arranged.x.texts, arranged.x.label if last else "") | {
                "domain": across[column],
                "anchor": f"y{end}",
                "showticklabels": last,
                "tickangle": 0 if written else -90,
            }
            axes[f"yaxis{end}"] = categories(arranged.y.texts, arranged.y.label if first else "") | {
                "domain": down[row],
                "anchor": f"x{end}",
                "showticklabels": first,
            }
            names = [
                f"{dimension.label} {shortened(dimension.texts[place])}"
                for dimension, place in ((columns, column), (rows, row))
                if dimension.label
            ]
            where = {"xanchor": "center", "yanchor": "bottom", "font": {"size": 12, "color": MUTED}}
            notes.append(note(" · ".join(names), sum(across[column]) / 2, down[row][1], **where))
        data += _mark_traces(marked, 1.0 if written else NARROW / WIDE)
        ticks = self.shade.ticks()
        colours = {
            "colorscale": SCALE,
            "cmin": 0,
            "cmax": 1,
            "colorbar": {
                "thickness": 12,
                "outlinewidth": 0,
                "tickmode": "array",
                "tickvals": [self.shade.of(tick) for tick in ticks],
                "ticktext": [briefly(self.metric, tick) + unit(self.metric) for tick in ticks],
            },
        }
        legend = LEGEND | {"y": 1, "yref": "container", "yanchor": "top"}
        margin = {"l": 64, "r": 16, "t": 64, "b": 56}
        return chart(data, annotations=notes, coloraxis=colours, legend=legend, margin=margin, **axes)

    def _cells(self, selected: int | None) -> dict[tuple[int, int], Cells]:
        """Group points by facet, which is a level of the columns and one of the rows, and by cell."""
        arranged = self.arranged
        facets: dict[tuple[int, int], Cells] = {}
        for point in self.reading.points:
            if selected is None or arranged.selector.level(point) == selected:
                cells = facets.setdefault((arranged.columns.level(point), arranged.rows.level(point)), {})
                cells.setdefault((arranged.x.level(point), arranged.y.level(point)), []).append(point)
        return facets

    def _heat(self, cells: Cells, index: int, written: bool) -> Spec:
        across, down = len(self.arranged.x.shown), len(self.arranged.y.shown)
        shades: list[list[float | None]] = [[None] * across for _ in range(down)]
        texts = [[""] * across for _ in range(down)]
        hovers = [[""] * across for _ in range(down)]
        for (x, y), points in cells.items():
            known = [(value, point) for point in points if (value := point.figure(self.figure)) is not None]
            if known:
                choose = max if self.metric.maximise else min
                value, point = choose(known, key=lambda entry: entry[0])
                shades[y][x] = round(self.shade.of(value), 4)
                texts[y][x] = briefly(self.metric, value)
                hovers[y][x] = self._hover(point, len(points), len(known))
        end = suffix(index)
        return {
            "type": "heatmap",
            "z": shades,
            "text": texts,
            "texttemplate": "%{text}" if written else "",
            "textfont": {"size": 11},
            "hovertext": hovers,
            "hoverinfo": "text",
            "hoverongaps": False,
            "xgap": 2 if written else 1,
            "ygap": 2 if written else 1,
            "coloraxis": "coloraxis",
            "xaxis": f"x{end}",
            "yaxis": f"y{end}",
        }

    def _hover(self, point: Point, count: int, known: int) -> str:
        lines = [plain(describe(point.configuration.params))]
        for name, metric in self.reading.compared.items():
            lines.append(plain(f"{label(name, metric)} {with_unit(metric, point.figure(name))}"))
        if count > 1:
            lines.append(f"best of {known} finished of {count}")
        return "<br>".join(lines)

    def _marks(self, points: Sequence[Point]) -> list[tuple[str, str]]:
        """List the marks of a cell with their hover texts."""
        marks = []
        configurations = {point.configuration for point in points}
        if self.reading.best in configurations:
            marks.append(("search’s best", "the search’s best"))
        if self.reading.paper in configurations:
            marks.append(("paper’s configuration", "the paper’s configuration"))
        if all(point.figure(self.figure) is None for point in points):
            # The mark shows the most frequent state.
            states = ["not started" if one.state == State.PENDING else one.state.value for one in points]
            name = max(list(MARKS)[2:], key=states.count)
            marks.append((name, plain(f"{name}: {describe(points[0].configuration.params)}")))
        return marks


def _mark_traces(marked: Marked, scale: float) -> list[Spec]:
    """Draw the marks as scatter traces: one for each facet and kind, with one legend entry for each kind."""
    traces: list[Spec] = []
    for name, marker in MARKS.items():
        colour = marker.get("color") or marker["line"]["color"]
        by_facet = {index: cells for (mark, index), cells in marked.items() if mark == name}
        for index, cells in by_facet.items():
            x, y, texts = map(list, zip(*cells, strict=True))
            traces.append(
                scatter(
                    "markers",
                    x,
                    y,
                    name=name,
                    legendgroup=name,
                    showlegend=index == next(iter(by_facet)),
                    text=texts,
                    hoverinfo="skip" if "open" in str(marker["symbol"]) and name != "failed" else "text",
                    marker=marker | {"color": colour, "size": round(scale * marker["size"], 1)},
                    xaxis=f"x{suffix(index)}",
                    yaxis=f"y{suffix(index)}",
                )
            )
    return traces
