"""The section on the effect of each parameter: figures by its values, over all configurations and matched ones."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pairsearch.search.report import drawing
from pairsearch.search.report.content import Block, Figure, Notice, Section, Spec, Table, View
from pairsearch.search.report.parameters import Parameter, Places
from pairsearch.search.report.reading import Point, Reading, by_level
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import DASH, figure, headed, label
from pairsearch.studies.problem import Metric

Groups = list[list[Point]]
"""Finished configurations by the level of a parameter."""


def section(reading: Reading) -> Section | None:
    """Compose the section; None while nothing is finished, and for a grid in which nothing varies."""
    groups = {
        place: by_level(reading.finished, place, parameter)
        for place, parameter in enumerate(reading.parameters)
        if parameter.varies
    }
    if not reading.finished or not groups:
        return None
    groups = {place: levels for place, levels in groups.items() if sum(map(bool, levels)) > 1}
    if not groups:
        notice = Notice("No parameter has finished configurations with two of its values yet.")
        return Section("Effect of each parameter", (notice,))
    # The study's metric and one other figure.
    metric, compared = reading.study.definition.metric, reading.compared
    names = [metric, *[name for name in compared if name != metric][:1]]
    shown = {name: compared[name] for name in names}
    tables: list[Block] = [_table(reading, groups, name, metric) for name, metric in shown.items()]
    return Section("Effect of each parameter", (_figure(reading, groups, shown), *tables))


def matched(groups: Groups, place: int) -> Groups:
    """Keep only configurations whose other parameters occur with every level that has finished ones."""
    others = [{_others(point.places, place): point for point in points} for points in groups]
    shared = sorted(set.intersection(*(set(by_others) for by_others in others if by_others)))
    return [[by_others[key] for key in shared] if by_others else [] for by_others in others]


def _others(places: Places, place: int) -> Places:
    return places[:place] + places[place + 1 :]


def _values(points: Sequence[Point], name: str) -> list[float]:
    return [value for point in points if (value := point.figure(name)) is not None]


def _figure(reading: Reading, groups: dict[int, Groups], metrics: dict[str, Metric]) -> Figure:
    views, spoken = [], []
    first, first_metric = next(iter(metrics.items()))
    for place, levels in groups.items():
        parameter = reading.parameters[place]
        for name, metric in metrics.items():
            what = f": {label(name, metric)}" if len(metrics) > 1 else ""
            views.append(View(f"{parameter.label}{what}", _boxes(parameter, levels, name, metric)))
        bests = [
            f"{text} {figure(first_metric, _best(first_metric, _values(points, first)))}"
            for text, points in zip(parameter.texts, levels, strict=True)
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
    levels = {place: values for place, points in enumerate(groups) if (values := _values(points, name))}
    fives = [np.quantile(values, (0, 0.25, 0.5, 0.75, 1)) for values in levels.values()]
    columns = np.array(fives).reshape(-1, 5).T.tolist()
    low, q1, median, q3, high = ([drawing.scaled(metric, value) for value in column] for column in columns)
    spread = drawing.box("all finished configurations", list(levels), drawing.BLUE, width=0.5)
    spread |= {"lowerfence": low, "q1": q1, "median": median, "q3": q3, "upperfence": high}
    best = drawing.scatter(
        "lines+markers",
        list(levels),
        high if metric.maximise else low,
        name="best",
        line={"color": drawing.VERMILLION, "width": 2},
        marker={"size": 8},
        hovertemplate="best %{y:.4g}<extra></extra>",
    )
    kind = {"type": "log"} if drawing.logarithmic(metric, columns[0]) else drawing.from_zero(metric)
    return drawing.chart(
        [spread, best],
        xaxis=drawing.categories(parameter.texts, parameter.label),
        yaxis=drawing.axis(headed(name, metric), **kind),
    )


class _Row(NamedTuple):
    parameter: str
    text: str
    finished: int
    values: list[float]
    matched: list[float]
    """Those of the matched configurations."""


def _table(reading: Reading, groups: dict[int, Groups], name: str, metric: Metric) -> Table:
    rows = [
        _Row(reading.parameters[place].label, text, len(points), _values(points, name), _values(alike, name))
        for place, levels in groups.items()
        for text, points, alike in zip(
            reading.parameters[place].texts, levels, matched(levels, place), strict=True
        )
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
