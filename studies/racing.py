"""Racing: stops a configuration as soon as its first folds show that it is not the best, at a known error rate.

After each fold from the third to the last but one, the figures of a configuration are compared fold by fold with a
weighted mean of the finished configurations, in which better ones weigh more. The weights of a fold come from the other
folds, so that selection introduces no bias: for the truly best configuration the expected differences are at most 0.
They are tested by one-sided t tests that share half of `ALPHA` equally. The truly best configuration is therefore lost
in at most about `ALPHA` of all studies, however many configurations there are, since only its own tests can lose it.

The weights are a soft minimum, exp(−λ · mean of the other folds), as in Zhang, Lee & Lei's set of configurations that
may be the best ("Winners with confidence", arXiv:2408.02060, 2024). λ is two over the median standard deviation of a
configuration over its folds, and less with fewer than ten folds, whose means are less certain. The error rate is
approximate, as a t test on few folds is; `benchmarks/racing.py` measures it.
"""

from __future__ import annotations

import math
from bisect import insort
from statistics import median

import numpy as np
import numpy.typing as npt

from pairsearch.studies.intervals import FloatArray, quantile

ALPHA = 0.05
FIRST = 3
"""Folds before the first test. With two folds the t test would have a single degree of freedom."""


def sharpness(folds: int) -> float:
    """Return λ in units of one over the median standard deviation of a configuration over its folds."""
    return 2.0 * min(1.0, (folds - 1) / 9)


def looks(folds: int) -> range:
    """Return the numbers of folds after which a configuration is tested, not the last, after which nothing is saved."""
    return range(FIRST, folds)


def thresholds(folds: int, alpha: float = ALPHA) -> FloatArray:
    """Return the t statistics above which a configuration is stopped: (folds,), after one fold, two folds and so on.

    The tests share half of the error rate. The other half makes up for noise that is skewed to the left, whose t
    statistics are larger than Student's (`benchmarks/racing.py`).
    """
    limits_K = np.full(folds, np.inf)
    for look in looks(folds):
        limits_K[look - 1] = quantile(alpha / 2 / len(looks(folds)), look - 1)
    return limits_K


def statistics(differences_CK: FloatArray, overlap: float = 0.0) -> FloatArray:
    """Return the t statistics of the first one, two, ... differences, both (configurations, folds).

    Where the differences do not vary, the statistic is NaN or infinite. `overlap` is that of validation with training
    examples, if folds share one sample (Nadeau & Bengio 2003).
    """
    count_K = np.arange(1, differences_CK.shape[1] + 1)
    mean_CK = differences_CK.cumsum(axis=1) / count_K
    # Relative to the first, so that figures far from zero lose no digits.
    about_CK = differences_CK - differences_CK[:, :1]
    squares_CK = (about_CK**2).cumsum(axis=1) - about_CK.cumsum(axis=1) ** 2 / count_K
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_CK = np.maximum(squares_CK, 0.0) / (count_K - 1)
        t_CK: FloatArray = mean_CK / np.sqrt(variance_CK * (1.0 / count_K + overlap))
    return t_CK


def _others(values_CK: FloatArray) -> FloatArray:
    """Return for each fold, the last axis, the mean over the other folds."""
    mean_CK: FloatArray = (values_CK.sum(axis=-1, keepdims=True) - values_CK) / (values_CK.shape[-1] - 1)
    return mean_CK


class Race:
    """The race of one study: its finished configurations, with which others are compared.

    Args:
        overlap: validation over training examples, if folds share one sample (Nadeau & Bengio 2003).
    """

    def __init__(self, folds: int, alpha: float = ALPHA, overlap: float = 0.0) -> None:
        self._limits_K = thresholds(folds, alpha)
        self._overlap = overlap
        self._sharpness = sharpness(folds)
        self._finished: list[FloatArray] = []
        self._deviations: list[float] = []
        # The deviation that λ was computed from; for each fold, the lowest mean over the other folds, to which weights
        # are relative, and the sums of weights and of weighted values.
        self._scale = math.nan
        self._lowest_K = self._weights_K = self._sums_K = np.zeros(folds)

    def add(self, values_K: FloatArray) -> None:
        """Add the figures of a finished configuration, (folds,); lower is better.

        All weights are computed anew if λ changes by a tenth.
        """
        self._finished.append(values_K)
        insort(self._deviations, float(values_K.std(ddof=1)))
        scale = max(median(self._deviations), 1e-300)
        others_K = _others(values_K)
        # The weight of a configuration far below the lowest mean would overflow.
        near = bool((others_K > self._lowest_K - 100 * self._scale).all())
        if 0.9 < scale / self._scale < 1.1 and near:
            added_K = np.exp(-self._sharpness / self._scale * (others_K - self._lowest_K))
            self._weights_K = self._weights_K + added_K
            self._sums_K = self._sums_K + added_K * values_K
        else:
            self._scale, finished_CK = scale, np.array(self._finished)
            others_CK = _others(finished_CK)
            self._lowest_K = others_CK.min(axis=0)
            weights_CK = np.exp(-self._sharpness / scale * (others_CK - self._lowest_K))
            self._weights_K, self._sums_K = weights_CK.sum(axis=0), (weights_CK * finished_CK).sum(axis=0)

    def stopped_after(self, values_CK: FloatArray) -> npt.NDArray[np.intp]:
        """Return after how many folds each configuration is stopped, 0 if it is not: (configurations,)."""
        over_CK = self._over(values_CK)
        return np.where(over_CK.any(axis=1), over_CK.argmax(axis=1) + 1, 0)

    def stops(self, values_K: FloatArray) -> bool:
        """Whether a configuration is stopped after its latest fold, whatever the tests of earlier folds said."""
        return bool(self._over(values_K[None])[0, -1])

    def _over(self, values_CK: FloatArray) -> npt.NDArray[np.bool_]:
        """Return after which folds the test stops each configuration: (configurations, folds so far)."""
        if not self._finished:
            return np.zeros(values_CK.shape, dtype=np.bool_)
        # The weights of each fold were computed from the other folds.
        folds, mean_K = values_CK.shape[1], self._sums_K / self._weights_K
        over_CK: npt.NDArray[np.bool_] = (
            statistics(values_CK - mean_K[:folds], self._overlap) > self._limits_K[:folds]
        )
        return over_CK

    def __call__(self, values_K: FloatArray) -> int:
        """Return `stopped_after` for one configuration on all folds (folds,), and add it if it is not stopped."""
        (after,) = self.stopped_after(values_K[None]).tolist()
        if not after:
            self.add(values_K)
        return int(after)
