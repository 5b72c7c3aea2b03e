"""The importance of each parameter, by an analysis of variance, which is exact on a complete grid.

For a balanced factorial design with one observation in each cell, the sum of squares about the mean splits into
orthogonal parts (Montgomery, "Design and Analysis of Experiments", 8th ed. 2012, sections 5.3 and 5.4): one for each
factor alone, one for each pair beyond its two factors, and the rest, which is the interaction of three and more factors
plus noise. Each part over the total is its share of the variance, between 0 and 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, Notice, Spec, View
from pairsearch.search.report.parameters import Level, Places, number, parameters_of, places_of
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.formatting import label, words

LEAST = 8
"""With fewer finished configurations, importance would be noise."""
PAIRS = 4
"""Number of pairs with a bar of their own, the largest ones."""


def importance(reading: Reading) -> Figure | Notice:
    """Draw the importance over the largest grid of a study, or say why that is not possible.

    Points of other grids of a union have other parameters, or would make the grid incomplete.
    """
    tables = reading.study.definition.grid.root
    table = max(tables, key=lambda table: math.prod(map(len, table.values())))
    where = f" of grid {1 + tables.index(table)}, the largest of {len(tables)}" if len(tables) > 1 else ""
    parameters = parameters_of(table, ())
    places = places_of(parameters, (point.configuration for point in reading.finished))
    figures = {
        found: point.known
        for found, point in zip(places, reading.finished, strict=True)
        if found is not None and point.configuration.params.keys() == table.keys()
    }
    varying = sum(parameter.varies for parameter in parameters)
    if len(figures) < LEAST or varying < 2:
        return Notice(
            f"Importance: {len(figures)} finished configurations over {varying} varying parameters{where}; "
            f"it is shown from {LEAST} and 2."
        )
    logarithmic = not reading.study.metric.maximise and min(figures.values()) > 0
    if logarithmic:
        figures = {found: math.log10(figure) for found, figure in figures.items()}
    complete = complete_block({parameter.name: parameter.levels for parameter in parameters}, figures)
    if complete is None:
        return Notice(
            "Importance: the analysis of variance needs a complete grid of two or more parameters, and none is "
            f"finished{where}."
        )
    extent = f"all {complete.cells.size} configurations"
    if complete.left_out:
        levels = ", ".join(f"{words(name)} {number(level)}" for name, level in complete.left_out)
        extent = (
            f"{complete.cells.size} of the {len(figures)} finished configurations: its largest complete part found, "
            f"without {levels}"
        )
    metric = label(reading.study.definition.metric, reading.study.metric)
    bars = _bars(decompose(complete.cells, complete.names))
    spoken = ", ".join(f"{name} {100 * share:.1f} %" for name, share in bars[:5])
    return Figure(
        f"{reading.study.name}-importance",
        "Importance of the parameters",
        f"What moves the {'logarithm of the ' if logarithmic else ''}mean {metric} over the finished configurations. "
        f"The analysis of variance covers {extent}{where}. A bar with × is what two parameters do together beyond each "
        "alone. Analysis of variance of a balanced factorial design: Montgomery, Design and Analysis of Experiments, "
        "chapter 5.",
        f"Bar chart of the share of variance by parameter: {spoken}.",
        (View("", _drawn(bars)),),
        height=110 + 32 * len(bars),
        least_width=560,
    )


def _bars(shares: Shares) -> list[tuple[str, float]]:
    bars = sorted(((words(name), share) for name, share in shares.main.items()), key=lambda bar: -bar[1])
    pairs = sorted(shares.pairs.items(), key=lambda entry: -entry[1])
    bars += [(f"{words(a)} × {words(b)}", share) for (a, b), share in pairs[:PAIRS]]
    if len(pairs) > PAIRS:
        bars.append((f"{len(pairs) - PAIRS} other pairs", sum(share for _, share in pairs[PAIRS:])))
    return [*bars, ("three and more, and noise", shares.rest)]


def _drawn(bars: Sequence[tuple[str, float]]) -> Spec:
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [round(100 * share, 3) for _, share in bars],
        "y": list(range(len(bars))),
        "text": [f"{100 * share:.1f}" for _, share in bars],
        "textposition": "outside",
        "textfont": {"color": drawing.MUTED},
        "cliponaxis": False,
        "marker": {"color": drawing.BLUE},
        "hovertemplate": "%{x:.2f} %<extra></extra>",
    }
    names = drawing.labelled([name for name, _ in bars])
    return drawing.chart(
        [bar],
        bargap=0.35,
        xaxis=drawing.axis("share of variance, %", rangemode="tozero"),
        yaxis=drawing.axis(range=[len(bars) - 0.5, -0.5], ticks="", **names),
    )


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the variance over a complete grid. They sum to 1, or are all 0 if nothing varies."""

    main: Mapping[str, float]
    pairs: Mapping[tuple[str, str], float]
    rest: float


def decompose(cells: NDArray[np.float64], names: Sequence[str]) -> Shares:
    """Compute the shares of a complete grid, which has an axis of at least two levels for each name."""
    centred, axes = cells - cells.mean(), range(cells.ndim)
    total = float((centred**2).sum())
    # Rounding errors remain where all cells are equal.
    nothing = total <= cells.size * (np.finfo(np.float64).eps * np.abs(cells).max(initial=0.0)) ** 2

    def means(*kept: int) -> NDArray[np.float64]:
        others = tuple(axis for axis in axes if axis not in kept)
        return np.asarray(centred.mean(axis=others, keepdims=True))

    def share(effect: NDArray[np.float64]) -> float:
        return 0.0 if nothing else float((effect**2).sum()) * (cells.size / effect.size) / total

    effects = [means(axis) for axis in axes]
    main = {name: share(effect) for name, effect in zip(names, effects, strict=True)}
    pairs = {
        (names[i], names[j]): share(means(i, j) - effects[i] - effects[j])
        for i, j in itertools.combinations(axes, 2)
    }
    rest = 0.0 if nothing else max(0.0, 1 - sum(main.values()) - sum(pairs.values()))
    return Shares(main, pairs, rest)


@dataclass(frozen=True, slots=True)
class Complete:
    """A complete part of a grid."""

    names: tuple[str, ...]
    cells: NDArray[np.float64]
    """Figures with one axis for each name."""
    left_out: tuple[tuple[str, Level], ...]
    """The levels that were removed to make it complete, in this order."""


def complete_block(
    choices: Mapping[str, Sequence[Level]], figures: Mapping[Places, float]
) -> Complete | None:
    """Find a complete part, with at least two varying parameters, of a grid in which cells may be missing.

    While a cell is missing, the level with the largest share of missing cells is removed, the first of several. The
    result is not always the largest complete part. A cell of `figures` is a tuple of indices of levels in the order of
    `choices`.
    """
    names, levels = list(choices), [list(values) for values in choices.values()]
    table = np.full([len(values) for values in levels], np.nan)
    for cell, figure in figures.items():
        table[cell] = figure
    left_out: list[tuple[str, Level]] = []
    while table.size and (absent := np.isnan(table)).any():
        shares = [
            absent.mean(axis=tuple(other for other in range(table.ndim) if other != axis))
            for axis in range(table.ndim)
        ]
        axis = max(range(table.ndim), key=lambda index: float(shares[index].max()))
        place = int(shares[axis].argmax())
        left_out.append((names[axis], levels[axis].pop(place)))
        table = np.delete(table, place, axis=axis)
    varying = tuple(name for name, size in zip(names, table.shape, strict=True) if size > 1)
    return Complete(varying, table.squeeze(), tuple(left_out)) if table.size and len(varying) > 1 else None
