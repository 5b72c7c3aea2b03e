"""Time and cost: how long configurations took, by batch size, and what the study cost in all."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pairsearch.search.report.content import Figure, Section, Spec, Table, View
from pairsearch.search.report.drawing import BLUE, axis, categories, faded, layout, number, plain, thinned
from pairsearch.search.report.reading import Point, Reading
from pairsearch.search.results.formatting import duration
from pairsearch.studies.configuration import Value, describe

POINTS = 300
"""Configurations of a batch size that are drawn."""


def section(reading: Reading) -> Section | None:
    """The section, None while nothing has a time."""
    timed = [point for point in reading.points if point.seconds is not None]
    if not timed:
        return None
    groups = {
        batch: [point for point in timed if point.configuration.params["batch_size"] == batch]
        for batch in reading.study.choices["batch_size"]
    }
    return Section("Time and cost", (_table(reading, groups), _figure(reading, groups)))


def _seconds(points: Sequence[Point]) -> list[float]:
    return [point.seconds for point in points if point.seconds is not None]


def _row(label: str, points: list[Point]) -> tuple[str, ...]:
    seconds = _seconds(points)
    return (
        label,
        str(len(seconds)),
        f"{statistics.median(seconds):.1f}",
        f"{min(seconds):.1f}",
        f"{max(seconds):.1f}",
        duration(sum(seconds)),
    )


def _table(reading: Reading, groups: dict[Value, list[Point]]) -> Table:
    rows = [_row(number(batch), points) for batch, points in groups.items() if points]
    every = [point for points in groups.values() for point in points]
    rows.append(_row("all", every))
    rounds = [entry.seconds for entries in reading.evaluated.values() for entry in entries]
    between = ""
    if reading.first_result is not None and reading.last_result is not None:
        span = reading.last_result - reading.first_result
        between = f" From the first result to the last, {duration(span)} (hours:minutes:seconds) went by."
    evaluation = (
        f" The {len(rounds)} rounds of the evaluation took {duration(sum(rounds))}." if rounds else ""
    )
    return Table(
        f"Seconds of training by configuration, all folds, by batch size; one worker each.{between}{evaluation}",
        ("batch size", "with a result", "median, s", "shortest, s", "longest, s", "sum"),
        tuple(rows),
    )


def _figure(reading: Reading, every: dict[Value, list[Point]]) -> Figure:
    batches = list(every)
    groups = {
        batch: thinned(sorted(points, key=lambda point: point.seconds or 0.0), POINTS)
        for batch, points in every.items()
    }
    drawn, count = (sum(map(len, found.values())) for found in (groups, every))
    spec: Spec = {
        "data": [
            {
                "type": "box",
                "name": "configurations",
                "x": [place for place, batch in enumerate(batches) for _ in groups[batch]],
                "y": [round(s, 3) for batch in batches for s in _seconds(groups[batch])],
                "text": [plain(describe(p.configuration.params)) for batch in batches for p in groups[batch]],
                "boxpoints": "all",
                "jitter": 0.6,
                "pointpos": 0,
                "width": 0.5,
                "marker": {"color": BLUE, "size": 4, "opacity": 0.5},
                "line": {"color": BLUE, "width": 1.5},
                "fillcolor": faded(BLUE, 0.12),
                "hovertemplate": "%{y:.1f} s: %{text}<extra></extra>",
            }
        ],
        "layout": layout(
            xaxis=categories(batches, "batch size"),
            yaxis=axis("seconds a configuration", rangemode="tozero"),
            showlegend=False,
        ),
    }
    return Figure(
        f"{reading.study.name}-seconds",
        "Training time by batch size",
        "Each point is a configuration with a result, trained on all its folds."
        + (
            f" Drawn are {drawn:,} of the {count:,}, at most {POINTS} of a batch size, evenly by rank, boxes too."
            if drawn < count
            else ""
        ),
        "Box plot of the seconds that configurations took, by batch size: "
        + "; ".join(
            f"batch size {number(batch)} median {statistics.median(_seconds(points)):.1f} s"
            for batch, points in every.items()
            if points
        ),
        (View("", spec),),
        height=360,
    )
