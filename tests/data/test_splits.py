"""Splits equal those that scikit-learn makes with the same generator, position by position."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from pairsearch.data.splits import groups, hold_out, random_state, stratified_groups

SEEDS = st.integers(0, 2**63 - 1)
some_examples = settings(deadline=None, max_examples=50)


@some_examples
@given(data=st.data(), count=st.integers(2, 500), seed=SEEDS)
def test_positions_are_held_out_as_train_test_split_does(data, count, seed):
    held_out = data.draw(st.integers(1, count - 1), label="held_out")
    expected = train_test_split(np.arange(count), test_size=held_out, random_state=random_state(seed))
    for ours, theirs in zip(hold_out(count, held_out, seed), expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.tolist() == theirs.tolist()


@some_examples
@given(data=st.data(), count=st.integers(2, 500), seed=SEEDS)
def test_groups_are_those_of_a_shuffled_k_fold(data, count, seed):
    folds = data.draw(st.integers(2, count), label="folds")
    splitter = KFold(folds, shuffle=True, random_state=random_state(seed))
    expected = [group.tolist() for _, group in splitter.split(np.zeros(count))]
    assert [group.tolist() for group in groups(count, folds, seed)] == expected


@some_examples
@given(data=st.data(), folds=st.integers(2, 12), classes=st.integers(1, 4), seed=SEEDS)
def test_stratified_groups_are_those_of_a_shuffled_stratified_k_fold(data, folds, classes, seed):
    counts = data.draw(st.lists(st.integers(folds, 60), min_size=classes, max_size=classes), label="counts")
    target = np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), counts))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=random_state(seed))
    expected = [group.tolist() for _, group in splitter.split(np.zeros(len(target)), target)]
    assert [group.tolist() for group in stratified_groups(target, folds, seed)] == expected
