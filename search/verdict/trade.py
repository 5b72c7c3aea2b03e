"""The Pareto front over several figures, and how far it depends on the folds. This module is pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairsearch.search.verdict.judging import LARGE, widened
from pairsearch.studies.intervals import FloatArray

Places = npt.NDArray[np.intp]

DRAWS, FEWEST_DRAWS = 500, 20
"""Bootstrap samples of the folds. A large front has fewer of them, or none below the second."""
WORK = 300_000_000
"""Comparisons of members with configurations in all samples together: about a second."""


@dataclass(frozen=True, slots=True)
class Front:
    """The configurations on the Pareto front: for none is another better in a figure and no worse in the others."""

    members: list[int]
    """Their places, the best by the first figure first."""
    stays: list[float | None]
    """In which share of the bootstrap samples each of them is on the front again; None for each without samples."""
    draws: int
    """Number of bootstrap samples; 0 where no figure varies by fold, or the front is too large."""


def find_front(figures: Sequence[FloatArray], overlap: float, seed: int) -> Front:
    """Find the front of the means over folds, and again in bootstrap samples of the folds.

    A sample has the same folds for all configurations and figures, since these are compared fold by fold.

    Args:
        figures: finite values, of which lower ones are better: (configurations, folds) for each figure, or
            (configurations, 1) for one that does not vary by fold.
        overlap: validation over training examples of a fold if folds share one sample, else 0. Deviations are widened
            by it as for the verdict.
        seed: of the samples.
    """
    folds = max(values_CK.shape[1] for values_CK in figures)
    values_FCK = np.stack(
        [np.broadcast_to(values_CK, (len(values_CK), folds)) for values_CK in figures]
    ).clip(-LARGE, LARGE)
    largest_FC = np.abs(values_FCK).max(axis=2)
    means_FC = _rounded(values_FCK.mean(axis=2), largest_FC)
    places = on_front(means_FC)
    places = places[np.lexsort(means_FC[::-1, places])]
    values_FCK = np.stack([widened(*one, overlap) for one in zip(values_FCK, means_FC, strict=True)])
    rivals = _rivals(values_FCK, places)
    draws = min(DRAWS, WORK // (len(rivals) * len(places)))
    if folds == 1 or draws < FEWEST_DRAWS:
        return Front(places.tolist(), [None] * len(places), 0)
    stayed_C = np.zeros(means_FC.shape[1])
    weights_BK = np.random.default_rng(seed).multinomial(folds, np.full(folds, 1 / folds), size=draws) / folds
    values_FCK, means_FC = np.ascontiguousarray(values_FCK[:, rivals]), means_FC[:, rivals]
    largest_FC = largest_FC[:, rivals]
    varies = np.array([[values_CK.shape[1] > 1] for values_CK in figures])
    for weights_K in weights_BK:
        drawn_FC = np.where(varies, _rounded(values_FCK @ weights_K, largest_FC), means_FC)
        stayed_C[rivals[on_front(drawn_FC)]] += 1
    return Front(places.tolist(), (stayed_C[places] / draws).tolist(), draws)


def _rounded(means_FC: FloatArray, largest_FC: FloatArray) -> FloatArray:
    """Round means of any size to 12 digits, as their last bits depend on the order of summation; next to none is 0."""
    digits_FC, exponents_FC = np.frexp(np.where(np.abs(means_FC) < 1e-15 * largest_FC, 0.0, means_FC))
    return np.ldexp(digits_FC.round(12), exponents_FC)


def _rivals(values_FCK: FloatArray, places: Places) -> Places:
    """Leave out whom one member of the front beats in every fold, since it does so in each sample too."""
    left = np.arange(values_FCK.shape[1])
    for place in places[:: -(-len(places) // 100)].tolist():
        beaten = (values_FCK[:, left] >= values_FCK[:, [place]]).all(axis=(0, 2))
        left = left[~beaten | np.isin(left, places)]
    return left


def on_front(points_FC: FloatArray) -> Places:
    """Return who is on the front of figures without folds, (figures, configurations); equals are on it together."""
    # Low sums come first, since these beat many; the front does not depend on it.
    left: Places = points_FC.sum(axis=0).argsort()
    points, place = points_FC[:, left], 0
    while place < len(left):
        one = points[:, [place]]
        stay = (points < one).any(axis=0) | (points == one).all(axis=0)
        place = int(np.count_nonzero(stay[:place])) + 1
        if not stay.all():
            left, points = left[stay], points[:, stay]
    return left
