"""The verdict of a study: which configurations may be the best, and how sure that is.

This module is pure NumPy and knows no database. `search.verdict.study_verdict` reads the figures of a study, and
`benchmarks/calibration.py` measures the error rates of the verdict on synthetic studies.

All configurations meet the same samples, splits, initial weights and batch orders, so they are compared fold by fold.
The assumption about folds depends on `overlap`, the size of a fold's validation set over that of its training set if
folds share one sample:

* 0: folds are independent draws from one pool. This holds by construction if the verdict is understood to be about
  further samples of that pool.
* above 0: the mean over folds varies more than the folds show. Its variance is taken as (1/n + overlap) s² instead of
  s²/n (Nadeau & Bengio, "Inference for the generalization error", Machine Learning 52, 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pairsearch.search.verdict import rivals
from pairsearch.search.verdict.rivals import Group
from pairsearch.studies.intervals import FloatArray, quantile

BOOTSTRAPS = 2000
"""Bootstrap samples of the folds for the optimism."""
BLOCK = 256
"""Configurations whose bootstrap means are in memory at a time: some 4 MB."""
LARGE = 1e100
"""Values are clipped to this."""
FEWEST_FOLDS = 5
"""With fewer folds nothing is excluded and no interval is given: error rates were measured from five folds on."""


@dataclass(frozen=True, slots=True)
class Member:
    """A configuration that may be the best."""

    key: str
    mean: float
    """Mean of its values over folds."""
    difference: float
    """Its mean minus the winner's; 0 for the winner."""
    p: float
    """p-value of the hypothesis that no other is better (`search.verdict.rivals`): above alpha, 1 for the winner."""
    seconds: float
    """Wall-clock time of its training, all folds together."""


@dataclass(frozen=True, slots=True)
class Others:
    """The configurations outside the set, and how much worse they are."""

    count: int
    difference: float
    """Median of their means minus the winner's mean."""
    at_least: float
    """Median of lower bounds, each with probability 1 − alpha, of how much worse a configuration is than the best."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict about the best configuration; lower values are better."""

    winner: str
    """Key of the configuration with the lowest mean."""
    mean: float
    """The winner's mean over folds."""
    interval: tuple[float, float] | None
    """Interval of the winner's mean over further folds, with probability 1 − alpha, corrected for the selection."""
    optimism: float | None
    """How far the winner's mean is expected to lie below its mean on new folds, in the unit of the values; at least 0,
    None with a single fold."""
    regret: float | None
    """Upper bound, with probability 1 − alpha, of how much worse the winner is than the truly best configuration."""
    test: str
    """Description of the test that excluded configurations."""
    alpha: float
    """The set of `members` misses the truly best configuration with at most this probability."""
    folds: int
    """Number of folds."""
    members: tuple[Member, ...]
    """The configurations that may be the best, lowest mean first; the winner is one of them."""
    others: Others | None
    """The configurations outside the set; None if there are none."""
    cheapest: str
    """Key of the member with the shortest training time."""
    cheapest_within_one_error: str
    """Key of the fastest configuration whose mean lies within one standard error of the winner's: the rule of one
    standard error (Breiman, Friedman, Olshen & Stone, "Classification and Regression Trees", 1984, section 3.4.3)."""
    considered: int
    """Number of configurations with a value in every fold."""
    excluded: int
    """Number of configurations without: they diverged, were pruned or failed."""

    @property
    def decisive(self) -> bool:
        """Whether there are enough folds to exclude anything."""
        return self.folds >= FEWEST_FOLDS


def judge(
    values: FloatArray,
    keys: Sequence[str],
    seconds: FloatArray,
    *,
    overlap: float = 0.0,
    alpha: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """Judge configurations that share their folds. Equal arguments give an equal verdict.

    Args:
        values: (configurations, folds); lower is better. Rows with a value that is not finite are excluded.
        keys: name of each configuration. Means that agree to twelve decimals are ties, and keep this order.
        seconds: (configurations,) wall-clock time of training.
        overlap: validation over training examples of a fold if folds share one sample, else 0.
        alpha: probability with which the set of members may miss the truly best configuration.
        seed: of the bootstrap for the optimism.

    Raises:
        ValueError: no row is finite, or the arguments do not fit each other.
    """
    count, folds = values.shape
    if not len(keys) == len(seconds) == count:
        raise ValueError(f"expected keys and seconds of {count} configurations, as there are values")
    if not overlap >= 0:
        raise ValueError(f"overlap: expected a number >= 0, got {overlap!r}")
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha: expected a number >= 0 and < 1, got {alpha!r}")
    kept = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(kept):
        raise ValueError(f"expected a configuration with a value in every fold, got none in {count}")
    # The squares of larger values would not be finite, and configurations with such values are hopeless anyway.
    values_CK = np.clip(values[kept], -LARGE, LARGE)
    # The last bits of a mean depend on the order of summation.
    order = np.argsort(values_CK.mean(axis=1).round(12), kind="stable")
    kept, values_CK = kept[order], values_CK[order]
    means_C = values_CK.mean(axis=1)
    names = [keys[index] for index in kept.tolist()]
    times: list[float] = seconds[kept].tolist()
    compared = _compared(values_CK, overlap, alpha)
    inside, outside = np.flatnonzero(compared.p > alpha), np.flatnonzero(compared.p <= alpha)

    def cheapest(among: Sequence[int]) -> str:
        return names[min(among, key=lambda index: (times[index], index))]

    # The standard error of the winner's mean; a single fold has none.
    error = float(values_CK[0].std(ddof=1) * np.sqrt(1.0 / folds + overlap)) if folds > 1 else 0.0
    worse_C = means_C - means_C[0]
    others = None
    if len(outside):
        medians = (float(np.median(of_each[outside])) for of_each in (worse_C, compared.at_least))
        others = Others(len(outside), *medians)
    return Verdict(
        winner=names[0],
        mean=float(means_C[0]),
        interval=compared.interval,
        optimism=None if folds == 1 else expected_optimism(widened(values_CK, means_C, overlap), seed),
        regret=compared.regret,
        test=_test_name(folds, overlap),
        alpha=alpha,
        folds=folds,
        members=tuple(
            Member(names[i], float(means_C[i]), float(worse_C[i]), float(compared.p[i]), times[i])
            for i in inside
        ),
        others=others,
        cheapest=cheapest(inside.tolist()),
        cheapest_within_one_error=cheapest(np.flatnonzero(means_C <= means_C[0] + error).tolist()),
        considered=len(kept),
        excluded=count - len(kept),
    )


def _test_name(folds: int, overlap: float) -> str:
    if folds < FEWEST_FOLDS:
        return f"none: fewer than {FEWEST_FOLDS} folds allow no test"
    corrected = ", the variance corrected for overlapping folds (Nadeau & Bengio 2003)" if overlap > 0 else ""
    return f"paired t on {folds} folds against the leaders on the other folds{corrected}"


def widened(values_CK: FloatArray, means_C: FloatArray, overlap: float) -> FloatArray:
    """Widen the deviations so that their s²/n is the variance corrected for overlap: (configurations, folds).

    A bootstrap may then treat the folds as independent.
    """
    if overlap == 0:
        return values_CK
    widening = np.sqrt(1.0 + values_CK.shape[1] * overlap)
    return np.asarray(means_C[:, None] + widening * (values_CK - means_C[:, None]))


@dataclass(frozen=True, slots=True)
class _Compared:
    """The results of the comparisons; the configuration with the lowest mean is the first."""

    p: FloatArray
    at_least: FloatArray
    interval: tuple[float, float] | None
    regret: float | None


def _compared(values_CK: FloatArray, overlap: float, alpha: float) -> _Compared:
    count, folds = values_CK.shape
    if folds < FEWEST_FOLDS:
        return _Compared(np.ones(count), np.zeros(count), None, None)
    # Corrected like the p-values, for few folds of skewed noise; of a mean, in standard deviations of a fold.
    error = quantile(alpha / rivals.correction(overlap), folds - 1) * np.sqrt(1.0 / folds + overlap)
    own_K = values_CK[0]
    mean = float(own_K.mean())
    if count == 1:
        reach = float(error * own_K.std(ddof=1))
        return _Compared(np.ones(1), np.zeros(1), (mean - reach, mean + reach), 0.0)
    tested = rivals.Test.of(values_CK, overlap, alpha)
    p = tested.p
    p[0] = 1.0
    inside = p > alpha
    group = Group.of(values_CK, inside) if inside.sum() > 1 else tested.leaders
    # The winner's mean has two parts: that of the set, whose error the folds show, and the rest, which was selected for
    # being low.
    luck = max(error, group.chance(values_CK, overlap, alpha / 2) / np.sqrt(folds))
    chosen = max((own_K - group.mean).std(ddof=1), group.spread)
    shared = group.mean.std(ddof=1)
    below = float(error * np.hypot(chosen, shared))
    above = float(np.hypot(luck * chosen, error * shared))
    from_others_CK = own_K - values_CK[inside]
    spread_C = np.maximum(from_others_CK.std(axis=1, ddof=1), group.spread)
    # With overlapping folds, their common noise may have selected the winner, which only the bound `luck` covers.
    regrets_C = from_others_CK.mean(axis=1) + (luck if overlap else error) * spread_C
    regret = float(regrets_C[1:].max(initial=0.0))
    return _Compared(p, tested.at_least, (mean - below, mean + above), regret)


def expected_optimism(values_CK: FloatArray, seed: int = 0) -> float:
    """Estimate by how much the mean of the winner, the first configuration, is too low because it was selected.

    This is bootstrap bias corrected cross-validation (Tsamardinos, Greasidou & Borboudakis, Machine Learning 107,
    2018): each bootstrap sample of folds selects its own winner, which is then judged on the folds outside the sample,
    here by its difference from the winner of all folds. Tibshirani & Tibshirani's estimate (Annals of Applied
    Statistics 3, 2009) uses the winners of single folds, whose bias is larger than that of the winner of all folds.
    """
    folds = values_CK.shape[1]
    random = np.random.default_rng(seed)
    weights_BK = random.multinomial(folds, np.full(folds, 1 / folds), size=BOOTSTRAPS) / folds
    chosen_B, lowest_B = np.zeros(len(weights_BK), np.intp), np.full(len(weights_BK), np.inf)
    for start in range(0, len(values_CK), BLOCK):
        means_BC = weights_BK @ values_CK[start : start + BLOCK].T
        best_B = means_BC.argmin(axis=1)
        means_B = means_BC[np.arange(len(best_B)), best_B]
        lower_B = means_B < lowest_B
        lowest_B[lower_B], chosen_B[lower_B] = means_B[lower_B], start + best_B[lower_B]
    left_out_BK = weights_BK == 0.0
    some_B = left_out_BK.any(axis=1)
    left_out_BK, chosen_B = left_out_BK[some_B], chosen_B[some_B]
    difference_BK = values_CK[chosen_B] - values_CK[0]
    judged_B = (left_out_BK * difference_BK).sum(axis=1) / left_out_BK.sum(axis=1)
    return max(0.0, float(judged_B.mean()))
