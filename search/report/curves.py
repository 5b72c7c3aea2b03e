"""Figures by epoch, and the section with learning curves of the best configurations, fold by fold where there are such.

Figures by epoch have two panels: fractions, in per cent, on the right, and other figures on the left.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, Section, Spec, View
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.formatting import abbreviations, compact, figure, label
from pairsearch.studies.problem import Metric

TRAINING = (drawing.BLUE, drawing.SKY)
OTHERS = (drawing.VERMILLION, drawing.GREEN, drawing.PURPLE, drawing.ORANGE)
"""Colours of the figures of a panel: those of training examples, and others."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The curves of a figure in several runs, scaled to the unit of the axis."""

    label: str
    metric: Metric
    colour: str
    curves: Sequence[Sequence[float | None]]
    """The curve of each run; None where the figure was not finite."""

    def by_epoch(self) -> list[list[float]]:
        """Return the finite figures of each epoch."""
        return [
            [value for value in values if value is not None] for values in itertools.zip_longest(*self.curves)
        ]


def several_epochs(runs: Iterable[RunResult]) -> bool:
    return any(run.epochs > 1 for run in runs)


def panels(
    runs: Sequence[RunResult], metrics: Mapping[str, Metric], draw: Callable[[Lines], list[Spec]]
) -> Spec:
    """Draw line charts by epoch of those figures that the runs have; `draw` returns traces without their axes."""
    reported = {name for run in runs for name in run.curves}
    by_scale: dict[bool, dict[str, Metric]] = {False: {}, True: {}}
    for name, metric in metrics.items():
        if name in reported:
            by_scale[metric.percent][name] = metric
    drawn = [_coloured(runs, group) for group in by_scale.values() if group]
    data: list[Spec] = []
    axes: Spec = {}
    for index, lines in enumerate(drawn):
        data += [trace | drawing.on(index) for line in lines for trace in draw(line)]
        values = [value for line in lines for curve in line.curves for value in curve if value is not None]
        losses = all(drawing.logarithmic(line.metric, values) for line in lines)
        kind = {"type": "log"} if losses else drawing.from_zero(lines[0].metric)
        epochs = drawing.axis("epoch", domain=drawing.spans(len(drawn), 0.12)[index], rangemode="tozero")
        axes |= drawing.panel(index, epochs, drawing.axis(_title(lines), **kind))
    return drawing.chart(data, **axes)


def _coloured(runs: Sequence[RunResult], metrics: Mapping[str, Metric]) -> list[Lines]:
    colours = {True: itertools.cycle(TRAINING), False: itertools.cycle(OTHERS)}
    lines = []
    for name, metric in metrics.items():
        curves = [
            [
                drawing.scaled(metric, value) if math.isfinite(value) else None
                for value in run.curves.get(name, ())
            ]
            for run in runs
        ]
        lines.append(Lines(label(name, metric), metric, next(colours[metric.training]), curves))
    return lines


def _title(lines: Sequence[Lines]) -> str:
    """Return the words at the end of all labels, with the unit."""
    backwards = [line.label.split()[::-1] for line in lines]
    shared = itertools.takewhile(lambda same: len(set(same)) == 1, zip(*backwards, strict=False))
    words = " ".join([same[0] for same in shared][::-1])
    return ", ".join(filter(None, [words, "%" if lines[0].metric.percent else ""]))


def section(reading: Reading) -> Section | None:
    """Compose the section; None while nothing is finished, and if folds report one epoch only."""
    top = [pair for pair in zip(reading.finished, reading.top, strict=False) if several_epochs(pair[1])]
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
    folds = study.definition.folds
    if reading.of_mean:
        kind = "means over folds"
        lines = f"Lines are means over {folds} folds; the results were loaded without curves of single folds."
        shown = f"the means over {folds} folds by epoch"
    else:
        kind = "fold by fold"
        lines = f"Thin lines are the {folds} folds, thick ones their means after each epoch."
        shown = f"the figures of folds by epoch, a line for each of {folds} folds"
    drawn = Figure(
        f"{study.name}-learning-curves",
        f"Learning curves of the best configurations, {kind}",
        f"{lines} Losses above 0 have a logarithmic axis.",
        f"Line charts of {shown}. " + "; ".join(view.label for view in views),
        views,
        height=440,
        least_width=640,
        choice="Configuration",
    )
    return Section("Learning curves", (drawn,))


def _traces(lines: Lines) -> list[Spec]:
    name = drawing.plain(lines.label)
    means = [statistics.fmean(known) if known else None for known in lines.by_epoch()]
    thin = {"color": drawing.faded(lines.colour, 0.3), "width": 1}
    return [
        drawing.joined(lines.curves, first=1, name=f"{name}, folds", showlegend=False, line=thin),
        drawing.scatter(
            "lines",
            list(range(1, len(means) + 1)),
            [None if mean is None else float(f"{mean:.5g}") for mean in means],
            name=f"{name}, mean",
            line={"color": lines.colour, "width": 2.5},
            hovertemplate=f"epoch %{{x}}: mean {name} %{{y:.4g}}<extra></extra>",
        ),
    ]
