"""What the weight of the auxiliary loss does (paper, section 4: "performances improved when increasing" it)."""

from __future__ import annotations

import statistics

from pairsearch.search.report.content import Block, Figure, Notice, Section, Spec, Table, View
from pairsearch.search.report.drawing import (
    BLUE,
    VERMILLION,
    axis,
    categories,
    faded,
    layout,
    number,
    thinned,
)
from pairsearch.search.report.reading import Point, Reading
from pairsearch.search.results.formatting import per_cent
from pairsearch.studies.configuration import Value

POINTS = 300
"""Configurations with a weight that a box is drawn from."""


def section(reading: Reading) -> Section | None:
    """The section, None for a grid without auxiliary weights."""
    weights = sorted(reading.study.choices.get("aux_loss_weight", ()))
    if not weights:
        return None
    groups = {
        weight: [
            point for point in reading.finished if point.configuration.params["aux_loss_weight"] == weight
        ]
        for weight in weights
    }
    blocks: tuple[Block, ...]
    if len(weights) < 2 or not all(groups.values()):
        blocks = (Notice("Not every auxiliary weight has a finished configuration yet."),)
    else:
        blocks = (_figure(reading, groups), _table(groups))
    return Section("Effect of the auxiliary weight", blocks)


def matched(groups: dict[Value, list[Point]]) -> dict[Value, list[Point]]:
    """Only the configurations whose other hyperparameters are finished with every weight."""
    others = {weight: {_others(point): point for point in points} for weight, points in groups.items()}
    shared = set.intersection(*(set(found) for found in others.values()))
    return {weight: [found[key] for key in sorted(shared)] for weight, found in others.items()}


def _others(point: Point) -> tuple[Value, ...]:
    return tuple(v for name, v in point.configuration.params.items() if name != "aux_loss_weight")


def _errors(points: list[Point]) -> list[float]:
    return [point.val_error for point in points if point.val_error is not None]


def _losses(points: list[Point]) -> list[float]:
    return [point.val_loss for point in points if point.val_loss is not None]


def _figure(reading: Reading, groups: dict[Value, list[Point]]) -> Figure:
    views = []
    for label, title, scale, values in (
        ("validation error", "validation error, %", 100.0, {w: _errors(p) for w, p in groups.items()}),
        ("validation loss", "validation loss", 1.0, {w: _losses(p) for w, p in groups.items()}),
    ):
        weights = [weight for weight in groups if values[weight]]
        drawn = {weight: thinned(sorted(values[weight]), POINTS) for weight in weights}
        data: list[Spec] = [
            {
                "type": "box",
                "name": "all finished configurations",
                "x": [place for place, weight in enumerate(weights) for _ in drawn[weight]],
                "y": [round(scale * value, 5) for weight in weights for value in drawn[weight]],
                "marker": {"color": BLUE, "size": 4, "opacity": 0.5},
                "line": {"color": BLUE, "width": 1.5},
                "fillcolor": faded(BLUE, 0.12),
                "width": 0.5,
                "hoverinfo": "y",
            },
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "lowest",
                "x": list(range(len(weights))),
                "y": [round(scale * min(values[weight]), 5) for weight in weights],
                "line": {"color": VERMILLION, "width": 2},
                "marker": {"size": 8},
                "hovertemplate": "lowest %{y:.4g}<extra></extra>",
            },
        ]
        vertical = axis(title, type="log") if label == "validation loss" else axis(title, rangemode="tozero")
        across = categories(weights, "weight of the auxiliary loss")
        views.append(View(label, {"data": data, "layout": layout(xaxis=across, yaxis=vertical)}))
    spoken = "; ".join(
        f"weight {number(weight)}: lowest {per_cent(min(_errors(points), default=None))} %"
        for weight, points in groups.items()
    )
    return Figure(
        f"{reading.study.name}-auxiliary-weight",
        "Validation figures by auxiliary weight",
        "Boxes span the quartiles over the finished configurations with that weight; the line joins the lowest of "
        "each. The validation loss is the main loss alone, without the auxiliary term."
        + (
            f" Boxes of more than {POINTS} are drawn from {POINTS} of them, evenly by rank."
            if max(map(len, groups.values())) > POINTS
            else ""
        ),
        f"Box plot of the validation error by auxiliary weight. {spoken}.",
        tuple(views),
        choice="Figure",
    )


def _table(groups: dict[Value, list[Point]]) -> Table:
    pairs = matched(groups)
    rows = []
    for weight, points in groups.items():
        errors, both = _errors(points), _errors(pairs[weight])
        rows.append(
            (
                number(weight),
                str(len(points)),
                per_cent(min(errors, default=None)),
                per_cent(statistics.median(errors) if errors else None),
                per_cent(statistics.fmean(both) if both else None),
            )
        )
    return Table(
        f"Validation error in % by auxiliary weight. The last column compares like with like: its means are over the "
        f"{len(next(iter(pairs.values())))} settings of the other hyperparameters that are finished with every weight.",
        ("weight", "finished", "lowest", "median", "mean, matched"),
        tuple(rows),
    )
