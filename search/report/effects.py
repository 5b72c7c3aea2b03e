"""The sections by the value of each parameter: its effect on figures, and on the time of training."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pairsearch.search.report import drawing
from pairsearch.search.report.content import Block, Figure, Notice, Section, Spec, Table, View
from pairsearch.search.report.parameters import Parameter, Places
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.fields import Field
from pairsearch.search.results.fold_figures import Point
from pairsearch.search.results.formatting import DASH, duration, figure, headed, label
from pairsearch.studies.configuration import describe
from pairsearch.studies.problem import Metric

POINTS = 300
"""The largest number of configurations whose time is drawn, for each value."""

Groups = dict[str, list[Point]]
"""Configurations by the value of a parameter, as a text; some values may have none."""


def by_value(reading: Reading, points: Iterable[Point]) -> dict[int, Groups]:
    """Group points by the values of each parameter, which is named by its index."""
    texts = [one.texts for one in reading.parameters]
    groups: dict[int, Groups] = {place: {text: [] for text in of} for place, of in enumerate(texts)}
    for point in points:
        for place, level in enumerate(reading.places[point.key]):
            groups[place][texts[place][level]].append(point)
    return groups


def section(reading: Reading) -> Section | None:
    """Compose the section; None while nothing is finished, and for a grid in which nothing varies."""
    if not reading.finished or not any(parameter.varies for parameter in reading.parameters):
        return None
    every = by_value(reading, reading.finished)
    groups = {place: of for place, of in every.items() if sum(map(bool, of.values())) > 1}
    if not groups:
        notice = Notice("No parameter has finished configurations with two of its values yet.")
        return Section("Effect of each parameter", (notice,))
    # The study's metric and one other figure.
    metric, compared = reading.study.definition.metric, reading.compared
    names = [metric, *[name for name in compared if name != metric][:1]]
    shown = {name: compared[name] for name in names}
    tables: list[Block] = [_table(reading, groups, name, metric) for name, metric in shown.items()]
    return Section("Effect of each parameter", (_figure(reading, groups, shown), *tables))


def matched(places: Mapping[str, Places], groups: Groups, place: int) -> Groups:
    """Keep only configurations whose other parameters occur with every value that has finished ones."""

    def others_of(point: Point) -> Places:
        of = places[point.key]
        return of[:place] + of[place + 1 :]

    others = {text: {others_of(one): one for one in points} for text, points in groups.items()}
    shared = sorted(set.intersection(*(set(by_others) for by_others in others.values() if by_others)))
    return {text: [known[key] for key in shared] if known else [] for text, known in others.items()}


def _values(points: Iterable[Point], name: str) -> list[float]:
    return [value for point in points if (value := point.figure(name)) is not None]


def _figure(reading: Reading, groups: dict[int, Groups], metrics: dict[str, Metric]) -> Figure:
    views, spoken = [], []
    first, first_metric = next(iter(metrics.items()))
    for place, of in groups.items():
        parameter = reading.parameters[place]
        for name, metric in metrics.items():
            what = f": {label(name, metric)}" if len(metrics) > 1 else ""
            views.append(View(f"{parameter.label}{what}", _boxes(parameter, of, name, metric)))
        bests = [
            f"{text} {figure(first_metric, _best(first_metric, _values(points, first)))}"
            for text, points in of.items()
            if points
        ]
        spoken.append(f"{parameter.label}: {', '.join(bests)}")
    return Figure(
        f"{reading.study.name}-effects",
        "Figures by the value of each parameter",
        "Boxes span the quartiles over the finished configurations with that value, whiskers reach the lowest and the "
        "highest; the line joins the best of each.",
        f"Box plots by the value of each parameter; the best {headed(first, first_metric)} of {'; '.join(spoken)}.",
        tuple(views),
        choice="Parameter",
    )


def _best(metric: Metric, values: Sequence[float]) -> float | None:
    return (max if metric.maximise else min)(values, default=None)


def _boxes(parameter: Parameter, groups: Groups, name: str, metric: Metric) -> Spec:
    every = [_values(points, name) for points in groups.values()]
    places = [place for place, values in enumerate(every) if values]
    fives = [np.quantile(every[place], (0, 0.25, 0.5, 0.75, 1)) for place in places]
    columns = np.array(fives).reshape(-1, 5).T.tolist()
    low, q1, median, q3, high = ([drawing.scaled(metric, value) for value in column] for column in columns)
    spread = drawing.box("all finished configurations", places, drawing.BLUE, width=0.5)
    spread |= {"lowerfence": low, "q1": q1, "median": median, "q3": q3, "upperfence": high}
    best = drawing.scatter(
        "lines+markers",
        places,
        high if metric.maximise else low,
        name="best",
        line={"color": drawing.VERMILLION, "width": 2},
        marker={"size": 8},
        hovertemplate="best %{y:.4g}<extra></extra>",
    )
    return drawing.chart(
        [spread, best],
        xaxis=drawing.categories(parameter.texts, parameter.label),
        yaxis=drawing.axis(headed(name, metric), **drawing.ranging(metric, columns[0])),
    )


class _Row(NamedTuple):
    parameter: str
    text: str
    finished: int
    values: list[float]
    matched: list[float]
    """Those of the matched configurations."""


def _table(reading: Reading, groups: dict[int, Groups], name: str, metric: Metric) -> Table:
    rows = []
    for place, of in groups.items():
        parameter, alike = reading.parameters[place].label, matched(reading.places, of, place)
        rows += [
            _Row(parameter, text, len(points), _values(points, name), _values(alike[text], name))
            for text, points in of.items()
        ]
    fields: list[Field[_Row]] = [
        Field("parameter", lambda row: row.parameter, right=False),
        Field("value", lambda row: row.text, right=False),
        Field("finished", lambda row: str(row.finished)),
        Field("best", lambda row: figure(metric, _best(metric, row.values))),
        Field("median", lambda row: figure(metric, statistics.median(row.values) if row.values else None)),
        Field(
            "mean, matched",
            lambda row: figure(metric, statistics.fmean(row.matched) if row.matched else None),
        ),
        Field("matched", lambda row: str(len(row.matched)) if row.finished else DASH),
    ]
    return Table.of(
        f"By the value of each parameter: {headed(name, metric)}. The last columns compare like with like: "
        "their means are over so many settings of the other parameters that are finished with every value of this one "
        "that has a finished configuration.",
        fields,
        rows,
    )


def time_section(reading: Reading) -> Section | None:
    """Compose the section on training times, by the parameter that matters most for them; None while there are none.

    Results of other programs that were loaded without times have 0 seconds.
    """
    timed = [point for point in reading.points if point.seconds]
    if not timed:
        return None
    place, groups = max(by_value(reading, timed).items(), key=lambda entry: _ratio(entry[1]))
    parameter = reading.parameters[place]
    return Section(
        "Time and cost", (_times(reading, parameter, groups), _time_boxes(reading, parameter, groups))
    )


def _ratio(groups: Groups) -> float:
    """Return the ratio of the longest to the shortest median time."""
    medians = [statistics.median(_seconds(points)) for points in groups.values() if points]
    return max(medians) / max(min(medians), 1e-6)


def _seconds(points: Iterable[Point]) -> list[float]:
    return [point.seconds or 0.0 for point in points]


def _times(reading: Reading, parameter: Parameter, groups: Groups) -> Table:
    times = {text: _seconds(points) for text, points in groups.items() if points}
    rows = [*times.items(), ("all", [seconds for of_value in times.values() for seconds in of_value])]
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
    return Table.of(caption, fields, rows)


def _time_boxes(reading: Reading, parameter: Parameter, groups: Groups) -> Figure:
    drawn = [
        (place, point)
        for place, points in enumerate(groups.values())
        for point in drawing.thinned(sorted(points, key=lambda one: one.seconds or 0.0), POINTS)
    ]
    boxes = drawing.boxes(
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
        [boxes],
        xaxis=drawing.categories(parameter.texts, parameter.label),
        yaxis=drawing.axis("seconds a configuration", rangemode="tozero"),
        showlegend=False,
    )
    left_out = drawing.thinned_note(len(drawn), sum(map(len, groups.values())), POINTS, "a value")
    medians = [
        f"{text} median {statistics.median(_seconds(points)):.1f} s"
        for text, points in groups.items()
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
