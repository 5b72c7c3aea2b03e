"""The verdict of a study: what its folds can and cannot tell about the best configuration.

Pure NumPy, no database: figures in, `Verdict` out. `search.verdict.reading` reads the figures of a study, and
`search.measure.calibration` measures on synthetic studies how far what is said here holds.

All configurations meet the same samples, splits, initial weights and batch orders, so they are compared fold by
fold. What is assumed of the folds depends on their `overlap`, the size of a fold's validation set over that of its
training set where folds share one sample:

* 0: they are independent draws from one pool. That holds by construction as long as the verdict is read as one about
  further samples of that pool.
* above: the mean over folds varies more than the folds show. Its variance is taken as (1/n + overlap) s² instead of
  s²/n (Nadeau & Bengio, "Inference for the generalization error", Machine Learning 52, 2003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pairsearch.search.verdict import rivals
from pairsearch.search.verdict.rivals import Group
from pairsearch.search.verdict.student import FloatArray, quantile

BOOTSTRAPS = 2000
"""Bootstrap samples of the folds behind the optimism."""
BLOCK = 256
"""Configurations whose bootstrap means are held at a time: some 4 MB."""
LARGE = 1e100
"""Values beyond it count as this."""
FEWEST_FOLDS = 5
"""With fewer nothing is excluded, and no interval is stated: what is said here was measured from five folds on."""


@dataclass(frozen=True, slots=True)
class Member:
    """A configuration that cannot be told from the best."""

    key: str
    mean: float
    """Mean of its values over folds."""
    difference: float
    """Mean minus the winner's mean; 0 for the winner."""
    p: float
    """p-value of the hypothesis that none is better (`search.verdict.rivals`); above alpha, 1 for the winner."""
    seconds: float
    """Wall-clock time in which all its folds were trained."""


@dataclass(frozen=True, slots=True)
class Others:
    """How much worse the configurations are that are not in the set."""

    count: int
    difference: float
    """Median of their means minus the winner's mean."""
    at_least: float
    """Median of the bounds below which, each with probability 1 − alpha, what it lies behind the best does not lie."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the folds say about the best configuration; values are minimised."""

    winner: str
    """Key of the configuration with the lowest mean."""
    mean: float
    """Its mean over folds."""
    interval: tuple[float, float] | None
    """Where its mean over further folds lies with probability 1 − alpha, corrected for its having been chosen."""
    optimism: float | None
    """By how much the winner's mean is expected to lie below what it would give on fresh folds, in the unit of
    the values, >= 0; None with a single fold."""
    regret: float | None
    """What taking the winner costs against the truly best configuration, at most, with probability 1 − alpha."""
    test: str
    """How the set was found."""
    alpha: float
    """The set of `members` misses the truly best configuration with at most this probability."""
    folds: int
    members: tuple[Member, ...]
    """The configurations that cannot be told from the best, lowest mean first; the winner is one of them."""
    others: Others | None
    """Those outside of the set; None where there is none."""
    cheapest: str
    """Key of the member that trained in the fewest seconds."""
    cheapest_within_one_error: str
    """Key of the fastest configuration whose mean lies within one standard error of the winner's: the rule of one
    standard error (Breiman, Friedman, Olshen & Stone, "Classification and Regression Trees", 1984, section 3.4.3)."""
    considered: int
    """Configurations with a value in every fold."""
    excluded: int
    """Configurations without one: they diverged, were pruned or failed."""

    @property
    def decisive(self) -> bool:
        """Whether there are folds enough to exclude anything."""
        return self.folds >= FEWEST_FOLDS


def judge(
    values: FloatArray,
    keys: Sequence[str],
    seconds: FloatArray,
    *,
    overlap: float = 0.0,
    alpha: float = 0.05,
    seed: int = 0,
    progress: Callable[[float], None] = lambda _: None,
) -> Verdict:
    """The verdict on configurations that share their folds. Equal arguments give an equal verdict.

    Args:
        values: (configurations, folds), lower is better; a row that is not finite throughout is excluded.
        keys: name of each configuration. Means that agree to twelve decimals are ties, which keep this order.
        seconds: (configurations,) wall-clock time of training.
        overlap: validation over training examples of a fold where folds share one sample, else 0.
        alpha: probability with which the set of members may miss the truly best configuration.
        seed: of the bootstrap behind the optimism.
        progress: is told from time to time which share of the test is done.

    Raises:
        ValueError: no row is finite throughout, or arguments that do not fit each other.
    """
    count, folds = values.shape
    if not len(keys) == len(seconds) == count:
        raise ValueError(f"expected keys and seconds of {count} configurations, as there are values")
    if not overlap >= 0:
        raise ValueError(f"overlap: expected a number >= 0, got {overlap!r}")
    kept = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(kept):
        raise ValueError(f"expected a configuration with a value in every fold, got none in {count}")
    # The squares of larger ones are not finite, and such are hopeless anyway.
    values_CK = np.clip(values[kept], -LARGE, LARGE)
    means = values_CK.mean(axis=1)
    # The last bits of a mean depend on the order of summation.
    order = np.argsort(np.round(means, 12), kind="stable")
    kept, means, values_CK = kept[order], means[order], values_CK[order]
    compared = _compared(values_CK, overlap, alpha, progress)
    inside, outside = np.flatnonzero(compared.p > alpha), np.flatnonzero(compared.p <= alpha)

    def cheapest(among: Sequence[int]) -> str:
        return keys[int(kept[min(among, key=lambda index: (float(seconds[kept[index]]), index))])]

    # The standard error of the winner's own mean; a single fold shows none.
    error = float(values_CK[0].std(ddof=1) * np.sqrt(1.0 / folds + overlap)) if folds > 1 else 0.0
    return Verdict(
        winner=keys[kept[0]],
        mean=float(means[0]),
        interval=compared.interval,
        optimism=None if folds == 1 else expected_optimism(_widened(values_CK, means, overlap), seed),
        regret=compared.regret,
        test=_test_name(folds, overlap),
        alpha=alpha,
        folds=folds,
        members=tuple(
            Member(
                keys[kept[i]],
                float(means[i]),
                float(means[i] - means[0]),
                float(compared.p[i]),
                float(seconds[kept[i]]),
            )
            for i in inside
        ),
        others=Others(
            len(outside),
            float(np.median(means[outside] - means[0])),
            float(np.median(compared.at_least[outside])),
        )
        if len(outside)
        else None,
        cheapest=cheapest(inside.tolist()),
        cheapest_within_one_error=cheapest(np.flatnonzero(means <= means[0] + error).tolist()),
        considered=len(kept),
        excluded=count - len(kept),
    )


def _test_name(folds: int, overlap: float) -> str:
    if folds < FEWEST_FOLDS:
        return f"none: fewer than {FEWEST_FOLDS} folds allow no test"
    corrected = ", the variance corrected for overlapping folds (Nadeau & Bengio 2003)" if overlap > 0 else ""
    return f"paired t on {folds} folds against the leaders on the other folds{corrected}"


def _widened(values_CK: FloatArray, means_C: FloatArray, overlap: float) -> FloatArray:
    """Values whose deviations are so wide that s²/n of them is the variance corrected for overlap.

    A bootstrap may then take the folds as independent.
    """
    if overlap == 0:
        return values_CK
    widening = np.sqrt(1.0 + values_CK.shape[1] * overlap)
    return np.asarray(means_C[:, None] + widening * (values_CK - means_C[:, None]))


@dataclass(frozen=True, slots=True)
class _Compared:
    """What the comparisons say, for configurations of which the lowest mean is the first."""

    p: FloatArray
    at_least: FloatArray
    interval: tuple[float, float] | None
    regret: float | None


def _compared(
    values_CK: FloatArray, overlap: float, alpha: float, progress: Callable[[float], None]
) -> _Compared:
    count, folds = values_CK.shape
    if folds < FEWEST_FOLDS:
        progress(1.0)
        return _Compared(np.ones(count), np.zeros(count), None, None)
    # As the p-values are, for few folds of skewed noise.
    critical = quantile(alpha / rivals.correction(overlap), folds - 1)
    error = np.sqrt(1.0 / folds + overlap)  # of a mean, in standard deviations of a fold
    own_K = values_CK[0]
    if count == 1:
        progress(1.0)
        reach = critical * own_K.std(ddof=1) * error
        return _Compared(np.ones(1), np.zeros(1), _around(own_K, reach, reach), 0.0)
    tested = rivals.Test.of(values_CK, overlap, alpha, progress)
    p = tested.p
    p[0] = 1.0
    inside = p > alpha
    group = Group.of(values_CK, inside) if inside.sum() > 1 else tested.leaders
    # Of its mean, what the set shares is as the folds show it; the rest has been chosen for being low.
    luck = max(critical * error, group.chance(values_CK, overlap, alpha / 2) / np.sqrt(folds))
    chosen = max((own_K - group.mean).std(ddof=1), group.spread)
    shared = group.mean.std(ddof=1)
    below = critical * error * np.hypot(chosen, shared)
    above = np.hypot(luck * chosen, critical * error * shared)
    from_others_CK = own_K - values_CK[inside]
    spread_C = np.maximum(from_others_CK.std(axis=1, ddof=1), group.spread)
    # What overlapping folds have in common may have chosen the winner; nothing less than luck's bound covers that.
    reach = luck if overlap else critical * error
    regrets_C = from_others_CK.mean(axis=1) + reach * spread_C
    regret = float(regrets_C[1:].max(initial=0.0))
    return _Compared(
        p,
        tested.at_least,
        _around(own_K, below, above),
        regret,
    )


def _around(values_K: FloatArray, below: float, above: float) -> tuple[float, float]:
    return float(values_K.mean() - below), float(values_K.mean() + above)


def blocks(count: int) -> Iterator[slice]:
    """So many configurations in their order, a block at a time."""
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def expected_optimism(values_CK: FloatArray, seed: int = 0) -> float:
    """By how much the mean of the first configuration, the winner, is expected to flatter it.

    Bootstrap bias corrected cross-validation (Tsamardinos, Greasidou & Borboudakis, Machine Learning 107, 2018):
    each bootstrap sample of folds chooses its own winner, which is then judged on the folds left out of the
    sample, here by its difference from the winner of all folds. Tibshirani & Tibshirani's estimate (Annals of
    Applied Statistics 3, 2009) is not taken: it looks at the winners of single folds, which flatter more than the
    winner of all of them.

    Args:
        values_CK: (configurations, folds), the lowest mean first.
    """
    folds = values_CK.shape[1]
    random = np.random.default_rng(seed)
    weights_BK = random.multinomial(folds, np.full(folds, 1 / folds), size=BOOTSTRAPS) / folds
    chosen_B, lowest_B = np.zeros(len(weights_BK), np.intp), np.full(len(weights_BK), np.inf)
    for block in blocks(len(values_CK)):
        means_BC = weights_BK @ values_CK[block].T
        best_B = means_BC.argmin(axis=1)
        means_B = means_BC[np.arange(len(best_B)), best_B]
        lower_B = means_B < lowest_B
        lowest_B[lower_B], chosen_B[lower_B] = means_B[lower_B], block.start + best_B[lower_B]
    left_out_BK = weights_BK == 0.0
    some_B = left_out_BK.any(axis=1)
    if not some_B.any():
        return 0.0
    left_out_BK, chosen_B = left_out_BK[some_B], chosen_B[some_B]
    difference_BK = values_CK[chosen_B] - values_CK[0]
    judged_B = (left_out_BK * difference_BK).sum(axis=1) / left_out_BK.sum(axis=1)
    return max(0.0, float(judged_B.mean()))
