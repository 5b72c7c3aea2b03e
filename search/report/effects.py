"""The section on the effect of each parameter: figures by its values, over all configurations and matched ones."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from pairsearch.search.report.content import Block, Figure, Notice, Section, Spec, Table, View
from pairsearch.search.report.drawing import (
    BLUE,
    VERMILLION,
    along,
    axis,
    box,
    chart,
    from_zero,
    logarithmic,
    scaled,
    scatter,
)
from pairsearch.search.report.parameters import Parameter, Places
from pairsearch.search.report.reading import Point, Reading, by_level
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import DASH, figure, headed, label
from pairsearch.studies.problem import Metric

Groups = list[list[Point]]
"""Finished configurations by the level of a parameter."""


def section(reading: Reading) -> Section | None:
    """Compose the section; None while nothing is finished, and for a grid in which nothing varies."""
    points = reading.finished
    varying = [place for place, parameter in enumerate(reading.parameters) if parameter.varies]
    if not points or not varying:
        return None
    groups = {place: by_level(points, reading.parameters, place) for place in varying}
    comparable = {place: levels for place, levels in groups.items() if sum(map(bool, levels)) > 1}
    if not comparable:
        notice = Notice("No parameter has finished configurations with two of its values yet.")
        return Section("Effect of each parameter", (notice,))
    shown = _figures(reading)
    tables: list[Block] = [_table(reading, comparable, name, metric) for name, metric in shown.items()]
    return Section("Effect of each parameter", (_figure(reading, comparable, shown), *tables))


def matched(groups: Groups, place: int) -> Groups:
    """Keep only configurations whose other parameters occur with every level that has finished ones."""
    others = [{_others(point.places, place): point for point in points} for points in groups if points]
    shared = set.intersection(*map(set, others))
    kept = iter([[by_others[key] for key in sorted(shared)] for by_others in others])
    return [next(kept) if points else [] for points in groups]


def _others(places: Places, place: int) -> Places:
    return places[:place] + places[place + 1 :]


def _figures(reading: Reading) -> dict[str, Metric]:
    """Choose the study's metric and one other figure."""
    metric, compared = reading.study.definition.metric, reading.compared
    names = [metric, *[name for name in compared if name != metric][:1]]
    return {name: compared[name] for name in names}


def _values(points: Sequence[Point], name: str) -> list[float]:
    return [value for point in points if (value := point.figure(name)) is not None]


def _figure(reading: Reading, groups: dict[int, Groups], metrics: dict[str, Metric]) -> Figure:
    views, spoken = [], []
    for place, found in groups.items():
        parameter = reading.parameters[place]
        for name, metric in metrics.items():
            what = f": {label(name, metric)}" if len(metrics) > 1 else ""
            views.append(View(f"{parameter.label}{what}", _boxes(parameter, found, name, metric)))
        name, metric = next(iter(metrics.items()))
        bests = [
            f"{text} {figure(metric, _best(metric, _values(points, name)))}"
            for text, points in zip(parameter.texts, found, strict=True)
            if points
        ]
        spoken.append(f"{parameter.label}: {', '.join(bests)}")
    return Figure(
        f"{reading.study.name}-effects",
        "Figures by the value of each parameter",
        "Boxes span the quartiles over the finished configurations with that value, whiskers reach the lowest and the "
        "highest; the line joins the best of each.",
        f"Box plots by the value of each parameter; the best {headed(*next(iter(metrics.items())))} of "
        f"{'; '.join(spoken)}.",
        tuple(views),
        choice="Parameter",
    )


def _best(metric: Metric, values: Sequence[float]) -> float | None:
    return (max if metric.maximise else min)(values, default=None)


def _boxes(parameter: Parameter, groups: Groups, name: str, metric: Metric) -> Spec:
    found = {
        place: values for place, points in enumerate(groups) if (values := sorted(_values(points, name)))
    }
    quartiles = {
        place: statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        for place, values in found.items()
    }

    def each(values: Sequence[float]) -> list[float]:
        return [scaled(metric, value) for value in values]

    bests = each([values[-1 if metric.maximise else 0] for values in found.values()])
    spread = box(
        "all finished configurations",
        list(found),
        BLUE,
        lowerfence=each([values[0] for values in found.values()]),
        q1=each([three[0] for three in quartiles.values()]),
        median=each([three[1] for three in quartiles.values()]),
        q3=each([three[2] for three in quartiles.values()]),
        upperfence=each([values[-1] for values in found.values()]),
        width=0.5,
    )
    best = scatter(
        "lines+markers",
        list(found),
        bests,
        name="best",
        line={"color": VERMILLION, "width": 2},
        marker={"size": 8},
        hovertemplate="best %{y:.4g}<extra></extra>",
    )
    least = [values[0] for values in found.values()]
    kind = {"type": "log"} if logarithmic(metric, least) else from_zero(metric)
    return chart([spread, best], xaxis=along(parameter), yaxis=axis(headed(name, metric), **kind))


class _Row(NamedTuple):
    parameter: str
    text: str
    finished: int
    values: list[float]
    matched: list[float]
    """Those of the matched configurations."""


def _table(reading: Reading, groups: dict[int, Groups], name: str, metric: Metric) -> Table:
    rows = [
        _Row(parameter.label, text, len(points), _values(points, name), _values(alike, name))
        for place, found in groups.items()
        for parameter in [reading.parameters[place]]
        for text, points, alike in zip(parameter.texts, found, matched(found, place), strict=True)
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
