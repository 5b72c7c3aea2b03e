"""How much each hyperparameter matters: the analysis of variance, which a complete grid allows exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pairsearch.search.report.content import Block, Figure, Notice, Spec, View
from pairsearch.search.report.drawing import BLUE, LABELS, MUTED, axis, layout, number
from pairsearch.search.report.reading import Point, Reading
from pairsearch.studies.configuration import Value

LEAST = 8
"""Finished configurations below which an importance would be noise."""
PAIRS = 4
"""Pairs that have a bar of their own, the largest."""


def section_blocks(reading: Reading) -> list[Block]:
    """The figure of importance, or why there is none, and what it was made from."""
    points = reading.finished
    varying = [name for name, values in reading.study.choices.items() if len(values) > 1]
    if len(points) < LEAST or len(varying) < 2:
        return [
            Notice(
                f"Importance: {len(points)} finished configurations over {len(varying)} varying hyperparameters; "
                f"it is shown from {LEAST} and 2."
            )
        ]
    from pairsearch.search.report.variance import complete_block, decompose  # noqa: PLC0415 - imports NumPy

    choices = reading.study.choices
    logarithmic = all(point.value is not None and point.value > 0 for point in points)
    figures = {
        tuple(point.configuration.params[name] for name in choices): _target(point, logarithmic)
        for point in points
    }
    block = complete_block(choices, figures)
    if block is None:
        return [
            Notice(
                "Importance: the analysis of variance needs a complete grid of two or more hyperparameters, and none "
                "is finished."
            )
        ]
    shares = decompose(block.cells, block.names)
    bars = sorted(((LABELS[name], share) for name, share in shares.main.items()), key=lambda bar: -bar[1])
    pairs = sorted(shares.pairs.items(), key=lambda entry: -entry[1])
    bars += [(f"{LABELS[a]} × {LABELS[b]}", share) for (a, b), share in pairs[:PAIRS]]
    if len(pairs) > PAIRS:
        bars.append((f"{len(pairs) - PAIRS} other pairs", sum(share for _, share in pairs[PAIRS:])))
    bars.append(("three and more, and noise", shares.rest))
    basis = f"The analysis of variance covers {_extent(block.cells.size, len(points), block.left_out)}."
    return [_figure(reading, bars, basis, logarithmic)]


def _target(point: Point, logarithmic: bool) -> float:
    assert point.value is not None  # noqa: S101 - `Reading.finished` leaves the others out
    return math.log10(point.value) if logarithmic else point.value


def _extent(cells: int, finished: int, left_out: Sequence[tuple[str, Value]]) -> str:
    if not left_out:
        return f"all {cells} configurations"
    levels = ", ".join(f"{LABELS[name]} {number(value)}" for name, value in left_out)
    return f"{cells} of the {finished} finished configurations: its largest complete part found, without {levels}"


def _figure(reading: Reading, bars: Sequence[tuple[str, float]], basis: str, logarithmic: bool) -> Figure:
    places = list(range(len(bars)))
    data: list[Spec] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [round(100 * share, 3) for _, share in bars],
            "y": places,
            "text": [f"{100 * share:.1f}" for _, share in bars],
            "textposition": "outside",
            "textfont": {"color": MUTED},
            "cliponaxis": False,
            "marker": {"color": BLUE},
            "hovertemplate": "%{x:.2f} %<extra></extra>",
        }
    ]
    spec = {
        "data": data,
        "layout": layout(
            bargap=0.35,
            xaxis=axis("share of variance, %", rangemode="tozero"),
            yaxis=axis(
                tickmode="array",
                tickvals=places,
                ticktext=[bar[0] for bar in bars],
                range=[len(bars) - 0.5, -0.5],
                showgrid=False,
                ticks="",
            ),
        ),
    }
    metric = reading.study.definition.metric
    target = f"the {'logarithm of the ' if logarithmic else ''}mean {metric}"
    spoken = ", ".join(f"{label} {100 * share:.1f} %" for label, share in bars[:5])
    return Figure(
        f"{reading.study.name}-importance",
        "Importance of the hyperparameters",
        f"What moves {target} over the finished configurations. {basis} A bar with × is what two hyperparameters do "
        "together beyond each alone. Analysis of variance of a balanced factorial design: Montgomery, Design and "
        "Analysis of Experiments, chapter 5.",
        f"Bar chart of the share of variance by hyperparameter: {spoken}.",
        (View("", spec),),
        height=110 + 32 * len(bars),
        least_width=560,
    )
