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

from pairsearch.search.report.content import Block, Figure, Notice, View
from pairsearch.search.report.drawing import BLUE, MUTED, axis, chart, labelled
from pairsearch.search.report.parameters import Level, Parameter, Places, number, parameters_of, places_of
from pairsearch.search.report.reading import Point, Reading
from pairsearch.search.results.formatting import label, words

LEAST = 8
"""With fewer finished configurations, importance would be noise."""
PAIRS = 4
"""Number of pairs with a bar of their own, the largest ones."""


def section_blocks(reading: Reading) -> list[Block]:
    """Return the figure of importance, or a notice why there is none."""
    parameters, points, where = _largest_grid(reading)
    varying = [parameter for parameter in parameters if parameter.varies]
    if len(points) < LEAST or len(varying) < 2:
        return [
            Notice(
                f"Importance: {len(points)} finished configurations over {len(varying)} varying parameters{where}; "
                f"it is shown from {LEAST} and 2."
            )
        ]
    logarithmic = not reading.study.metric.maximise and all(point.known > 0 for point in points)
    places = places_of(parameters, (point.configuration for point in points))
    figures = {
        found: math.log10(point.known) if logarithmic else point.known
        for found, point in zip(places, points, strict=True)
        if found is not None
    }
    complete = complete_block({parameter.name: parameter.levels for parameter in parameters}, figures)
    if complete is None:
        return [
            Notice(
                f"Importance: the analysis of variance needs a complete grid of two or more parameters, and none is "
                f"finished{where}."
            )
        ]
    shares = decompose(complete.cells, complete.names)
    bars = sorted(((words(name), share) for name, share in shares.main.items()), key=lambda bar: -bar[1])
    pairs = sorted(shares.pairs.items(), key=lambda entry: -entry[1])
    bars += [(f"{words(a)} × {words(b)}", share) for (a, b), share in pairs[:PAIRS]]
    if len(pairs) > PAIRS:
        bars.append((f"{len(pairs) - PAIRS} other pairs", sum(share for _, share in pairs[PAIRS:])))
    bars.append(("three and more, and noise", shares.rest))
    basis = f"The analysis of variance covers {_extent(complete.cells.size, len(points), complete.left_out)}{where}."
    return [_figure(reading, bars, basis, logarithmic)]


def _largest_grid(reading: Reading) -> tuple[tuple[Parameter, ...], list[Point], str]:
    """Return the parameters of the largest grid of a union, the finished points in it, and a text that names the grid.

    Points of other grids have other parameters, or would make the grid incomplete.
    """
    tables = reading.study.definition.grid.root
    if len(tables) == 1:
        return reading.parameters, reading.finished, ""
    table = max(tables, key=lambda table: table.size)
    parameters = parameters_of(table.choices, ())
    places = places_of(parameters, (point.configuration for point in reading.finished))
    points = [
        point
        for point, found in zip(reading.finished, places, strict=True)
        if found is not None and point.configuration.params.keys() == table.root.keys()
    ]
    place = 1 + tables.index(table)
    return parameters, points, f" of grid {place}, the largest of {len(tables)}"


def _extent(cells: int, finished: int, left_out: Sequence[tuple[str, Level]]) -> str:
    if not left_out:
        return f"all {cells} configurations"
    levels = ", ".join(f"{words(name)} {number(level)}" for name, level in left_out)
    return f"{cells} of the {finished} finished configurations: its largest complete part found, without {levels}"


def _figure(reading: Reading, bars: Sequence[tuple[str, float]], basis: str, logarithmic: bool) -> Figure:
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [round(100 * share, 3) for _, share in bars],
        "y": list(range(len(bars))),
        "text": [f"{100 * share:.1f}" for _, share in bars],
        "textposition": "outside",
        "textfont": {"color": MUTED},
        "cliponaxis": False,
        "marker": {"color": BLUE},
        "hovertemplate": "%{x:.2f} %<extra></extra>",
    }
    names = labelled([name for name, _ in bars])
    spec = chart(
        [bar],
        bargap=0.35,
        xaxis=axis("share of variance, %", rangemode="tozero"),
        yaxis=axis(range=[len(bars) - 0.5, -0.5], ticks="", **names),
    )
    metric = label(reading.study.definition.metric, reading.study.metric)
    target = f"the {'logarithm of the ' if logarithmic else ''}mean {metric}"
    spoken = ", ".join(f"{name} {100 * share:.1f} %" for name, share in bars[:5])
    return Figure(
        f"{reading.study.name}-importance",
        "Importance of the parameters",
        f"What moves {target} over the finished configurations. {basis} A bar with × is what two parameters do "
        "together beyond each alone. Analysis of variance of a balanced factorial design: Montgomery, Design and "
        "Analysis of Experiments, chapter 5.",
        f"Bar chart of the share of variance by parameter: {spoken}.",
        (View("", spec),),
        height=110 + 32 * len(bars),
        least_width=560,
    )


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the variance over a complete grid. They sum to 1, or are all 0 if nothing varies."""

    main: Mapping[str, float]
    pairs: Mapping[tuple[str, str], float]
    rest: float


def decompose(cells: NDArray[np.float64], names: Sequence[str]) -> Shares:
    """Compute the shares of a complete grid.

    Args:
        cells: finite figures with one axis for each name, each of at least two levels.
    """
    centred = cells - cells.mean()
    total = float((centred**2).sum())
    # Rounding errors remain where all cells are equal.
    if total <= cells.size * (np.finfo(np.float64).eps * np.abs(cells).max(initial=0.0)) ** 2:
        zero = dict.fromkeys(names, 0.0)
        return Shares(zero, dict.fromkeys(itertools.combinations(names, 2), 0.0), 0.0)

    def means(*kept: int) -> NDArray[np.float64]:
        others = tuple(index for index in range(cells.ndim) if index not in kept)
        return np.asarray(centred.mean(axis=others, keepdims=True))

    def share(effect: NDArray[np.float64]) -> float:
        return float((effect**2).sum()) * (cells.size / effect.size) / total

    axes = range(cells.ndim)
    effects = [means(index) for index in axes]
    main = {names[index]: share(effects[index]) for index in axes}
    pairs = {
        (names[i], names[j]): share(means(i, j) - effects[i] - effects[j])
        for i, j in itertools.combinations(axes, 2)
    }
    return Shares(main, pairs, max(0.0, 1 - sum(main.values()) - sum(pairs.values())))


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
    result is not always the largest complete part.

    Args:
        choices: levels by parameter.
        figures: figures by cell, which is a tuple of indices of levels in the order of `choices`.
    """
    names = tuple(choices)
    levels = [list(choices[name]) for name in names]
    table = np.full([len(values) for values in levels], np.nan)
    for cell, figure in figures.items():
        table[cell] = figure
    left_out: list[tuple[str, Level]] = []
    while table.size and np.isnan(table).any():
        absent = np.isnan(table)
        shares = [
            absent.mean(axis=tuple(i for i in range(table.ndim) if i != axis)) for axis in range(table.ndim)
        ]
        axis = max(range(table.ndim), key=lambda index: float(shares[index].max()))
        place = int(shares[axis].argmax())
        left_out.append((names[axis], levels[axis].pop(place)))
        table = np.delete(table, place, axis=axis)
    varying = [axis for axis in range(table.ndim) if table.shape[axis] > 1]
    if not table.size or len(varying) < 2:
        return None
    fixed = tuple(axis for axis in range(table.ndim) if axis not in varying)
    return Complete(
        tuple(names[axis] for axis in varying),
        table.squeeze(axis=fixed),
        tuple(left_out),
    )
