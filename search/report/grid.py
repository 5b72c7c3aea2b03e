"""The grid itself: heat maps of mean validation loss and error over learning rate × weight decay, in facets.

Facets are batch sizes (columns) and hidden units (rows). Where the grid has an auxiliary weight, a selector shows
the best over the weights or one weight.
"""

from __future__ import annotations

from collections.abc import Sequence

from pairsearch.search.database.states import State
from pairsearch.search.report.content import Figure, Notice, Section, Spec, View
from pairsearch.search.report.drawing import (
    INK,
    LABELS,
    MUTED,
    SCALE,
    VERMILLION,
    Shade,
    categories,
    layout,
    note,
    number,
    plain,
    spans,
    suffix,
    thinned,
)
from pairsearch.search.report.importance import section_blocks as importance_blocks
from pairsearch.search.report.parallel import parallel_coordinates
from pairsearch.search.report.reading import Point, Reading
from pairsearch.search.results.formatting import per_cent
from pairsearch.studies.configuration import Configuration, Value, describe

MARKS = {
    State.DIVERGED: ("diverged", {"symbol": "x-thin", "size": 11, "line": {"width": 2, "color": VERMILLION}}),
    State.PRUNED: ("pruned", {"symbol": "line-ew", "size": 11, "line": {"width": 2, "color": MUTED}}),
    State.FAILED: (
        "failed",
        {"symbol": "triangle-up-open", "size": 11, "color": INK, "line": {"width": 1.5, "color": INK}},
    ),
    State.RUNNING: ("running", {"symbol": "circle", "size": 6, "color": MUTED}),
    State.PENDING: ("not started", {"symbol": "circle", "size": 2.5, "color": MUTED}),
}
FACETS = 6
"""At most so many batch sizes and hidden units have a column or a row of facets, and auxiliary weights a view."""
WIDE, NARROW = 48, 20
"""CSS pixels of a cell with its figure written in it, and of one that is too small for it."""
ROOM = 1200
"""CSS pixels that all facets together take from left to right, and from top to bottom; two always have room."""
FIGURES = {"val_loss": "validation loss", "val_error": "validation error"}

Choices = dict[str, tuple[Value, ...]]


def section(reading: Reading) -> Section:
    """What the search found over the grid."""
    if not reading.finished:
        return Section("The grid", (Notice(f"There is nothing to draw: {reading.ended}."),))
    return Section(
        "The grid",
        (
            heat_map(reading, "val_loss"),
            heat_map(reading, "val_error"),
            parallel_coordinates(reading),
            *importance_blocks(reading),
        ),
    )


def heat_map(reading: Reading, figure: str) -> Figure:
    """Heat maps of `val_loss` or `val_error`."""
    shown, left_out = _shown(reading)
    weights = shown.get("aux_loss_weight", ())
    known = [found for point in reading.points if (found := figure_of(point, figure)) is not None]
    shade = Shade.over(known or [0.0, 1.0], logarithmic=figure == "val_loss")
    views = [
        View(
            "best over the auxiliary weights" if weights else "",
            _facets(reading, shown, figure, shade, None),
        )
    ]
    if len(weights) > 1:
        views += [
            View(f"auxiliary weight {number(weight)}", _facets(reading, shown, figure, shade, weight))
            for weight in weights
        ]
    rows, columns = len(shown.get("hidden_units", (None,))), len(shown["batch_size"])
    rates, decays = (len(shown[name]) for name in ("learning_rate", "weight_decay"))
    cell = _cell(shown)
    name, what = reading.study.name, FIGURES[figure]
    best = min(known) if known else None
    scale = "of its logarithm " if shade.logarithmic else ""
    return Figure(
        f"{name}-{figure.replace('_', '-')}",
        f"Mean {what} over learning rate × weight decay",
        f"Means over folds after the last epoch{', in per cent' if figure == 'val_error' else ''}. Colours follow "
        f"the square root {scale}between best and worst, so that differences near the best are seen. "
        "A ring is the search’s best by the study’s metric, a square the paper’s configuration; cells without a "
        "figure stay white, and the mark in them says why."
        + (" “Best over” takes the lowest figure over the auxiliary weights." if weights else "")
        + ("" if cell == WIDE else " Point at a cell to read its figure.")
        + left_out,
        f"Heat maps of the mean {what}, one for each batch size"
        f"{' and number of hidden units' if rows > 1 else ''}; "
        + ("nothing is finished" if best is None else f"the lowest is {label(best, figure)}")
        + f"; {sum(point.state == State.DIVERGED for point in reading.points)} configurations diverged and "
        f"{sum(point.state in (State.PENDING, State.RUNNING) for point in reading.points)} are not finished.",
        tuple(views),
        height=120 + rows * max(150, (cell - 4) * decays),
        least_width=130 + columns * max(150, cell * rates),
        choice="Auxiliary weight",
    )


def figure_of(point: Point, figure: str) -> float | None:
    """The figure of a finished point."""
    if point.state != State.FINISHED:
        return None
    return point.val_loss if figure == "val_loss" else point.val_error


def label(value: float, figure: str) -> str:
    """A figure as its cell shows it."""
    return per_cent(value) if figure == "val_error" else f"{value:.3f}" if value < 100 else f"{value:.3g}"


def _shown(reading: Reading) -> tuple[Choices, str]:
    """The values that are drawn, those of the best and of the paper's configuration among them; what is said of it."""
    shown, said = dict(reading.study.choices), []
    marked = [found.params for found in (reading.best, reading.paper) if found is not None]
    across, down = (
        min(FACETS, max(2, ROOM // (NARROW * len(shown[name])))) for name in ("learning_rate", "weight_decay")
    )
    for name, room in (("batch_size", across), ("hidden_units", down), ("aux_loss_weight", FACETS)):
        values = shown.get(name, ())
        if len(values) > room:
            kept = {params[name] for params in marked if name in params}
            others = [value for value in values if value not in kept]
            kept |= set(thinned(others, room - len(kept)) if room - len(kept) > 1 else others[:1])
            shown[name] = tuple(value for value in values if value in kept)
            said.append(f"{len(shown[name])} of the {len(values)} values of the {LABELS[name]}")
    return shown, f" Drawn are {', and '.join(said)}." if said else ""


def _cell(shown: Choices) -> int:
    """CSS pixels of a cell: figures are written where all facets then have room beside each other."""
    return WIDE if WIDE * len(shown["batch_size"]) * len(shown["learning_rate"]) <= ROOM else NARROW


def _facets(reading: Reading, choices: Choices, figure: str, shade: Shade, weight: Value | None) -> Spec:
    batches, rates, decays = (choices[name] for name in ("batch_size", "learning_rate", "weight_decay"))
    hidden: Sequence[Value | None] = choices.get("hidden_units", (None,))
    written = _cell(choices) == WIDE
    by_facet, best = _cells(reading, weight), reading.best
    across, down = spans(len(batches), 0.03), spans(len(hidden), 0.06)[::-1]
    data: list[Spec] = []
    notes: list[Spec] = []
    axes: Spec = {}
    marked: dict[str, list[tuple[int, int, int, str]]] = {}
    for row, units in enumerate(hidden):
        for column, batch in enumerate(batches):
            index = row * len(batches) + column
            cells = by_facet.get((batch, units), {})
            data.append(_heat(cells, rates, decays, index, figure, shade, written))
            for (x, y), points in cells.items():
                for mark, text in _marks(best, reading.paper, points, figure):
                    marked.setdefault(mark, []).append((index, x, y, text))
            end = suffix(index)
            last = row == len(hidden) - 1
            axes[f"xaxis{end}"] = categories(rates, "learning rate" if last else "") | {
                "domain": across[column],
                "anchor": f"y{end}",
                "showticklabels": last,
                "tickangle": 0 if written else -90,
            }
            axes[f"yaxis{end}"] = categories(decays, "weight decay" if column == 0 else "") | {
                "domain": down[row],
                "anchor": f"x{end}",
                "showticklabels": column == 0,
            }
            facet = f"batch size {number(batch)}" + (f" · {units} hidden" if units is not None else "")
            notes.append(
                note(
                    facet,
                    sum(across[column]) / 2,
                    down[row][1],
                    xanchor="center",
                    yanchor="bottom",
                    font={"size": 12, "color": MUTED},
                )
            )
    data += _mark_traces(marked, 1.0 if written else NARROW / WIDE)
    ticks = shade.ticks()
    colours = {
        "colorscale": SCALE,
        "cmin": 0,
        "cmax": 1,
        "colorbar": {
            "thickness": 12,
            "outlinewidth": 0,
            "tickmode": "array",
            "tickvals": [shade.of(tick) for tick in ticks],
            "ticktext": [label(tick, figure) + (" %" if figure == "val_error" else "") for tick in ticks],
        },
    }
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top"}
    margin = {"l": 64, "r": 16, "t": 64, "b": 56}
    return {
        "data": data,
        "layout": layout(annotations=notes, coloraxis=colours, legend=legend, margin=margin, **axes),
    }


Cells = dict[tuple[int, int], list[Point]]


def _cells(reading: Reading, weight: Value | None) -> dict[tuple[Value, Value | None], Cells]:
    """The points of each facet by place of learning rate and weight decay; several where `weight` is None."""
    rates, decays = (
        {value: place for place, value in enumerate(reading.study.choices[name])}
        for name in ("learning_rate", "weight_decay")
    )
    found: dict[tuple[Value, Value | None], Cells] = {}
    for point in reading.points:
        params = point.configuration.params
        if weight is None or params["aux_loss_weight"] == weight:
            cells = found.setdefault((params["batch_size"], params.get("hidden_units")), {})
            place = (rates[params["learning_rate"]], decays[params["weight_decay"]])
            cells.setdefault(place, []).append(point)
    return found


def _heat(
    cells: Cells,
    rates: Sequence[Value],
    decays: Sequence[Value],
    index: int,
    figure: str,
    shade: Shade,
    written: bool,
) -> Spec:
    shades: list[list[float | None]] = [[None] * len(rates) for _ in decays]
    texts = [[""] * len(rates) for _ in decays]
    hovers = [[""] * len(rates) for _ in decays]
    for (x, y), points in cells.items():
        known = [(found, point) for point in points if (found := figure_of(point, figure)) is not None]
        if known:
            value, point = min(known, key=lambda entry: entry[0])
            shades[y][x] = round(shade.of(value), 4)
            texts[y][x] = label(value, figure)
            hovers[y][x] = _hover(point, len(points), len(known))
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


def _hover(point: Point, count: int, known: int) -> str:
    lines = [
        plain(describe(point.configuration.params)),
        f"validation loss {point.val_loss:.4f}" if point.val_loss is not None else "no validation loss",
        f"validation error {per_cent(point.val_error)} %",
    ]
    if count > 1:
        lines.append(f"best of {known} finished of {count}")
    return "<br>".join(lines)


def _marks(
    best: Configuration | None, paper: Configuration | None, points: Sequence[Point], figure: str
) -> list[tuple[str, str]]:
    """The marks of a cell, with their hover texts."""
    marks = []
    configurations = {point.configuration for point in points}
    if best in configurations:
        marks.append(("search’s best", "the search’s best"))
    if paper in configurations:
        marks.append(("paper’s configuration", "the paper’s configuration"))
    if all(figure_of(point, figure) is None for point in points):
        # The state that most of them share; a cell of one weight has one.
        states = [point.state for point in points]
        state = max(MARKS, key=states.count)
        name = MARKS[state][0]
        marks.append((name, plain(f"{name}: {describe(points[0].configuration.params)}")))
    return marks


def _mark_traces(marked: dict[str, list[tuple[int, int, int, str]]], scale: float) -> list[Spec]:
    """Scatter traces of the marks: one for each facet that has some, one legend entry for each kind."""
    symbols: dict[str, Spec] = {
        "search’s best": {"symbol": "circle-open", "size": 34, "line": {"width": 3, "color": VERMILLION}},
        "paper’s configuration": {"symbol": "square-open", "size": 38, "line": {"width": 2, "color": INK}},
    }
    symbols |= {name: dict(marker) for name, marker in MARKS.values()}
    traces: list[Spec] = []
    for name, marker in symbols.items():
        by_facet: dict[int, list[tuple[int, int, str]]] = {}
        for index, x, y, text in marked.get(name, []):
            by_facet.setdefault(index, []).append((x, y, text))
        for place, (index, cells) in enumerate(by_facet.items()):
            colour = marker.get("color") or marker["line"]["color"]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "legendgroup": name,
                    "showlegend": place == 0,
                    "x": [x for x, _, _ in cells],
                    "y": [y for _, y, _ in cells],
                    "text": [text for _, _, text in cells],
                    "hoverinfo": "skip" if "open" in str(marker["symbol"]) and name != "failed" else "text",
                    "marker": marker | {"color": colour, "size": round(scale * marker["size"], 1)},
                    "xaxis": f"x{suffix(index)}",
                    "yaxis": f"y{suffix(index)}",
                }
            )
    return traces
