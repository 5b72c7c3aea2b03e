"""Figures of the final evaluation: box plots over the rounds by study, and figures by epoch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pairsearch.search.report.content import Figure, Spec, View
from pairsearch.search.report.curves import Lines, panels, several_epochs
from pairsearch.search.report.drawing import (
    BLUE,
    INK,
    VERMILLION,
    axis,
    boxes,
    chart,
    faded,
    from_zero,
    labelled,
    plain,
    scaled,
    scatter,
    stated_figures,
)
from pairsearch.search.report.reading import Reading
from pairsearch.search.report.rounds import BEST, PAPERS, candidates, evaluated_figures
from pairsearch.search.results.evaluations import values_of
from pairsearch.search.results.formatting import abbreviations, compact, headed, label, spread, unit
from pairsearch.studies.problem import Metric


def box_plot(readings: Sequence[Reading]) -> Figure | None:
    """Draw box plots of evaluated figures by study, a view for each figure, the most important first.

    It is None if there are no rounds.
    """
    metrics: dict[str, tuple[str, Metric]] = {}
    for reading in readings:
        for name, metric in reversed(evaluated_figures(reading).items()):
            if any(values_of(candidate.rounds, name) for candidate in candidates(reading)):
                # Different problems may have different figures of the same name.
                metrics.setdefault(headed(name, metric), (name, metric))
    if not metrics:
        return None
    having = {
        header: [reading for reading in readings if reading.study.traits.metrics.get(name) == metric]
        for header, (name, metric) in metrics.items()
    }
    views = tuple(
        View(label(name, metric), _boxes(having[header], name, metric))
        for header, (name, metric) in metrics.items()
    )
    first, (name, metric) = next(iter(metrics.items()))
    return Figure(
        "evaluation",
        "Final evaluation by study",
        "Boxes span the quartiles over the rounds, whiskers reach the furthest round within 1.5 quartile ranges, "
        "and every round is a point."
        + (
            " Where the search’s best is the paper’s configuration there is one box."
            if any(reading.paper is not None for reading in readings)
            else ""
        ),
        f"Box plot of the {first} over the rounds of the final evaluation, by study: "
        + "; ".join(_spoken(reading, name, metric) for reading in having[first]),
        views,
        height=440,
        least_width=160 + 130 * len(readings),
        choice="Figure",
    )


def _boxes(readings: Sequence[Reading], figure: str, metric: Metric) -> Spec:
    data: list[Spec] = []
    for role, colour, offset in ((BEST, BLUE, -0.2), ("paper’s configuration", VERMILLION, 0.2)):
        xs: list[float] = []
        ys: list[float] = []
        for place, reading in enumerate(readings):
            for candidate in candidates(reading):
                if (candidate.role != PAPERS) == (role == BEST):
                    values = values_of(candidate.rounds, figure)
                    xs += [place + offset] * len(values)
                    ys += [scaled(metric, value) for value in values]
        if ys:
            hover = f"%{{y:.4g}}{unit(metric)}<extra></extra>"
            data.append(boxes(role, xs, ys, colour, hovertemplate=hover))
    papers = [(place, reading.study.definition.paper) for place, reading in enumerate(readings)]
    stated = [(place, paper.figures[figure]) for place, paper in papers if paper and figure in paper.figures]
    if stated:
        places = [place + 0.42 for place, _ in stated]
        data.append(stated_figures(places, metric, [one for _, one in stated], INK))
    names = labelled([reading.study.name.upper() for reading in readings])
    return chart(
        data,
        xaxis=axis(range=[-0.5, len(readings) - 0.4], **names),
        yaxis=axis(headed(figure, metric), **from_zero(metric)),
    )


def _spoken(reading: Reading, figure: str, metric: Metric) -> str:
    found = [
        f"{candidate.role} {spread(metric, known)}{unit(metric)}"
        for candidate in candidates(reading)
        if (known := candidate.evaluated.figures.get(figure)) is not None
    ]
    return f"{reading.study.name.upper()}: {', '.join(found) or 'not evaluated'}"


def by_epoch(reading: Reading) -> Figure | None:
    """Draw the evaluated figures of a study by epoch, with a band; None without rounds of several epochs."""
    short, figures = abbreviations(reading.study.choices), evaluated_figures(reading)
    views = tuple(
        View(
            f"{candidate.role}: {compact(candidate.configuration.params, short)}",
            panels(runs, figures, _band),
        )
        for candidate in candidates(reading)
        if (runs := reading.rounds.get(candidate.configuration.key)) and several_epochs(runs)
    )
    if not views:
        return None
    name = reading.study.name
    labels = " and ".join(label(figure, metric) for figure, metric in figures.items())
    return Figure(
        f"{name}-by-epoch",
        f"{name.upper()}: {labels} by epoch",
        "Lines are means over the rounds after each epoch, bands one sample standard deviation to either side. "
        "A diverged round counts up to its last finite epoch.",
        f"Line chart of the {labels} of {name.upper()} by epoch. "
        + "; ".join(_spoken_end(view) for view in views),
        views,
        choice="Configuration",
    )


def _spoken_end(view: View) -> str:
    lines = [trace for trace in view.spec["data"] if trace.get("showlegend", True)]
    ends = ", ".join(f"{trace['name']} {trace['y'][-1]:.4g}" for trace in lines if trace["y"])
    return f"{view.label}: after the last epoch {ends}"


def _band(lines: Lines) -> list[Spec]:
    """Draw the mean over the rounds of each epoch, with a band of one standard deviation to either side."""
    found = [(epoch, values) for epoch, values in enumerate(lines.by_epoch(), start=1) if values]
    epochs = [epoch for epoch, _ in found]
    means = [statistics.fmean(values) for _, values in found]
    deviations = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in found]
    highs = [mean + std for mean, std in zip(means, deviations, strict=True)]
    lows = [mean - std for mean, std in zip(means, deviations, strict=True)]
    if lines.metric.percent and min((value for _, values in found for value in values), default=0.0) >= 0:
        lows = [max(0.0, low) for low in lows]
    name = plain(lines.label)
    return [
        scatter(
            "lines",
            [*epochs, *reversed(epochs)],
            [float(f"{value:.6g}") for value in [*highs, *reversed(lows)]],
            name=f"{name}, ± std",
            showlegend=False,
            fill="toself",
            fillcolor=faded(lines.colour, 0.15),
            line={"width": 0},
            hoverinfo="skip",
        ),
        scatter(
            "lines",
            epochs,
            [float(f"{mean:.6g}") for mean in means],
            name=name,
            line={"color": lines.colour, "width": 2.5, "dash": "dot" if lines.metric.training else "solid"},
            hovertemplate=f"{name} %{{y:.4g}}{unit(lines.metric)}<extra></extra>",
        ),
    ]
