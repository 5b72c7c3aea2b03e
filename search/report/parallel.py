"""Parallel coordinates: every finished configuration is a line through its parameters to its figure.

They are drawn as plain lines. Plotly's `parcoords` needs WebGL and generates code at run time, which the page's
Content-Security-Policy forbids.
"""

from __future__ import annotations

import math

from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, Spec, View
from pairsearch.search.report.drawing import BLUE, MUTED, SKY, VERMILLION, Shade
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.fold_figures import Point
from pairsearch.search.results.formatting import headed
from pairsearch.studies.configuration import describe

GROUPS = (
    (0.02, "best 2 %", VERMILLION, 1.0, 2.5),
    (0.10, "2 to 10 %", BLUE, 0.75, 1.4),
    (0.25, "10 to 25 %", SKY, 0.6, 1.0),
    (0.50, "25 to 50 %", MUTED, 0.35, 0.7),
    (1.00, "the other half", MUTED, 0.2, 0.6),
)
"""Groups by rank, each up to a share of the finished configurations: share, label, colour, opacity and line width."""
LINES = 100
"""The largest number of lines drawn for each group; more would merge into an area."""
LABELLED = 12
"""The largest number of values with a label beside an axis."""


def parallel_coordinates(reading: Reading) -> Figure:
    """Draw the figure of a study with at least one finished configuration."""
    points, parameters = reading.finished, reading.parameters
    metric = headed(reading.study.definition.metric, reading.study.metric)
    shade = Shade.over([point.known for point in points], reading.study.metric)
    lines = [_line(reading, point, rank / len(points), shade) for rank, point in enumerate(points)]
    data: list[Spec] = []
    start, drawn = 0, 0
    for share, label, colour, opacity, width in GROUPS:
        group = lines[start : math.ceil(share * len(points))]
        if group:
            shown = drawing.thinned(group, LINES)
            style = {"color": drawing.faded(colour, opacity), "width": width}
            data.append(drawing.joined(shown, name=f"{label} ({len(group)})", line=style))
            drawn += len(shown)
        start += len(group)
    names = drawing.labelled([*(one.label for one in parameters), metric])
    names |= {"range": [-0.12, len(parameters) + 0.12], "side": "bottom", "fixedrange": True}
    names |= {"showgrid": True, "gridcolor": MUTED, "zeroline": False}
    spec = drawing.chart(
        # The best are drawn last, on top of the others, and come first in the legend.
        data[::-1],
        xaxis=names,
        yaxis={"range": [-0.02, 1.04], "visible": False, "fixedrange": True},
        # Room for the label of the last axis: Plotly drops a label that does not fit.
        margin={"l": 64, "r": 72, "t": 48, "b": 40},
        annotations=_labels(reading, shade),
        legend=drawing.LEGEND | {"traceorder": "reversed"},
    )
    left_out = drawing.thinned_note(drawn, len(points), LINES, "each group")
    best = describe(points[0].configuration.params)
    return Figure(
        f"{reading.study.name}-parallel",
        "Parallel coordinates",
        "Every finished configuration is a line from its parameters to its figure, the best at the bottom. Within "
        "a value’s band the lines are spread by rank, the best below. Click an entry of the legend to hide or show it."
        + (f"{left_out}." if left_out else ""),
        f"Parallel coordinates of {len(points)} finished configurations; the best has {best}.",
        (View("", spec),),
        height=460,
        least_width=130 * (len(parameters) + 1),
    )


def _line(reading: Reading, point: Point, rank: float, shade: Shade) -> list[float]:
    """Return the heights in [0, 1] of a point's line: one for each parameter and one for its figure."""
    heights = [
        (place + 0.15 + 0.7 * rank) / len(parameter.levels)
        for place, parameter in zip(reading.places[point.key], reading.parameters, strict=True)
    ]
    return [round(height, 4) for height in (*heights, shade.of(point.known))]


def _labels(reading: Reading, shade: Shade) -> list[Spec]:
    """Return the labels of values beside their bands, and of figures beside the last axis."""
    places = [
        (drawing.shortened(text), place, (band + 0.5) / len(parameter.texts), "left", 4)
        for place, parameter in enumerate(reading.parameters)
        for band, text in drawing.thinned(list(enumerate(parameter.texts)), LABELLED)
    ]
    places += [
        (drawing.briefly(reading.study.metric, tick), len(reading.parameters), shade.of(tick), "right", -4)
        for tick in shade.ticks()
    ]
    common: Spec = {"xref": "x", "yref": "y", "font": {"size": 12}}
    common |= {"bgcolor": "rgba(255,255,255,0.85)", "bordercolor": drawing.RULE}
    return [
        drawing.note(text, x, y, **common, xanchor=anchor, xshift=shift)
        for text, x, y, anchor, shift in places
    ]
