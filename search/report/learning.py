"""Learning curves of the best configurations, fold by fold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pairsearch.search.report.content import Figure, Section, Spec, View
from pairsearch.search.report.drawing import BLUE, VERMILLION, axis, faded, layout, note, spans
from pairsearch.search.report.reading import Curve, FoldCurves, Reading
from pairsearch.search.report.rounds import compact


def section(reading: Reading) -> Section | None:
    """The section, None while nothing is finished."""
    if not reading.top:
        return None
    metric = reading.study.definition.metric
    views = tuple(
        View(f"rank {rank}: {compact(curves.configuration)} ({metric} {curves.value:.4f})", _panels(curves))
        for rank, curves in enumerate(reading.top, start=1)
    )
    folds = reading.study.definition.folds
    figure = Figure(
        f"{reading.study.name}-learning-curves",
        "Learning curves of the best configurations, fold by fold",
        f"Thin lines are the {folds} folds, thick ones their means after each epoch. Left: losses, on a logarithmic "
        "axis; right: validation error.",
        f"Line charts of training loss, validation loss and validation error by epoch, a line for each of {folds} "
        "folds. " + "; ".join(view.label for view in views),
        views,
        height=440,
        least_width=640,
        choice="Configuration",
    )
    return Section("Learning curves", (figure,))


def _panels(curves: FoldCurves) -> Spec:
    left, right = spans(2, 0.12)
    data = [
        *_lines(curves.train_loss, "training loss", BLUE, "", 1.0),
        *_lines(curves.val_loss, "validation loss", VERMILLION, "", 1.0),
        *_lines(curves.val_error, "validation error", VERMILLION, "2", 100.0),
    ]
    return {
        "data": data,
        "layout": layout(
            xaxis=axis("epoch", domain=left, rangemode="tozero"),
            yaxis=axis("loss", type="log"),
            xaxis2=axis("epoch", domain=right, anchor="y2", rangemode="tozero"),
            yaxis2=axis("validation error, %", anchor="x2", rangemode="tozero"),
            annotations=[
                note(text, domain[0], 1, yanchor="bottom", xanchor="left", font={"size": 12})
                for text, domain in (("losses", left), ("validation error", right))
            ],
            legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.06, "yanchor": "bottom"},
        ),
    }


def _lines(folds: Sequence[Curve], name: str, colour: str, end: str, scale: float) -> list[Spec]:
    xs: list[int | None] = []
    ys: list[float | None] = []
    for curve in folds:
        xs += [*range(1, len(curve) + 1), None]
        ys += [*(None if figure is None else float(f"{scale * figure:.4g}") for figure in curve), None]
    epochs = range(1, max((len(curve) for curve in folds), default=0) + 1)
    means = [_mean([curve[epoch - 1] for curve in folds if epoch <= len(curve)], scale) for epoch in epochs]
    common: Spec = {"type": "scatter", "mode": "lines", "xaxis": f"x{end}", "yaxis": f"y{end}"}
    return [
        common
        | {
            "name": f"{name}, folds",
            "showlegend": False,
            "x": xs,
            "y": ys,
            "line": {"color": faded(colour, 0.3), "width": 1},
            "hoverinfo": "skip",
        },
        common
        | {
            "name": f"{name}, mean",
            "showlegend": end == "" or name != "validation error",
            "x": list(epochs),
            "y": means,
            "line": {"color": colour, "width": 2.5},
            "hovertemplate": f"epoch %{{x}}: mean {name} %{{y:.4g}}<extra></extra>",
        },
    ]


def _mean(figures: Sequence[float | None], scale: float) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return float(f"{scale * statistics.fmean(known):.5g}") if known else None
