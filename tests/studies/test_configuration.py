"""The key of a configuration depends on its point alone, not on the order of parameters, and no other point has it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pairsearch.studies.configuration import Configuration, Params, describe

ODD = "a1 =,'\"\\\n\0é😀"
"""Characters of texts: to draw from all there are, Hypothesis makes a table of them, which takes seconds."""
values = (
    st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(ODD, max_size=5)
)
points = st.dictionaries(st.sampled_from("abc"), values, min_size=1)


def typed(params: Params) -> dict[str, tuple[type, object]]:
    """What identifies a point: names, types and values; 0.0 and -0.0 are equal."""
    return {name: (type(value), value) for name, value in params.items()}


@given(points, points)
def test_a_key_is_shared_only_by_equals(one: Params, other: Params) -> None:
    equal = Configuration(one) == Configuration(other)
    assert equal == (typed(one) == typed(other)) == (Configuration(one).key == Configuration(other).key)
    assert not equal or hash(Configuration(one)) == hash(Configuration(other))


@given(points)
def test_json_gives_the_configuration_back_with_every_type(params: Params) -> None:
    one = Configuration(params)
    again = Configuration.of_text(one.text)
    assert (again, typed(again.params)) == (one, typed(one.params))
    assert json.loads(one.text) == one.params


@given(points)
def test_the_order_of_parameters_does_not_matter(params: Params) -> None:
    assert Configuration(dict(reversed(params.items()))) == Configuration(params)


def test_one_and_one_point_nought_and_true_are_three_values_and_zeros_are_one() -> None:
    assert len({Configuration({"x": value}) for value in (1, 1.0, True, "1")}) == 4
    assert Configuration({"x": -0.0}).key == Configuration({"x": 0.0}).key == "x=0.0"


def test_people_read_short_numbers() -> None:
    assert describe({"batch_size": 25, "learning_rate": 1e-4, "norm": True, "activation": "Tanh"}) == (
        "batch_size 25, learning_rate 0.0001, norm True, activation Tanh"
    )
