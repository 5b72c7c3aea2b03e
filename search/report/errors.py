"""Figures of the final evaluation: test errors by model (the paper's figure 5), errors by epoch (6 to 9)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pairsearch.search.report.content import Figure, Spec, View
from pairsearch.search.report.drawing import BLUE, INK, VERMILLION, axis, faded, layout, plain
from pairsearch.search.report.reading import Curve, Reading, Round
from pairsearch.search.report.rounds import Estimate, candidates, compact, test_errors

PAPER_FIGURES = {"b1": 6, "b2": 7, "ws": 8, "wsal": 9}
"""The paper's figure of errors by epoch, by architecture."""


def box_plot(readings: Sequence[Reading]) -> Figure:
    """The paper's figure 5: test errors over the rounds, by model, with the paper's own beside them."""
    data: list[Spec] = []
    places = {reading.study.name: place for place, reading in enumerate(readings)}
    for role, colour, offset in (("search’s best", BLUE, -0.2), ("paper’s configuration", VERMILLION, 0.2)):
        xs: list[float] = []
        ys: list[float] = []
        for reading in readings:
            for candidate in candidates(reading):
                ours = candidate.role != "paper’s"
                if ours != (role == "search’s best"):
                    continue
                found = test_errors(candidate.rounds)
                xs += [places[reading.study.name] + offset] * len(found)
                ys += [100 * error for error in found]
        if ys:
            data.append(
                {
                    "type": "box",
                    "name": role,
                    "x": xs,
                    "y": ys,
                    "width": 0.3,
                    "boxpoints": "all",
                    "jitter": 0.4,
                    "pointpos": 0,
                    "marker": {"color": colour, "size": 5, "opacity": 0.65},
                    "line": {"color": colour, "width": 1.5},
                    "fillcolor": faded(colour, 0.12),
                    "hovertemplate": "%{y:.2f} %<extra></extra>",
                }
            )
    stated = [(places[r.study.name], r.study.definition.paper) for r in readings]
    known = [(place, paper) for place, paper in stated if paper is not None]
    if known:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "the paper’s figure, mean ± std",
                "x": [place + 0.42 for place, _ in known],
                "y": [paper.test_error for _, paper in known],
                "error_y": {"type": "data", "array": [paper.test_std for _, paper in known], "color": INK},
                "marker": {"symbol": "diamond", "color": INK, "size": 8},
                "hovertemplate": "paper: %{y:.2f} %<extra></extra>",
            }
        )
    names = [plain(reading.study.name.upper()) for reading in readings]
    spec = {
        "data": data,
        "layout": layout(
            xaxis=axis(
                tickmode="array",
                tickvals=list(range(len(names))),
                ticktext=names,
                range=[-0.5, len(names) - 0.4],
                showgrid=False,
            ),
            yaxis=axis("test error, %", rangemode="tozero"),
        ),
    }
    return Figure(
        "test-error",
        "Test error by model (the paper’s figure 5)",
        "Boxes span the quartiles over the rounds, whiskers reach the furthest round within 1.5 quartile ranges, "
        "and every round is a point. Where the search’s best is the paper’s configuration there is one box.",
        "Box plot of the test error over the rounds of the final evaluation, by model: "
        + "; ".join(_spoken(reading) for reading in readings),
        (View("", spec),),
        height=440,
        least_width=160 + 130 * len(names),
    )


def _spoken(reading: Reading) -> str:
    found = [
        f"{candidate.role} {estimate} %"
        for candidate in candidates(reading)
        if (estimate := Estimate.of(test_errors(candidate.rounds))) is not None
    ]
    return f"{reading.study.name.upper()}: {', '.join(found) or 'not evaluated'}"


def error_by_epoch(reading: Reading) -> Figure | None:
    """The paper's figures 6 to 9: training and test error by epoch, with a band; None without rounds."""
    views = tuple(
        View(f"{candidate.role}: {compact(candidate.configuration)}", _by_epoch(candidate.rounds))
        for candidate in candidates(reading)
        if any(entry.test_curve for entry in candidate.rounds)
    )
    if not views:
        return None
    name = reading.study.name
    number_there = PAPER_FIGURES.get(reading.study.definition.architecture)
    theirs = f" (the paper’s figure {number_there})" if number_there and reading.paper is not None else ""
    return Figure(
        f"{name}-error-by-epoch",
        f"{name.upper()}: error by epoch{theirs}",
        "Lines are means over the rounds after each epoch, bands one sample standard deviation to either side. "
        "A diverged round counts up to its last finite epoch.",
        f"Line chart of the training and test error of {name.upper()} by epoch. "
        + "; ".join(_spoken_end(view) for view in views),
        views,
        choice="Configuration",
    )


def _spoken_end(view: View) -> str:
    lines = [
        trace for trace in view.spec["data"] if trace["mode"] == "lines" and trace.get("showlegend", True)
    ]
    ends = ", ".join(f"{trace['name']} {trace['y'][-1]:.2f} %" for trace in lines if trace["y"])
    return f"{view.label}: after the last epoch {ends}"


def _by_epoch(rounds: Sequence[Round]) -> Spec:
    data: list[Spec] = []
    for name, colour, dash, curves in (
        ("training", BLUE, "dot", [entry.train_curve for entry in rounds]),
        ("test", VERMILLION, "solid", [entry.test_curve for entry in rounds]),
    ):
        epochs, means, lows, highs = _band(curves)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{name}, ± std",
                "showlegend": False,
                "x": [*epochs, *reversed(epochs)],
                "y": [*highs, *reversed(lows)],
                "fill": "toself",
                "fillcolor": faded(colour, 0.15),
                "line": {"width": 0},
                "hoverinfo": "skip",
            }
        )
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": epochs,
                "y": means,
                "line": {"color": colour, "width": 2.5, "dash": dash},
                "hovertemplate": f"{name} %{{y:.2f}} %<extra></extra>",
            }
        )
    return {
        "data": data,
        "layout": layout(
            xaxis=axis("epoch", rangemode="tozero"),
            yaxis=axis("error, %", rangemode="tozero"),
            hovermode="x unified",
        ),
    }


def _band(curves: Sequence[Curve]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Epochs, and mean, mean − std and mean + std of the figures that are there, in per cent."""
    epochs, means, lows, highs = [], [], [], []
    for index in range(max((len(curve) for curve in curves), default=0)):
        figures = [
            100 * figure for curve in curves if index < len(curve) and (figure := curve[index]) is not None
        ]
        if figures:
            mean = statistics.fmean(figures)
            std = statistics.stdev(figures) if len(figures) > 1 else 0.0
            epochs.append(index + 1)
            means.append(round(mean, 4))
            lows.append(round(max(0.0, mean - std), 4))
            highs.append(round(mean + std, 4))
    return epochs, means, lows, highs
