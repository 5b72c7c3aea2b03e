"""The section on time and cost: training times by the parameter that matters most for them, and their sum."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, Section, Table, View
from pairsearch.search.report.parameters import Parameter
from pairsearch.search.report.reading import Point, Reading, by_level
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import duration
from pairsearch.studies.configuration import describe

POINTS = 300
"""The largest number of configurations that are drawn for each value."""

Groups = list[list[Point]]
"""Configurations with a training time, by the level of a parameter."""


def section(reading: Reading) -> Section | None:
    """Compose the section; None while no configuration has a training time.

    Results of other programs that were loaded without times have 0 seconds.
    """
    timed = [point for point in reading.points if point.seconds]
    if not timed:
        return None
    every = [by_level(timed, place, parameter) for place, parameter in enumerate(reading.parameters)]
    parameter, groups = max(zip(reading.parameters, every, strict=True), key=lambda entry: _ratio(entry[1]))
    return Section("Time and cost", (_table(reading, parameter, groups), _figure(reading, parameter, groups)))


def _ratio(groups: Groups) -> float:
    """Return the ratio of the longest to the shortest median time."""
    medians = [statistics.median(_seconds(points)) for points in groups if points]
    return max(medians) / max(min(medians), 1e-6)


def _seconds(points: Sequence[Point]) -> list[float]:
    return [point.seconds or 0.0 for point in points]


def _table(reading: Reading, parameter: Parameter, groups: Groups) -> Table:
    times = [(text, _seconds(points)) for text, points in zip(parameter.texts, groups, strict=True) if points]
    times.append(("all", [seconds for _, of_value in times for seconds in of_value]))
    fields: list[Field[tuple[str, list[float]]]] = [
        Field(parameter.label, lambda row: row[0], right=False),
        Field("with a result", lambda row: str(len(row[1]))),
        Field("median, s", lambda row: f"{statistics.median(row[1]):.1f}"),
        Field("shortest, s", lambda row: f"{min(row[1]):.1f}"),
        Field("longest, s", lambda row: f"{max(row[1]):.1f}"),
        Field("sum", lambda row: duration(sum(row[1]))),
    ]
    caption = (
        f"Seconds of training by configuration, its folds added up, by {parameter.label}, the parameter between whose "
        "values medians differ most."
    )
    if reading.first_result is not None and reading.last_result is not None:
        span = duration(reading.last_result - reading.first_result)
        caption += f" From the first result to the last, {span} (hours:minutes:seconds) went by."
    if rounds := [entry.seconds for entries in reading.evaluated.values() for entry in entries]:
        caption += f" The {len(rounds)} rounds of the evaluation took {duration(sum(rounds))}."
    return Table.of(caption, fields, times)


def _figure(reading: Reading, parameter: Parameter, every: Groups) -> Figure:
    groups = [drawing.thinned(sorted(points, key=lambda one: one.seconds or 0.0), POINTS) for points in every]
    drawn = [(place, point) for place, points in enumerate(groups) for point in points]
    points = drawing.boxes(
        "configurations",
        [place for place, _ in drawn],
        [round(point.seconds or 0.0, 3) for _, point in drawn],
        drawing.BLUE,
        text=[drawing.plain(describe(point.configuration.params)) for _, point in drawn],
        jitter=0.6,
        width=0.5,
        marker={"color": drawing.BLUE, "size": 4, "opacity": 0.5},
        hovertemplate="%{y:.1f} s: %{text}<extra></extra>",
    )
    spec = drawing.chart(
        [points],
        xaxis=drawing.categories(parameter.texts, parameter.label),
        yaxis=drawing.axis("seconds a configuration", rangemode="tozero"),
        showlegend=False,
    )
    left_out = drawing.thinned_note(len(drawn), sum(map(len, every)), POINTS, "a value")
    medians = [
        f"{text} median {statistics.median(_seconds(points)):.1f} s"
        for text, points in zip(parameter.texts, every, strict=True)
        if points
    ]
    return Figure(
        f"{reading.study.name}-seconds",
        f"Training time by {parameter.label}",
        "Each point is a configuration with a result, trained on all its folds."
        + (f"{left_out}, boxes too." if left_out else ""),
        f"Box plot of the seconds that configurations took, by {parameter.label}: {'; '.join(medians)}",
        (View("", spec),),
        height=360,
    )
