"""The paper's problem: which images folds and rounds are drawn from, and how they are standardised."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from pairsearch.data.errors import DataError
from pairsearch.data.pairs import PairSet, standardise
from pairsearch.data.sources import Source
from pairsearch.studies.pairs.problem import Pairs
from pairsearch.studies.problem import Run

RESAMPLE: dict[str, Any] = {"validation_size": 5}
KFOLD: dict[str, Any] = {"protocol": "kfold", "validation_size": None}


def problem(source: Source, **settings: Any) -> Pairs:
    found = tiny.loaded(source=source, **settings).problem
    assert isinstance(found, Pairs)
    return found


def equal(one: PairSet, other: PairSet) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.indices, other.indices)


@pytest.mark.parametrize("settings", [RESAMPLE, KFOLD], ids=["resample", "kfold"])
def test_standardised_folds_are_scaled_by_their_own_training_pairs(
    digits_source: Source, settings: dict[str, Any]
) -> None:
    raw = problem(digits_source, **settings).folds(2, seed=3)
    standard = problem(digits_source, **settings, standardise=True).folds(2, seed=3)
    for one, other in zip(standard, raw, strict=True):
        train, validation = standardise(other.train, other.validation)
        assert equal(one.train, train)
        assert equal(one.validation, validation)
        assert not equal(one.train, other.train)


def test_rounds_draw_training_from_training_and_test_from_test_images(digits_source: Source) -> None:
    run, sizes = Run("round", 1, 2, 2, 3), {"train_pairs": 300, "test_pairs": 200}
    train, test = problem(digits_source, **sizes).round_pairs(run)
    assert (len(train), len(test)) == (300, 200)
    assert torch.equal(train.classes, digits_source.train_labels[train.indices])
    assert torch.equal(test.classes, digits_source.test_labels[test.indices])
    scaled = problem(digits_source, **sizes, standardise=True)
    for one, other in zip(scaled.round_pairs(run), standardise(train, test), strict=True):
        assert equal(one, other)
    assert equal(scaled.round_pairs(run, raw=True)[0], train)


@pytest.mark.parametrize(("field", "count"), [("train_pairs", 30_001), ("test_pairs", 5_001)])
def test_a_round_larger_than_mnist_names_its_own_field(mnist_source: Source, field: str, count: int) -> None:
    with pytest.raises(DataError, match=f"lower {field}$"):
        problem(mnist_source, **{field: count}).round_pairs(Run("round", 0, 1, 2))
