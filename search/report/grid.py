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
from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, Notice, Section, Spec, View
from pairsearch.search.report.drawing import INK, MUTED, VERMILLION, Shade
from pairsearch.search.report.importance import importance
from pairsearch.search.report.parallel import parallel_coordinates
from pairsearch.search.report.parameters import Parameter, Places
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.fold_figures import Point
from pairsearch.search.results.formatting import label, unit, with_unit
from pairsearch.studies.configuration import describe
from pairsearch.studies.problem import Metric

BEST, PAPERS = "search’s best", "paper’s configuration"
MARKS: dict[str, Spec] = {
    BEST: {"symbol": "circle-open", "size": 34, "line": {"width": 3, "color": VERMILLION}},
    PAPERS: {"symbol": "square-open", "size": 38, "line": {"width": 2, "color": INK}},
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

    def level(self, places: Places) -> int:
        return 0 if self.place is None else places[self.place]


def _kept(parameter: Parameter, marked: set[int], room: int) -> tuple[int, ...]:
    """Choose at most `room` levels of a parameter, including those that are marked; return their indices."""
    places = range(len(parameter.levels))
    if len(places) <= room:
        return tuple(places)
    others = [place for place in places if place not in marked]
    left = room - len(marked)
    return tuple(sorted(marked.union(drawing.thinned(others, left) if left > 1 else others[:left])))


def section(reading: Reading) -> Section:
    if not reading.finished:
        return Section("The grid", (Notice(f"There is nothing to draw: {reading.ended}."),))
    maps = [HeatMap.of(reading, name, metric).drawn() for name, metric in reading.compared.items()]
    return Section("The grid", (*maps, parallel_coordinates(reading), importance(reading)))


Cells = dict[tuple[int, int], list[Point]]
"""Points by their indices on both axes; if a cell has several, it shows the best."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A heat map of a figure, with the study's parameters assigned to its dimensions."""

    reading: Reading
    figure: str
    metric: Metric
    shade: Shade
    x: Dimension
    y: Dimension
    columns: Dimension
    rows: Dimension
    selector: Dimension
    merged: tuple[Parameter, ...]
    """Parameters without a dimension; a cell shows the best over their values."""

    @classmethod
    def of(cls, reading: Reading, figure: str, metric: Metric) -> HeatMap:
        """Arrange the parameters of a study so that the best and the paper's configuration are drawn."""
        known = list(enumerate(reading.parameters))
        axes = sorted(known, key=lambda one: (not one[1].varies, not one[1].continuous))[:2]
        others = [one for one in known if one not in axes and one[1].varies]
        whole = [
            Dimension(parameter, place, tuple(range(len(parameter.levels))))
            for place, parameter in sorted(axes)
        ]
        x, y = (*whole, Dimension())[:2]
        rooms = (*(min(FACETS, max(2, ROOM // (NARROW * len(axis.shown)))) for axis in (x, y)), FACETS)
        drawn = {reading.best, reading.paper}
        marked = [reading.places[point.key] for point in reading.points if point.configuration in drawn]
        facets = [
            Dimension(parameter, place, _kept(parameter, {places[place] for places in marked}, room))
            for (place, parameter), room in zip(others, rooms, strict=False)
        ]
        columns, rows, selector = (*facets, Dimension(), Dimension(), Dimension())[:3]
        figures = [value for point in reading.finished if (value := point.figure(figure)) is not None]
        shade = Shade.over(figures or [0.0, 1.0], metric)
        merged = tuple(parameter for _, parameter in others[len(rooms) :])
        return cls(reading, figure, metric, shade, x, y, columns, rows, selector, merged)

    @property
    def left_out(self) -> str:
        """A sentence about values that are not drawn; empty if all are."""
        parts = [
            f"{len(one.shown)} of the {len(one.parameter.levels)} values of the {one.label}"
            for one in (self.columns, self.rows, self.selector)
            if len(one.shown) < len(one.parameter.levels)
        ]
        return f" Drawn are {', and '.join(parts)}." if parts else ""

    @property
    def written(self) -> bool:
        """Whether figures are written in cells: all facets fit side by side then."""
        return WIDE * len(self.columns.shown) * len(self.x.shown) <= ROOM

    def drawn(self) -> Figure:
        reading, counts, selector, metric = self.reading, self.reading.counts, self.selector, self.metric
        every = ", ".join(one.label for one in (selector.parameter, *self.merged) if one.label)
        views = [View(f"best over {every}" if every else "", self._facets(None))]
        if selector.label:
            views += [
                View(f"{selector.label} {text}", self._facets(level))
                for level, text in zip(selector.shown, selector.texts, strict=True)
            ]
        known = any(point.figure(self.figure) is not None for point in reading.finished)
        rows, columns = len(self.rows.shown), len(self.columns.shown)
        cell = WIDE if self.written else NARROW
        what = label(self.figure, metric)
        scale = "of its logarithm " if self.shade.logarithmic else ""
        facets = " and ".join(filter(None, [self.columns.label, self.rows.label]))
        return Figure(
            f"{reading.study.name}-{drawing.slug(self.figure)}",
            f"Mean {what} over {' × '.join(filter(None, [self.x.label, self.y.label]))}",
            f"Means over folds after the last epoch{', in per cent' if metric.percent else ''}. Colours follow "
            f"the square root {scale}between best and worst, so that differences near the best are seen. "
            "A ring is the search’s best by the study’s metric"
            + (", a square the paper’s configuration" if reading.paper is not None else "")
            + "; cells without a figure stay white, and the mark in them says why."
            + (f" “Best over” takes the best figure over {every}." if every else "")
            + ("" if self.written else " Point at a cell to read its figure.")
            + self.left_out,
            f"Heat maps of the mean {what}{f', one for each value of {facets}' if facets else ''}; "
            + (f"the best is {drawing.briefly(metric, self.shade.best)}" if known else "nothing is finished")
            + f"; {counts[State.DIVERGED]} configurations diverged and "
            f"{counts[State.PENDING] + counts[State.RUNNING]} are not finished.",
            tuple(views),
            height=120 + rows * max(150, (cell - 4) * len(self.y.shown)),
            least_width=130 + columns * max(150, cell * len(self.x.shown)),
            choice=(selector.label[:1].upper() + selector.label[1:]) or "Show",
        )

    def _facets(self, selected: int | None) -> Spec:
        """Draw a view of the points with one level of the selector, or of all for None."""
        columns, rows = self.columns, self.rows
        across = drawing.spans(len(columns.shown), 0.03)
        down = drawing.spans(len(rows.shown), 0.06)[::-1]
        by_facet = self._cells(selected)
        data: list[Spec] = []
        notes: list[Spec] = []
        axes: Spec = {}
        of_facets: list[Cells] = []
        for row, column in product(range(len(rows.shown)), range(len(columns.shown))):
            index, first, last = len(of_facets), column == 0, row == len(rows.shown) - 1
            of_facets.append(by_facet.get((columns.shown[column], rows.shown[row]), {}))
            data.append(self._heat(of_facets[index]) | drawing.on(index))
            x = drawing.categories(self.x.texts, self.x.label if last else "")
            x |= {
                "domain": across[column],
                "showticklabels": last,
                "tickangle": 0 if self.written else -90,
            }
            y = drawing.categories(self.y.texts, self.y.label if first else "")
            axes |= drawing.panel(index, x, y | {"domain": down[row], "showticklabels": first})
            names = [
                f"{one.label} {drawing.shortened(one.texts[place])}"
                for one, place in ((columns, column), (rows, row))
                if one.label
            ]
            where = {"xanchor": "center", "yanchor": "bottom", "font": {"size": 12, "color": MUTED}}
            notes.append(drawing.note(" · ".join(names), sum(across[column]) / 2, down[row][1], **where))
        data += self._marks(of_facets)
        ticks = self.shade.ticks()
        bar = {
            "thickness": 12,
            "outlinewidth": 0,
            "tickmode": "array",
            "tickvals": [self.shade.of(tick) for tick in ticks],
            "ticktext": [drawing.briefly(self.metric, tick) + unit(self.metric) for tick in ticks],
        }
        return drawing.chart(
            data,
            annotations=notes,
            coloraxis={"colorscale": drawing.SCALE, "cmin": 0, "cmax": 1, "colorbar": bar},
            legend=drawing.LEGEND | {"y": 1, "yref": "container", "yanchor": "top"},
            margin={"l": 64, "r": 16, "t": 64, "b": 56},
            **axes,
        )

    def _cells(self, selected: int | None) -> dict[tuple[int, int], Cells]:
        """Group points by facet, which is a level of the columns and one of the rows, and by cell."""
        facets: dict[tuple[int, int], Cells] = {}
        for point in self.reading.points:
            places = self.reading.places[point.key]
            if selected is None or self.selector.level(places) == selected:
                cells = facets.setdefault((self.columns.level(places), self.rows.level(places)), {})
                cells.setdefault((self.x.level(places), self.y.level(places)), []).append(point)
        return facets

    def _heat(self, cells: Cells) -> Spec:
        across, down = len(self.x.shown), len(self.y.shown)
        written = self.written
        shades: list[list[float | None]] = [[None] * across for _ in range(down)]
        texts = [[""] * across for _ in range(down)]
        hovers = [[""] * across for _ in range(down)]
        for (x, y), points in cells.items():
            known = [(value, point) for point in points if (value := point.figure(self.figure)) is not None]
            if known:
                choose = max if self.metric.maximise else min
                value, point = choose(known, key=lambda entry: entry[0])
                shades[y][x] = round(self.shade.of(value), 4)
                texts[y][x] = drawing.briefly(self.metric, value)
                hovers[y][x] = self._hover(point, len(points), len(known))
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
        }

    def _hover(self, point: Point, count: int, known: int) -> str:
        lines = [describe(point.configuration.params)]
        for name, metric in self.reading.compared.items():
            lines.append(f"{label(name, metric)} {with_unit(metric, point.figure(name))}")
        if count > 1:
            lines.append(f"best of {known} finished of {count}")
        return "<br>".join(map(drawing.plain, lines))

    def _marks(self, of_facets: Sequence[Cells]) -> list[Spec]:
        """Draw the marks as scatter traces: one for each facet and kind, with one legend entry for each kind."""
        marked: dict[str, dict[int, list[tuple[int, int, str]]]] = {name: {} for name in MARKS}
        for index, cells in enumerate(of_facets):
            for (x, y), points in cells.items():
                for name, text in self._marks_of(points).items():
                    marked[name].setdefault(index, []).append((x, y, text))
        traces = []
        for name, by_facet in marked.items():
            marker = MARKS[name]
            scale = 1.0 if self.written else NARROW / WIDE
            style = {
                "color": marker.get("color") or marker["line"]["color"],
                "size": round(scale * marker["size"], 1),
            }
            for index, entries in by_facet.items():
                xs, ys, texts = map(list, zip(*entries, strict=True))
                trace = drawing.scatter(
                    "markers",
                    xs,
                    ys,
                    name=name,
                    legendgroup=name,
                    showlegend=index == next(iter(by_facet)),
                    text=texts,
                    hoverinfo="skip" if name in (BEST, PAPERS) else "text",
                    marker=marker | style,
                )
                traces.append(trace | drawing.on(index))
        return traces

    def _marks_of(self, points: Sequence[Point]) -> dict[str, str]:
        """Return hover texts of a cell by mark."""
        configurations = {point.configuration for point in points}
        marks = {
            name: f"the {name}"
            for name, one in ((BEST, self.reading.best), (PAPERS, self.reading.paper))
            if one in configurations
        }
        if all(point.figure(self.figure) is None for point in points):
            # The mark shows the most frequent state.
            states = ["not started" if one.state == State.PENDING else one.state.value for one in points]
            name = max(list(MARKS)[2:], key=states.count)
            marks[name] = drawing.plain(f"{name}: {describe(points[0].configuration.params)}")
        return marks
