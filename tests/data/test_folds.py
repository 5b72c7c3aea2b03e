"""Folds have the right sizes, share no image between training and validation, and refuse bad arguments."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pairsearch.data.errors import DataError
from pairsearch.data.pairs import Fold, PairSet, draw, make_folds
from pairsearch.data.sources import Source

SEEDS = st.integers(0, 2**63 - 1)
PROTOCOLS = ("resample", "kfold")
some_examples = settings(deadline=None, max_examples=25)


@pytest.fixture(scope="module", params=["mnist", "digits"])
def source(request: pytest.FixtureRequest) -> Source:
    return request.getfixturevalue(f"{request.param}_source")


def plan(protocol: str = "resample", **changes):
    """Valid arguments of `make_folds`."""
    held_out = 20 if protocol == "resample" else None
    return {
        "folds": 3,
        "sample_size": 100,
        "validation_size": held_out,
        "sample_seeds": [11, 12, 13],
        "split_seeds": [21, 22, 23],
        **changes,
    }


def images_of(pairs: PairSet) -> set[int]:
    return set(pairs.indices.flatten().tolist())


def tensors(folds: list[Fold]) -> list[torch.Tensor]:
    return [
        getattr(pairs, field.name)
        for fold in folds
        for pairs in (fold.train, fold.validation)
        for field in dataclasses.fields(PairSet)
    ]


def same(first: list[Fold], second: list[Fold]) -> bool:
    pairs = zip(tensors(first), tensors(second), strict=True)
    return len(first) == len(second) and all(torch.equal(one, other) for one, other in pairs)


# Up to 1,200 pairs: the digits have 1,297 training images, so both sides of the point (648) are covered where
# they begin to repeat.
@some_examples
@given(data=st.data(), sample_size=st.integers(2, 1_200), folds=st.integers(1, 4), first_seed=SEEDS)
def test_resample_holds_out_pairs_that_share_no_image_with_training(
    source, data, sample_size, folds, first_seed
):
    validation_size = data.draw(st.integers(1, sample_size - 1), label="validation_size")
    seeds = [(first_seed + fold) % 2**63 for fold in range(folds)]
    made = make_folds(
        source,
        folds=folds,
        sample_size=sample_size,
        validation_size=validation_size,
        sample_seeds=seeds,
        split_seeds=seeds[::-1],
    )
    assert len(made) == folds
    for fold in made:
        assert len(fold.train) == sample_size - validation_size
        assert len(fold.validation) == validation_size
        assert images_of(fold.train).isdisjoint(images_of(fold.validation))


@some_examples
@given(sample_size=st.integers(40, 1_200), folds=st.integers(2, 10), sample_seed=SEEDS, split_seed=SEEDS)
def test_kfold_validates_each_pair_of_one_sample_once_on_unseen_images(
    source, sample_size, folds, sample_seed, split_seed
):
    changes = {"folds": folds, "sample_size": sample_size}
    try:
        made = make_folds(
            source, **plan("kfold", sample_seeds=[sample_seed], split_seeds=[split_seed], **changes)
        )
    except DataError as error:  # a small sample that happens to have few pairs of one target
        assume("stratified on the target" not in str(error))
        raise
    assert len(made) == folds
    sizes = [len(fold.validation) for fold in made]
    assert sum(sizes) == sample_size
    assert max(sizes) - min(sizes) <= 1
    for fold in made:
        assert len(fold.train) + len(fold.validation) == sample_size
        assert images_of(fold.train).isdisjoint(images_of(fold.validation))
    whole = sorted(pair for fold in made for pair in map(tuple, fold.validation.indices.tolist()))
    for fold in made:
        pairs = [*fold.train.indices.tolist(), *fold.validation.indices.tolist()]
        assert sorted(map(tuple, pairs)) == whole


def test_kfold_is_stratified_on_the_target(mnist_source):
    made = make_folds(mnist_source, **plan("kfold", folds=10, sample_size=1_000))
    ones = [int(fold.validation.target.sum()) for fold in made]
    assert max(ones) - min(ones) <= 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_paper_s_sizes_work_on_either_source(source, protocol):
    seeds = range(10)
    held_out = 200 if protocol == "resample" else None
    plan_of_ten = plan(protocol, folds=10, sample_size=1_000, validation_size=held_out)
    made = make_folds(source, **{**plan_of_ten, "sample_seeds": seeds, "split_seeds": seeds})
    expected = (800, 200) if protocol == "resample" else (900, 100)
    assert [(len(fold.train), len(fold.validation)) for fold in made] == [expected] * 10


def test_a_repeating_source_divides_its_images_in_the_proportion_of_the_pairs(digits_source):
    (fold,) = make_folds(digits_source, **plan(folds=1, sample_size=5_000, validation_size=1_000))
    # 1,297 images, a fifth of them (259) for validation; an odd number leaves one out in each pass.
    assert len(images_of(fold.validation)) == 259
    assert len(images_of(fold.train)) == 1_297 - 259


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("sample_size", [100, 900])
def test_seeds_settle_the_folds(source, protocol, sample_size):
    made = make_folds(source, **plan(protocol, sample_size=sample_size))
    assert same(made, make_folds(source, **plan(protocol, sample_size=sample_size)))
    for field in ("sample_seeds", "split_seeds"):
        other = make_folds(source, **plan(protocol, sample_size=sample_size, **{field: [31, 32, 33]}))
        assert not same(made, other)


@pytest.mark.parametrize("sample_size", [100, 900])
def test_a_resample_fold_depends_on_its_own_seeds_alone(source, sample_size):
    made = make_folds(source, **plan(sample_size=sample_size))
    alone = make_folds(source, **plan(folds=1, sample_size=sample_size, sample_seeds=[13], split_seeds=[23]))
    assert same(made[2:], alone)


class TrainingOnly(Source):
    """A source whose test images cannot be read after its construction."""

    def __getattribute__(self, name: str):
        if name.startswith("test_") and "sealed" in object.__getattribute__(self, "__dict__"):
            raise AssertionError(f"a search read {name}")
        return object.__getattribute__(self, name)


@settings(deadline=None, max_examples=15)
@given(protocol=st.sampled_from(PROTOCOLS), sample_size=st.sampled_from([60, 900]), seed=SEEDS)
def test_test_images_never_enter_a_search(source, protocol, sample_size, seed):
    values = {field.name: getattr(source, field.name) for field in dataclasses.fields(Source)}
    sealed = TrainingOnly(**values)
    object.__setattr__(sealed, "sealed", True)
    with pytest.raises(AssertionError, match="a search read test_images"):
        draw(sealed, "test", 1, 0)
    for fold in make_folds(
        sealed, **plan(protocol, folds=2, sample_size=sample_size, sample_seeds=[seed, 1])
    ):
        for pairs in (fold.train, fold.validation):
            assert torch.equal(pairs.classes, source.train_labels[pairs.indices])


@pytest.mark.parametrize(
    ("protocol", "changes", "message"),
    [
        ("kfold", {"folds": 1}, "folds: 1 given; kfold needs at least 2"),
        ("kfold", {"folds": 99}, "folds: 99 given; stratified on the target"),
        ("kfold", {"folds": 700, "sample_size": 900, "sample_seeds": [1]}, "allow at most 648"),
    ],
)
def test_a_bad_value_is_refused_with_the_field_named(digits_source, protocol, changes, message):
    with pytest.raises(DataError, match=message):
        make_folds(digits_source, **plan(protocol, **changes))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_sample_larger_than_mnist_is_refused(mnist_source, protocol):
    with pytest.raises(DataError, match=r"30001 pairs need 60002 distinct images.*lower sample_size"):
        make_folds(mnist_source, **plan(protocol, sample_size=30_001))


def test_a_handful_of_repeating_images_still_gives_folds_or_a_clear_refusal(digits_source):
    few = {name: getattr(digits_source, f"train_{name}")[:4] for name in ("images", "labels")}
    four = Source("four", few["images"], few["labels"], few["images"], few["labels"], repeats=True)
    for fold in make_folds(four, **plan(validation_size=99)) + make_folds(four, **plan("kfold", folds=2)):
        assert images_of(fold.train).isdisjoint(images_of(fold.validation))
    three = Source("three", few["images"][:3], few["labels"][:3], few["images"], few["labels"], repeats=True)
    with pytest.raises(DataError, match="three has 3 training images; expected at least 4"):
        make_folds(three, **plan())
    with pytest.raises(DataError, match="folds: 2 given; 100 pairs of 3 three images allow at most 1"):
        make_folds(three, **plan("kfold", folds=2))
