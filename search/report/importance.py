"""The importance of each parameter, by an analysis of variance, which is exact on a complete grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pairsearch.search.report.content import Block, Figure, Notice, View
from pairsearch.search.report.drawing import BLUE, MUTED, axis, chart, labelled
from pairsearch.search.report.parameters import Level, Parameter, number, parameters_of, places_of
from pairsearch.search.report.reading import Point, Reading
from pairsearch.search.results.formatting import label, words

LEAST = 8
"""With fewer finished configurations, importance would be noise."""
PAIRS = 4
"""Number of pairs with a bar of their own, the largest ones."""


def section_blocks(reading: Reading) -> list[Block]:
    """Return the figure of importance, or a notice why there is none."""
    parameters, points, where = _largest_grid(reading)
    varying = [parameter for parameter in parameters if parameter.varies]
    if len(points) < LEAST or len(varying) < 2:
        return [
            Notice(
                f"Importance: {len(points)} finished configurations over {len(varying)} varying parameters{where}; "
                f"it is shown from {LEAST} and 2."
            )
        ]
    from pairsearch.search.report.variance import complete_block, decompose  # noqa: PLC0415 - imports NumPy

    logarithmic = not reading.study.metric.maximise and all(point.known > 0 for point in points)
    places = places_of(parameters, (point.configuration for point in points))
    figures = {
        found: math.log10(point.known) if logarithmic else point.known
        for found, point in zip(places, points, strict=True)
        if found is not None
    }
    block = complete_block({parameter.name: parameter.levels for parameter in parameters}, figures)
    if block is None:
        return [
            Notice(
                f"Importance: the analysis of variance needs a complete grid of two or more parameters, and none is "
                f"finished{where}."
            )
        ]
    shares = decompose(block.cells, block.names)
    bars = sorted(((words(name), share) for name, share in shares.main.items()), key=lambda bar: -bar[1])
    pairs = sorted(shares.pairs.items(), key=lambda entry: -entry[1])
    bars += [(f"{words(a)} × {words(b)}", share) for (a, b), share in pairs[:PAIRS]]
    if len(pairs) > PAIRS:
        bars.append((f"{len(pairs) - PAIRS} other pairs", sum(share for _, share in pairs[PAIRS:])))
    bars.append(("three and more, and noise", shares.rest))
    basis = (
        f"The analysis of variance covers {_extent(block.cells.size, len(points), block.left_out)}{where}."
    )
    return [_figure(reading, bars, basis, logarithmic)]


def _largest_grid(reading: Reading) -> tuple[tuple[Parameter, ...], list[Point], str]:
    """Return the parameters of the largest grid of a union, the finished points in it, and a text that names the grid.

    Points of other grids have other parameters, or would make the grid incomplete.
    """
    tables = reading.study.definition.grid.root
    if len(tables) == 1:
        return reading.parameters, reading.finished, ""
    table = max(tables, key=lambda table: math.prod(map(len, table.values())))
    parameters = parameters_of(table, ())
    places = places_of(parameters, (point.configuration for point in reading.finished))
    points = [
        point
        for point, found in zip(reading.finished, places, strict=True)
        if found is not None and point.configuration.params.keys() == table.keys()
    ]
    place = 1 + tables.index(table)
    return parameters, points, f" of grid {place}, the largest of {len(tables)}"


def _extent(cells: int, finished: int, left_out: Sequence[tuple[str, Level]]) -> str:
    if not left_out:
        return f"all {cells} configurations"
    levels = ", ".join(f"{words(name)} {number(level)}" for name, level in left_out)
    return f"{cells} of the {finished} finished configurations: its largest complete part found, without {levels}"


def _figure(reading: Reading, bars: Sequence[tuple[str, float]], basis: str, logarithmic: bool) -> Figure:
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [round(100 * share, 3) for _, share in bars],
        "y": list(range(len(bars))),
        "text": [f"{100 * share:.1f}" for _, share in bars],
        "textposition": "outside",
        "textfont": {"color": MUTED},
        "cliponaxis": False,
        "marker": {"color": BLUE},
        "hovertemplate": "%{x:.2f} %<extra></extra>",
    }
    names = labelled([name for name, _ in bars])
    spec = chart(
        [bar],
        bargap=0.35,
        xaxis=axis("share of variance, %", rangemode="tozero"),
        yaxis=axis(range=[len(bars) - 0.5, -0.5], ticks="", **names),
    )
    metric = label(reading.study.definition.metric, reading.study.metric)
    target = f"the {'logarithm of the ' if logarithmic else ''}mean {metric}"
    spoken = ", ".join(f"{name} {100 * share:.1f} %" for name, share in bars[:5])
    return Figure(
        f"{reading.study.name}-importance",
        "Importance of the parameters",
        f"What moves {target} over the finished configurations. {basis} A bar with × is what two parameters do "
        "together beyond each alone. Analysis of variance of a balanced factorial design: Montgomery, Design and "
        "Analysis of Experiments, chapter 5.",
        f"Bar chart of the share of variance by parameter: {spoken}.",
        (View("", spec),),
        height=110 + 32 * len(bars),
        least_width=560,
    )
