"""The analysis of variance against figures worked out by hand and against least squares."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pairsearch.search.report.importance import complete_block, decompose


def test_a_table_of_two_by_two_worked_out_by_hand() -> None:
    # About the mean 3: rows ∓1.5 (sum of squares 9), columns ∓1 (4), interaction ±0.5 (1), in all 14.
    shares = decompose(np.array([[1.0, 2.0], [3.0, 6.0]]), ["row", "column"])
    assert shares.main == pytest.approx({"row": 9 / 14, "column": 4 / 14})
    assert shares.pairs == pytest.approx({("row", "column"): 1 / 14})
    assert shares.rest == pytest.approx(0.0)


def explained(cells: np.ndarray, factors: list[tuple[int, ...]]) -> float:
    """Sum of squares about the mean that indicator columns of these factors explain, by least squares."""
    places = list(itertools.product(*(range(size) for size in cells.shape)))
    groups = [[tuple(place[axis] for axis in factor) for place in places] for factor in factors]
    columns = [[float(entry == level) for entry in group] for group in groups for level in sorted(set(group))]
    design = np.array([[1.0] * len(places), *columns]).T
    values = np.array([cells[place] for place in places])
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(((fitted - values.mean()) ** 2).sum())


@pytest.mark.parametrize("shape", [(2, 3), (4, 4, 3), (2, 3, 2, 4)])
def test_shares_are_those_of_least_squares_and_sum_to_one(shape: tuple[int, ...]) -> None:
    cells = np.random.default_rng(len(shape)).normal(size=shape)
    names = [f"factor {axis}" for axis in range(len(shape))]
    shares = decompose(cells, names)
    total = float(((cells - cells.mean()) ** 2).sum())
    for axis, name in enumerate(names):
        assert shares.main[name] == pytest.approx(explained(cells, [(axis,)]) / total)
    for a, b in itertools.combinations(range(len(shape)), 2):
        beyond = explained(cells, [(a,), (b,), (a, b)]) - explained(cells, [(a,), (b,)])
        assert shares.pairs[names[a], names[b]] == pytest.approx(beyond / total)
    assert sum(shares.main.values()) + sum(shares.pairs.values()) + shares.rest == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-20, 0.1e20])
def test_where_nothing_varies_every_share_is_zero(value: float) -> None:
    shares = decompose(np.full((3, 2), value), ["a", "b"])
    assert (dict(shares.main), dict(shares.pairs), shares.rest) == ({"a": 0, "b": 0}, {("a", "b"): 0}, 0)


@pytest.mark.parametrize("scale", [1e-20, 1e20, -1.0])
def test_shares_do_not_depend_on_the_unit(scale: float) -> None:
    shares = decompose(scale * np.array([[1.0, 2.0], [3.0, 6.0]]), ["row", "column"])
    assert shares.main == pytest.approx({"row": 9 / 14, "column": 4 / 14})


CHOICES = {"a": (1, 2, 3), "b": (10, 20), "c": (7,)}
FULL = {
    (place, column, 0): float(a * b)
    for place, a in enumerate(CHOICES["a"])
    for column, b in enumerate(CHOICES["b"])
}


def test_a_complete_grid_is_taken_whole_without_parameters_that_do_not_vary() -> None:
    block = complete_block(CHOICES, FULL)
    assert block is not None
    assert (block.names, block.left_out) == (("a", "b"), ())
    assert block.cells.tolist() == [[10.0, 20.0], [20.0, 40.0], [30.0, 60.0]]


def test_the_level_with_most_holes_is_left_out() -> None:
    block = complete_block(CHOICES, {cell: figure for cell, figure in FULL.items() if cell != (2, 1, 0)})
    assert block is not None
    assert block.left_out == (("a", 3),)
    assert block.cells.tolist() == [[10.0, 20.0], [20.0, 40.0]]


def test_nothing_is_left_of_a_grid_that_is_hardly_started() -> None:
    assert complete_block(CHOICES, {(0, 0, 0): 1.0}) is None
    assert complete_block(CHOICES, {}) is None
