"""A range of values stands for the values that it gives, in the shortest decimals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pairsearch.studies.definition import Definition, parse
from pairsearch.studies.errors import DefinitionError


def definition(values: object) -> Definition:
    raw = {"name": "some", "problem": "mine.py:Mine", "metric": "loss", "grid": {"x": values}}
    return parse(raw, "some.toml")


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"log": [1e-4, 1e-1], "count": 4}, (1e-4, 1e-3, 1e-2, 1e-1)),
        ({"log": [1e-4, 1e-1], "count": 3}, (1e-4, 0.00316228, 1e-1)),
        ({"log": [1, 1024], "count": 11}, tuple(2.0**power for power in range(11))),
        ({"log": [0.123456789, 2], "count": 2}, (0.123456789, 2.0)),
        ({"linear": [0, 1], "count": 5}, (0.0, 0.25, 0.5, 0.75, 1.0)),
        ({"linear": [0, 1], "count": 4}, (0.0, 0.333333, 0.666667, 1.0)),
        ({"linear": [-1, 1], "count": 3}, (-1.0, 0.0, 1.0)),
        ({"linear": [100_000, 100_001], "count": 5}, (1e5, 100000.25, 100000.5, 100000.75, 100001.0)),
        ({"integers": [1, 9], "step": 2}, (1, 3, 5, 7, 9)),
        ({"integers": [1, 10], "step": 4}, (1, 5, 9)),
        ({"integers": [-1, 1]}, (-1, 0, 1)),
        ({"integers": [2**62, 2**62 + 1]}, (2**62, 2**62 + 1)),
    ],
)
def test_a_range_is_stored_as_its_values(given: dict[str, Any], values: tuple[float, ...]) -> None:
    found = definition(given)
    assert repr(found.grid.choices["x"]) == repr(values)
    assert found == definition(list(values))
    assert found.model_dump(mode="json")["grid"] == [{"x": list(values)}]


@pytest.mark.parametrize("count", [2, 3, 7, 50, 999])
@pytest.mark.parametrize("ends", [(1e-12, 1e-3), (3.0, 3.001), (0.1, 1e5)])
def test_values_are_distinct_and_evenly_spaced(ends: tuple[float, float], count: int) -> None:
    for name, exact, scale in (("log", np.geomspace, np.log), ("linear", np.linspace, np.array)):
        values = definition({name: list(ends), "count": count}).grid.choices["x"]
        places = scale(exact(*ends, count))
        assert (len(values), values[0], values[-1]) == (count, *ends)
        assert np.abs(scale(values) - places).max() <= 1.01e-3 * (places[1] - places[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"expected a list, or one of \{ log = \[LOW, HIGH\], count = N \}, .* got \{\}"),
        ({"log": [1, 2]}, "expected a list, or one of .*got {'log'"),
        ({"log": [1, 2], "count": 3, "step": 1}, "expected a list, or one of "),
        ({"geometric": [1, 2], "count": 3}, "expected a list, or one of "),
        ({"integers": [1, 2], "count": 3}, "expected a list, or one of "),
        ({"log": [0, 1], "count": 3}, "log: expected numbers above 0, got 0"),
        ({"log": [2, 1], "count": 3}, r"log: expected two finite numbers, the lower one first, got \[2, 1\]"),
        ({"linear": [1, 1], "count": 3}, "linear: expected two finite numbers"),
        ({"linear": [1, 2, 3], "count": 3}, "linear: expected two finite numbers"),
        ({"linear": [True, 2], "count": 3}, "linear: expected two finite numbers"),
        ({"linear": [1, math.inf], "count": 3}, "linear: expected two finite numbers"),
        ({"linear": [1, 10**400], "count": 3}, "linear: expected two finite numbers"),
        ({"linear": "12", "count": 3}, "linear: expected two finite numbers"),
        ({"integers": [1, 2.5]}, "integers: expected two integers"),
        ({"integers": [1, 9], "step": 0}, "step: expected an integer of at least 1, got 0"),
        ({"integers": [1, 9], "step": 1.5}, "step: expected an integer of at least 1, got 1.5"),
        ({"integers": [0, 10**9]}, "expected 1 to 10,000 values, got 1000000001"),
        ({"integers": [0, 2**62]}, "expected 1 to 10,000 values"),
        ({"linear": [1, 2], "count": 1}, "expected 2 to 10,000 values, got 1"),
        ({"linear": [1, 2], "count": True}, "expected 2 to 10,000 values, got True"),
        ({"linear": [1, 2], "count": 10**9}, "expected 2 to 10,000 values, got 1000000000"),
    ],
)
def test_what_is_no_range_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^some\.toml: grid\.x: {message}") as caught:
        definition(given)
    assert "\n" not in str(caught.value)
