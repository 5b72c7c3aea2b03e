"""The section on searching the study again: how much of the grid a search needs, and what early stopping loses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pairsearch.search.replay.searches import quantiles
from pairsearch.search.replay.simulation import LEAST, Replay, Stopping, measure_stopping, replay
from pairsearch.search.replay.stopping import RULES
from pairsearch.search.replay.targets import Needed, needed, usual_regrets
from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, Notice, Section, Spec, Table, View
from pairsearch.search.report.drawing import BLUE, GREEN, PURPLE, VERMILLION
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import DASH, figure, headed
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies.intervals import FloatArray

WORK = 48_000
"""Number of configurations in all searches with early stopping together, which takes a few seconds."""
FEWEST, MOST = 20, 100
"""Smallest and largest number of searches with early stopping."""
POINTS = 200
"""The largest number of points of a line."""


def section(reading: Reading) -> Section | None:
    """Compose the section; None while configurations are still to be trained, or if there is nothing to search."""
    name, table = reading.study.name, reading.table
    if reading.judged.provisional or len(reading.finished) < LEAST:
        return None
    if table is None:
        text = f"The study is too large to be searched again here: `pairsearch replay {name}` does it."
        return Section("Searched again", (Notice(text),))
    replays = [replay(table, "random"), replay(table, "grid")]
    count = min(max(WORK // len(table.configurations), FEWEST), MOST)
    stopped = list(measure_stopping(table, count, every=False))
    early = (_stopping(table, stopped),) if stopped else ()
    return Section("Searched again", (_regret(table, replays), _needed(table, replays), *early))


def _regret(table: StudyTable, replays: list[Replay]) -> Figure:
    random, grid = (one.course for one in replays)
    searches, trials = random.regret.shape
    budgets = np.linspace(0.0, float(random.seconds.max()), POINTS + 1)[1:]
    by_trials = np.vstack([quantiles(random.regret), grid.regret])
    by_seconds = np.vstack([quantiles(random.at_seconds(budgets)), grid.at_seconds(budgets)])
    views = (
        View("trials", _lines(table, "trials", np.arange(1.0, trials + 1), by_trials)),
        View(
            "seconds of training",
            _lines(table, "seconds of training, one after the other", budgets, by_seconds),
        ),
    )
    return Figure(
        f"{table.name}-regret",
        "How far off the choice is, after so much of the grid",
        f"Regret: how much worse than the best of all {len(table.configurations)} finished configurations the chosen "
        f"one is, by its mean over folds. The line is the median of {searches} searches in random order, the band "
        "holds 90 % of them. Nothing was trained for it: the answers are those of the table. "
        f"`pairsearch replay {table.name}` has Optuna's samplers too.",
        "Line chart of the regret by trials or by seconds of training.",
        views,
        choice="Against",
    )


def _lines(table: StudyTable, title: str, along: FloatArray, regrets_4B: FloatArray) -> Spec:
    """Draw the three quantiles of searches in random order, and the search in the study's own."""
    places = drawing.thinned(range(len(along)), POINTS)
    x = [float(f"{along[place]:.5g}") for place in places]
    low, middle, high, grid = (
        [drawing.scaled(table.metric, float(row[one])) if np.isfinite(row[one]) else None for one in places]
        for row in regrets_4B
    )

    def line(y: Sequence[float | None], width: float, **more: Any) -> Spec:
        style = {"width": width, "shape": "hv"} | more.pop("line", {})
        return drawing.scatter("lines", x, y, line=style, **more)

    band: Spec = {"fill": "tonexty", "fillcolor": drawing.faded(BLUE, 0.2), "hoverinfo": "skip"}
    return drawing.chart(
        [
            line(low, width=0, showlegend=False, hoverinfo="skip"),
            line(high, width=0, name="random order, 90 %", **band),
            line(middle, width=2.5, name="random order, median", line={"color": BLUE}),
            line(grid, width=1.5, name="the study's own order", line={"color": VERMILLION}),
        ],
        xaxis=drawing.axis(title),
        yaxis=drawing.axis(f"regret, {headed(table.definition.metric, table.metric)}", rangemode="tozero"),
    )


def _needed(table: StudyTable, replays: list[Replay]) -> Table:
    order = {"random": "random order", "grid": "the study's own"}
    fields: list[Field[Needed]] = [
        Field("order", lambda one: order[one.replay.sampler], right=False),
        Field("regret at most", lambda one: figure(table.metric, one.regret)),
        Field("trials, half of the searches", lambda one: f"{one.trials[1]:.0f}"),
        Field("of the grid, %", lambda one: f"{100 * one.trials[1] / len(table.configurations):.1f}"),
        Field("trials, 95 %", lambda one: f"{one.trials[2]:.0f}" if one.replay.searches > 1 else DASH),
        Field("seconds, half", lambda one: f"{one.seconds[1]:.0f}"),
    ]
    return Table.of(
        "How much of the grid had to be seen until the choice was so close to the best: not at all away, half a "
        "standard error of the best's mean over folds, and one.",
        fields,
        needed(replays, usual_regrets(table)),
    )


def _stopping(table: StudyTable, stoppings: list[Stopping]) -> Figure:
    colours = dict(zip(RULES, (VERMILLION, PURPLE, GREEN, BLUE), strict=True))
    points = [
        drawing.scatter(
            "markers",
            [round(100 * one.saved, 2)],
            [round(100 * one.lost, 2)],
            name=drawing.plain(f"{one.pruner} ({RULES[one.pruner].what} {one.setting:g})"),
            error_y=drawing.whiskers(
                [round(100 * (one.interval[1] - one.lost), 2)], [round(100 * (one.lost - one.interval[0]), 2)]
            ),
            marker={"color": colours[one.pruner], "size": 10},
            hovertemplate=f"{one.pruner}: %{{x}} % saved, best lost in %{{y}} %<extra></extra>",
        )
        for one in stoppings
    ]
    spec = drawing.chart(
        points,
        xaxis=drawing.axis("training saved, %", range=[0, 100]),
        yaxis=drawing.axis("best lost, %", range=[-4, 104]),
    )
    return Figure(
        f"{table.name}-stopping",
        "What stopping early saves, and how often it loses the best",
        f"Over {stoppings[0].searches} random orders of the configurations and of their folds: the share of the "
        "seconds of training that each rule saves, and the share of orders in which it stops the best of the table, "
        "with its 95 % interval. Median and hyperband look at mean curves after epochs, Wilcoxon and race at folds one "
        "after the other. On this table an order is lost where the best of all folds is not trained to its end.",
        "Scatter chart of the share of searches that lose the best by the share of training saved: "
        + "; ".join(f"{one.pruner} {100 * one.saved:.0f} %, {100 * one.lost:.0f} %" for one in stoppings),
        (View("", spec),),
        height=380,
    )
