"""The evaluated configurations of Table 1, in box plots over the rounds by study, and in figures by epoch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, Spec, View
from pairsearch.search.report.curves import Lines, panels, several_epochs
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.evaluations import Evaluated, Round, evaluated, shown_figures, values_of
from pairsearch.search.results.formatting import abbreviations, compact, headed, label, spread, unit
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Metric

BEST, PAPERS, BOTH = "search’s best", "paper’s", "both"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration of Table 1."""

    role: str
    """`BEST`, `PAPERS` or `BOTH`."""
    configuration: Configuration
    rounds: tuple[Round, ...]
    evaluated: Evaluated

    @property
    def papers(self) -> bool:
        return self.role != BEST

    @property
    def which(self) -> str:
        """How sentences name the configuration."""
        return "the best and the paper’s" if self.role == BOTH else f"the {self.role}"


def candidates(reading: Reading) -> list[Candidate]:
    """Return the search's best configuration and the paper's, once if they are the same, as far as they exist."""
    best, paper = reading.best, reading.paper
    roles = {best: BEST} | {paper: BOTH if paper == best else PAPERS}
    rounds = {one: reading.evaluated.get(one.key, ()) for one in roles if one is not None}
    return [
        Candidate(roles[one], one, of, evaluated(reading.study, one.key, of)) for one, of in rounds.items()
    ]


def evaluated_figures(reading: Reading) -> dict[str, Metric]:
    """Return the figures of rounds that tables show, the most important last."""
    rounds = [entry for entries in reading.evaluated.values() for entry in entries]
    return {name: reading.study.traits.metrics[name] for name in shown_figures(reading.study, rounds)}


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
    having = [
        [reading for reading in readings if reading.study.traits.metrics.get(name) == metric]
        for name, metric in metrics.values()
    ]
    first, (name, metric) = next(iter(metrics.items()))
    one_box = " Where the search’s best is the paper’s configuration there is one box."
    return Figure(
        "evaluation",
        "Final evaluation by study",
        "Boxes span the quartiles over the rounds, whiskers reach the furthest round within 1.5 quartile ranges, "
        "and every round is a point."
        + (one_box if any(reading.paper is not None for reading in readings) else ""),
        f"Box plot of the {first} over the rounds of the final evaluation, by study: "
        + "; ".join(_spoken(reading, name, metric) for reading in having[0]),
        tuple(View(label(*one), _boxes(of, *one)) for one, of in zip(metrics.values(), having, strict=True)),
        height=440,
        least_width=160 + 130 * len(readings),
        choice="Figure",
    )


def _boxes(readings: Sequence[Reading], figure: str, metric: Metric) -> Spec:
    data: list[Spec] = []
    for role, papers, colour, offset in (
        (BEST, False, drawing.BLUE, -0.2),
        ("paper’s configuration", True, drawing.VERMILLION, 0.2),
    ):
        points = [
            (place + offset, drawing.scaled(metric, value))
            for place, reading in enumerate(readings)
            for candidate in candidates(reading)
            if (candidate.role == PAPERS) == papers
            for value in values_of(candidate.rounds, figure)
        ]
        if points:
            xs, ys = map(list, zip(*points, strict=True))
            hover = f"%{{y:.4g}}{unit(metric)}<extra></extra>"
            data.append(drawing.boxes(role, xs, ys, colour, hovertemplate=hover))
    stated = {
        place + 0.42: paper.figures[figure]
        for place, reading in enumerate(readings)
        if (paper := reading.study.definition.paper) is not None and figure in paper.figures
    }
    if stated:
        data.append(drawing.stated_figures(list(stated), metric, list(stated.values()), drawing.INK))
    names = drawing.labelled([reading.study.name.upper() for reading in readings])
    return drawing.chart(
        data,
        xaxis=drawing.axis(range=[-0.5, len(readings) - 0.4], **names),
        yaxis=drawing.axis(headed(figure, metric), **drawing.from_zero(metric)),
    )


def _spoken(reading: Reading, figure: str, metric: Metric) -> str:
    known = [
        f"{candidate.role} {spread(metric, of_rounds)}{unit(metric)}"
        for candidate in candidates(reading)
        if (of_rounds := candidate.evaluated.figures.get(figure)) is not None
    ]
    return f"{reading.study.name.upper()}: {', '.join(known) or 'not evaluated'}"


def by_epoch(reading: Reading) -> Figure | None:
    """Draw the evaluated figures of a study by epoch, with a band; None without rounds of several epochs."""
    short, figures = abbreviations(reading.study.choices), evaluated_figures(reading)
    views = tuple(
        View(f"{one.role}: {compact(one.configuration.params, short)}", panels(runs, figures, _band))
        for one in candidates(reading)
        if (runs := reading.rounds.get(one.configuration.key)) and several_epochs(runs)
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
        f"Line chart of the {labels} of {name.upper()} by epoch. {'; '.join(map(_spoken_end, views))}",
        views,
        choice="Configuration",
    )


def _spoken_end(view: View) -> str:
    lines = [trace for trace in view.spec["data"] if trace.get("showlegend", True)]
    ends = ", ".join(f"{trace['name']} {trace['y'][-1]:.4g}" for trace in lines if trace["y"])
    return f"{view.label}: after the last epoch {ends}"


def _band(lines: Lines) -> list[Spec]:
    """Draw the mean over the rounds of each epoch, with a band of one standard deviation to either side."""
    known = {epoch: values for epoch, values in enumerate(lines.by_epoch(), start=1) if values}
    spreads = [
        (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
        for values in known.values()
    ]
    # The band of fractions does not reach below zero.
    least = 0.0 if lines.metric.percent and min(map(min, known.values()), default=0.0) >= 0 else -math.inf
    highs = [mean + std for mean, std in spreads]
    lows = [max(least, mean - std) for mean, std in spreads]
    name, epochs = drawing.plain(lines.label), list(known)
    band = drawing.scatter(
        "lines",
        [*epochs, *reversed(epochs)],
        [float(f"{value:.6g}") for value in [*highs, *reversed(lows)]],
        name=f"{name}, ± std",
        showlegend=False,
        fill="toself",
        fillcolor=drawing.faded(lines.colour, 0.15),
        line={"width": 0},
        hoverinfo="skip",
    )
    line = drawing.scatter(
        "lines",
        epochs,
        [float(f"{mean:.6g}") for mean, _ in spreads],
        name=name,
        line={"color": lines.colour, "width": 2.5, "dash": "dot" if lines.metric.training else "solid"},
        hovertemplate=f"{name} %{{y:.4g}}{unit(lines.metric)}<extra></extra>",
    )
    return [band, line]
