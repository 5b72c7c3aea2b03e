"""Configurations and their keys: equal hyperparameters share a key, others never do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pairsearch.studies.configuration import Configuration, describe, distinct

rates = st.floats(0, 1e3, allow_nan=False, exclude_min=True)
configurations = st.builds(
    Configuration,
    batch_size=st.integers(1, 1000),
    learning_rate=rates,
    weight_decay=st.just(0.0) | rates,
    hidden_units=st.none() | st.integers(1, 1000),
    aux_loss_weight=st.none() | st.just(0.0) | rates,
)


@given(configurations, configurations)
def test_a_key_is_shared_only_by_equals(one: Configuration, other: Configuration) -> None:
    assert (one.key == other.key) == (one == other)
    assert len(one.key) <= 255, "the width of its column"


@given(configurations)
def test_parameters_give_the_configuration_back(one: Configuration) -> None:
    assert Configuration.of(one.params) == one
    assert Configuration.of(one.params).key == one.key


def test_whole_numbers_and_floats_are_brought_to_one_key() -> None:
    given = Configuration.of(
        {"batch_size": 10.0, "learning_rate": 1, "weight_decay": 0, "aux_loss_weight": 10}
    )
    assert given.key == "batch_size=10 learning_rate=1.0 weight_decay=0.0 aux_loss_weight=10.0"


def test_people_read_short_numbers() -> None:
    assert describe({"batch_size": 25, "learning_rate": 1e-4, "aux_loss_weight": 10.0}) == (
        "batch_size 25, learning_rate 0.0001, aux_loss_weight 10"
    )


def test_repetitions_are_dropped_in_order() -> None:
    one, other = Configuration(1, 0.1, 0.0), Configuration(2, 0.1, 0.0)
    assert distinct([other, one, other]) == [other, one]
