"""Random splits of positions, seeded: the ones that scikit-learn makes of the same seed, bit for bit.

scikit-learn takes more than a second and some 100 MB to import, which a worker would pay before its first
configuration. Its splits are a few lines of NumPy; the tests hold these to scikit-learn's own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


def hold_out(count: int, held_out: int, seed: int) -> tuple[Index, Index]:
    """Positions 0 to count − 1 as those that stay and `held_out` others, in random order: `train_test_split`."""
    order = random_state(seed).permutation(count)
    return order[held_out:], order[:held_out]


def groups(count: int, folds: int, seed: int) -> list[Index]:
    """Positions 0 to count − 1 in `folds` random groups of almost equal size, each sorted: a shuffled `KFold`."""
    order = np.arange(count)
    random_state(seed).shuffle(order)
    return [np.sort(group) for group in np.array_split(order, folds)]


def stratified_groups(target: Index, folds: int, seed: int) -> list[Index]:
    """Positions in `folds` random groups with equal shares of each class, each sorted: a shuffled `StratifiedKFold`.

    Args:
        target: (N,) the class of each position; every class has at least `folds` of them.
    """
    random = random_state(seed)
    # Classes come in the order in which they appear, as each draws from the generator.
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
    """scikit-learn's kind of generator, seeded through a SeedSequence: by itself it takes 32 bits only."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
