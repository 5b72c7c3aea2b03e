"""Draws figures by epoch in two panels: fractions, in per cent, on the right, and other figures on the left."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.report.content import Spec
from pairsearch.search.report.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    axis,
    chart,
    from_zero,
    logarithmic,
    scaled,
    spans,
    suffix,
)
from pairsearch.search.results.formatting import label
from pairsearch.studies.problem import Metric

TRAINING, OTHERS = (BLUE, SKY), (VERMILLION, GREEN, PURPLE, ORANGE)
"""Colours of the figures of a panel: those of training examples, and others."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The curves of a figure in several runs, scaled to the unit of the axis."""

    label: str
    metric: Metric
    colour: str
    curves: Sequence[Sequence[float | None]]
    """The curve of each run; None where the figure was not finite."""

    def mean(self) -> list[float | None]:
        return [statistics.fmean(known) if known else None for known in self.by_epoch()]

    def by_epoch(self) -> list[list[float]]:
        """Return the finite figures of each epoch."""
        return [
            [value for curve in self.curves if epoch < len(curve) and (value := curve[epoch]) is not None]
            for epoch in range(max(map(len, self.curves), default=0))
        ]


def several_epochs(runs: Iterable[RunResult]) -> bool:
    return any(run.epochs > 1 for run in runs)


def panels(
    runs: Sequence[RunResult], metrics: Mapping[str, Metric], draw: Callable[[Lines], list[Spec]]
) -> Spec:
    """Draw line charts of figures by epoch.

    Args:
        metrics: the figures to draw, as far as the runs have them.
        draw: returns the traces of a figure, without their axes.
    """
    reported = {name for run in runs for name in run.curves}
    known = {name: metric for name, metric in metrics.items() if name in reported}
    by_scale = [
        {name: metric for name, metric in known.items() if metric.percent == percent}
        for percent in (False, True)
    ]
    drawn = [_coloured(runs, group) for group in by_scale if group]
    data: list[Spec] = []
    axes: Spec = {}
    for place, lines in enumerate(drawn):
        end, domain = suffix(place), spans(len(drawn), 0.12)[place]
        for line in lines:
            data += [trace | {"xaxis": f"x{end}", "yaxis": f"y{end}"} for trace in draw(line)]
        values = [value for line in lines for curve in line.curves for value in curve if value is not None]
        losses = all(logarithmic(line.metric, values) for line in lines)
        kind = {"type": "log"} if losses else from_zero(lines[0].metric)
        axes[f"xaxis{end}"] = axis("epoch", domain=domain, anchor=f"y{end}", rangemode="tozero")
        axes[f"yaxis{end}"] = axis(_title(lines), anchor=f"x{end}", **kind)
    return chart(data, **axes)


def _coloured(runs: Sequence[RunResult], metrics: Mapping[str, Metric]) -> list[Lines]:
    counts = {True: 0, False: 0}
    lines = []
    for name, metric in metrics.items():
        colours = TRAINING if metric.training else OTHERS
        colour = colours[counts[metric.training] % len(colours)]
        counts[metric.training] += 1
        curves = [
            [scaled(metric, value) if math.isfinite(value) else None for value in run.curves.get(name, ())]
            for run in runs
        ]
        lines.append(Lines(label(name, metric), metric, colour, curves))
    return lines


def _title(lines: Sequence[Lines]) -> str:
    """Return the words at the end of all labels, with the unit."""
    backwards = [line.label.split()[::-1] for line in lines]
    shared = itertools.takewhile(lambda same: len(set(same)) == 1, zip(*backwards, strict=False))
    words = " ".join([same[0] for same in shared][::-1])
    return ", ".join(filter(None, [words, "%" if lines[0].metric.percent else ""]))
