"""The section with learning curves of the best configurations, fold by fold where there are such."""

from __future__ import annotations

from pairsearch.search.report.content import Figure, Section, Spec, View
from pairsearch.search.report.curves import Lines, panels, several_epochs
from pairsearch.search.report.drawing import faded, joined, plain, scatter
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.formatting import abbreviations, compact, figure


def section(reading: Reading) -> Section | None:
    """Compose the section; None while nothing is finished, and if folds report one epoch only."""
    top = [
        (point, runs)
        for point, runs in zip(reading.finished, reading.top, strict=False)
        if several_epochs(runs)
    ]
    if not top:
        return None
    study, metric = reading.study, reading.study.definition.metric
    short = abbreviations(study.choices)
    views = tuple(
        View(
            f"rank {rank}: {compact(point.configuration.params, short)} "
            f"({metric} {figure(study.metric, point.value)})",
            panels(runs, study.traits.of_folds, _traces),
        )
        for rank, (point, runs) in enumerate(top, start=1)
    )
    folds, axes = study.definition.folds, "Losses above 0 have a logarithmic axis."
    if reading.of_mean:
        title = "Learning curves of the best configurations, means over folds"
        lines = f"Lines are means over {folds} folds; the results were loaded without curves of single folds."
        shown = f"the means over {folds} folds by epoch"
    else:
        title = "Learning curves of the best configurations, fold by fold"
        lines = f"Thin lines are the {folds} folds, thick ones their means after each epoch."
        shown = f"the figures of folds by epoch, a line for each of {folds} folds"
    drawn = Figure(
        f"{study.name}-learning-curves",
        title,
        f"{lines} {axes}",
        f"Line charts of {shown}. " + "; ".join(view.label for view in views),
        views,
        height=440,
        least_width=640,
        choice="Configuration",
    )
    return Section("Learning curves", (drawn,))


def _traces(lines: Lines) -> list[Spec]:
    name, means = plain(lines.label), lines.mean()
    return [
        joined(
            lines.curves,
            first=1,
            name=f"{name}, folds",
            showlegend=False,
            line={"color": faded(lines.colour, 0.3), "width": 1},
        ),
        scatter(
            "lines",
            list(range(1, len(means) + 1)),
            [None if mean is None else float(f"{mean:.5g}") for mean in means],
            name=f"{name}, mean",
            line={"color": lines.colour, "width": 2.5},
            hovertemplate=f"epoch %{{x}}: mean {name} %{{y:.4g}}<extra></extra>",
        ),
    ]
