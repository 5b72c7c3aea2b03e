"""Seeded random splits of positions, equal bit for bit to scikit-learn's with the same generator.

Importing scikit-learn would cost a worker more than a second and some 100 MB before its first configuration. The
splits are a few lines of NumPy; tests compare them with scikit-learn's own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


def hold_out(count: int, held_out: int, seed: int) -> tuple[Index, Index]:
    """Divide positions 0 to count − 1 at random into the rest and `held_out` others, as `train_test_split` does."""
    order = random_state(seed).permutation(count)
    return order[held_out:], order[:held_out]


def groups(count: int, folds: int, seed: int) -> list[Index]:
    """Divide positions 0 to count − 1 into sorted random groups of almost equal size, as a shuffled `KFold` does."""
    order = np.arange(count)
    random_state(seed).shuffle(order)
    return [np.sort(group) for group in np.array_split(order, folds)]


def stratified_groups(target: Index, folds: int, seed: int) -> list[Index]:
    """Divide positions into sorted random groups with equal shares of each class, as a shuffled `StratifiedKFold` does.

    `target`, (N,), is the class of each position; every class has at least `folds` positions.
    """
    random = random_state(seed)
    # Each class draws from the generator, so their order matters: it is that of their first appearance.
    classes, first, inverse = np.unique(target, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[inverse]
    in_order = np.sort(place)
    fold_of = np.empty(len(target), np.int64)
    for index in range(len(classes)):
        shares = [np.count_nonzero(in_order[fold::folds] == index) for fold in range(folds)]
        dealt = np.arange(folds).repeat(shares)
        random.shuffle(dealt)
        fold_of[place == index] = dealt
    return [np.flatnonzero(fold_of == fold) for fold in range(folds)]


def random_state(seed: int) -> np.random.RandomState:
    """Return a generator of the kind that scikit-learn uses. `SeedSequence` lets it take seeds of more than 32 bits."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
