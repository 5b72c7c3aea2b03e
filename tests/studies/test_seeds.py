"""Random streams never change, differ from each other, and depend on seed, stream and index alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsearch.studies.seeds import Stream, derive


@pytest.mark.parametrize(
    ("seed", "stream", "index", "value"),
    [
        (2020, Stream.SAMPLE, 0, 1025485564588035973),
        (2020, Stream.SPLIT, 0, 7995098478208889660),
        (2020, Stream.INITIAL_WEIGHTS, 9, 8903516075285476849),
        (2020, Stream.BATCH_ORDER, 3, 1451608992946582411),
        (0, Stream.EVALUATION_TEST, 1, 7924343506140646620),
    ],
)
def test_streams_never_change(seed: int, stream: Stream, index: int, value: int) -> None:
    """Results in databases depend on these numbers."""
    assert derive(seed, stream, index) == value


def test_stream_numbers_never_change() -> None:
    assert {stream.name: int(stream) for stream in Stream} == {
        "SAMPLE": 1,
        "SPLIT": 2,
        "INITIAL_WEIGHTS": 3,
        "BATCH_ORDER": 4,
        "EVALUATION_TRAIN": 5,
        "EVALUATION_TEST": 6,
        "EVALUATION_WEIGHTS": 7,
        "EVALUATION_ORDER": 8,
        "LAYOUT": 9,
        "SAMPLER": 10,
    }


@given(st.integers(0, 2**63 - 1), st.sampled_from(Stream), st.integers(0, 10_000))
def test_a_seed_is_repeatable_and_fits_what_pytorch_takes(seed: int, stream: Stream, index: int) -> None:
    value = derive(seed, stream, index)
    assert 0 <= value < 2**63
    assert derive(seed, stream, index) == value


def test_seeds_streams_and_indices_never_meet() -> None:
    found = [derive(seed, stream, index) for seed in range(5) for stream in Stream for index in range(20)]
    assert len(set(found)) == len(found)
