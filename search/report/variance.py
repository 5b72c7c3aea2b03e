"""Analysis of variance of a complete grid: how much of the variance each parameter and each pair explains.

For a balanced factorial design with one observation in each cell, the sum of squares about the mean splits into
orthogonal parts (Montgomery, "Design and Analysis of Experiments", 8th ed. 2012, sections 5.3 and 5.4): one for each
factor alone, one for each pair beyond its two factors, and the rest, which is the interaction of three and more factors
plus noise. Each part over the total is its share of the variance, between 0 and 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsearch.search.report.parameters import Level, Places


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the variance over a complete grid. They sum to 1, or are all 0 if nothing varies."""

    main: Mapping[str, float]
    pairs: Mapping[tuple[str, str], float]
    rest: float


def decompose(cells: NDArray[np.float64], names: Sequence[str]) -> Shares:
    """Compute the shares of a complete grid.

    Args:
        cells: finite figures with one axis for each parameter, each of at least two levels.
        names: names of the axes.

    Raises:
        ValueError: the names do not fit the axes, or a figure is not finite.
    """
    if cells.ndim != len(names):
        raise ValueError(f"expected {len(names)} axes, got shape {cells.shape}")
    if not np.isfinite(cells).all():
        raise ValueError("expected a figure in every cell")
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
class Block:
    """A complete part of a grid."""

    names: tuple[str, ...]
    levels: tuple[tuple[Level, ...], ...]
    cells: NDArray[np.float64]
    """Figures with one axis for each name."""
    left_out: tuple[tuple[str, Level], ...]
    """The levels that were removed to make it complete, in this order."""


def complete_block(choices: Mapping[str, Sequence[Level]], figures: Mapping[Places, float]) -> Block | None:
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
    return Block(
        tuple(names[axis] for axis in varying),
        tuple(tuple(levels[axis]) for axis in varying),
        table.squeeze(axis=fixed),
        tuple(left_out),
    )
