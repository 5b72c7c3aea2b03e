"""Racing: a configuration is stopped after the first folds that show that it is not the best, at a known error rate.

After each fold from the third to the last but one, its figures are compared fold by fold with a mean of the finished
configurations, weighted towards the better ones. For each fold the weights come from the other folds, so that having
been chosen flatters nobody: where the configuration truly is the best, its differences are 0 or less in expectation.
They are tested by a one-sided t test, at an equal part of half of `ALPHA` each time. So the truly best configuration is
lost in at most about `ALPHA` of all studies, however many configurations there are, as only its own tests can lose it.

The weights are a soft minimum, exp(−λ · mean of the other folds), as Zhang, Lee & Lei have them for the set of
configurations that may be the best ("Winners with confidence", arXiv:2408.02060, 2024), λ two over the median standard
deviation of a configuration over its folds; less with fewer than ten, whose means are less sure. The promise is
approximate, as a t test of few folds is: what was measured stands in docs/explanation/early-stopping.md.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from statistics import median

import numpy as np
import numpy.typing as npt
from scipy import stats

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.study_table import FloatArray, finished_folds

ALPHA = 0.05
FIRST = 3
"""Folds before the first test: of two, a t test has one degree of freedom."""


def sharpness(folds: int) -> float:
    """λ in units of one over the median standard deviation of a fold; what the published rates were measured with."""
    return 2.0 * min(1.0, (folds - 1) / 9)


def looks(folds: int) -> range:
    """After how many folds it is tested: from the third to the last but one, after which nothing is saved."""
    return range(FIRST, folds)


def thresholds(folds: int, alpha: float = ALPHA) -> FloatArray:
    """(folds,) the t statistic after so many folds, from one, above which a configuration is stopped.

    The looks share half of the error rate. The other half makes up for noise that is skewed to the left, whose t
    statistics are larger than Student's (`search.measure.racing`).
    """
    found = np.full(folds, np.inf)
    for look in looks(folds):
        found[look - 1] = stats.t.isf(alpha / 2 / len(looks(folds)), look - 1)
    return found


def statistics(differences_CK: FloatArray, overlap: float = 0.0) -> FloatArray:
    """(configurations, folds) the t statistic of the first so many differences; NaN or infinite where none vary.

    Args:
        overlap: validation over training examples, where folds share one sample (Nadeau & Bengio 2003).
    """
    count_K = np.arange(1, differences_CK.shape[1] + 1)
    mean_CK = differences_CK.cumsum(axis=1) / count_K
    # About the first, so that figures far from zero lose no digits.
    about_CK = differences_CK - differences_CK[:, :1]
    squares_CK = (about_CK**2).cumsum(axis=1) - about_CK.cumsum(axis=1) ** 2 / count_K
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_CK = np.maximum(squares_CK, 0.0) / (count_K - 1)
        found: FloatArray = mean_CK / np.sqrt(variance_CK * (1.0 / count_K + overlap))
    return found


def _others(values_CK: FloatArray) -> FloatArray:
    """Of each fold the mean over the others; any leading axes."""
    found: FloatArray = (values_CK.sum(axis=-1, keepdims=True) - values_CK) / (values_CK.shape[-1] - 1)
    return found


class Race:
    """The race of one study: its finished configurations, with which others are compared.

    Args:
        alpha: the error rate.
        overlap: validation over training examples, where folds share one sample (Nadeau & Bengio 2003).
    """

    def __init__(self, folds: int, alpha: float = ALPHA, overlap: float = 0.0) -> None:
        self._limits_K = thresholds(folds, alpha)
        self._overlap = overlap
        self._sharpness = sharpness(folds)
        self._finished: list[FloatArray] = []
        self._deviations: list[float] = []
        # The deviation that λ was made of, the lowest means over other folds that weights are relative to, and sums.
        self._scale = math.nan
        self._lowest_K = self._weights_K = self._sums_K = np.zeros(folds)

    def add(self, values_K: FloatArray) -> None:
        """One more is finished; lower is better. Weights are made anew where λ would be another by a tenth."""
        self._finished.append(values_K)
        insort(self._deviations, float(values_K.std(ddof=1)))
        scale = max(median(self._deviations), 1e-300)
        others_K = _others(values_K)
        # Far below what they are relative to, weights would overflow.
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
        """(configurations,) after how many folds each would be stopped, 0 where it is not.

        Args:
            values_CK: (configurations, folds so far), lower for the better.
        """
        if not self._finished:
            return np.zeros(len(values_CK), dtype=np.intp)
        # The weights of each fold are made of the other folds.
        folds, mean_K = values_CK.shape[1], self._sums_K / self._weights_K
        over_CK = statistics(values_CK - mean_K[:folds], self._overlap) > self._limits_K[:folds]
        return np.where(over_CK.any(axis=1), over_CK.argmax(axis=1) + 1, 0)

    def stops(self, values_K: FloatArray) -> bool:
        """Whether a configuration is stopped after its last fold so far, whatever was found after earlier ones."""
        if not self._finished:
            return False
        folds = len(values_K)
        mean_K = (self._sums_K / self._weights_K)[:folds]
        return bool(statistics((values_K - mean_K)[None], self._overlap)[0, -1] > self._limits_K[folds - 1])

    def __call__(self, values_K: FloatArray) -> int:
        """As `stopped_after` for one configuration on all folds; it is added where it is not stopped."""
        (after,) = self.stopped_after(values_K[None]).tolist()
        if not after:
            self.add(values_K)
        return int(after)


class Racer:
    """Asks the race of a stored study on behalf of a worker: whoever finished a configuration, all compare with it."""

    def __init__(self, database: Database, study: StoredStudy) -> None:
        self._database = database
        self._study = study
        self._sign = study.metric.sign
        self._race = Race(study.definition.folds, overlap=study.traits.overlap)
        self._known: set[str] = set()

    def should_stop(self, values: Sequence[float]) -> bool:
        """Whether a configuration is stopped after these folds, its first ones in their order.

        Raises:
            DatabaseAwayError: as `Database.read`.
        """
        if len(values) not in looks(self._study.definition.folds):
            return False
        with self._database.read() as connection:
            for key, found in finished_folds(connection, self._study, self._known).items():
                self._known.add(key)
                if np.isfinite(found).all():
                    self._race.add(self._sign * found)
        return self._race.stops(self._sign * np.array(values, dtype=np.float64))
