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
import numpy.typing as npt

from pairsearch.search.verdict.sign_flips import FloatArray, adjusted_p, test_name

IntArray = npt.NDArray[np.intp]

BOOTSTRAPS = 2000
"""Bootstrap samples of the folds; a probability of one half then has a standard error of about 0.01."""
TOP = 10
"""How many configurations are given a probability of being the best."""
BLOCK = 256
"""Configurations whose bootstrap means are held at a time: some 4 MB."""


@dataclass(frozen=True, slots=True)
class Member:
    """A configuration that cannot be told from the best."""

    key: str
    mean: float
    """Mean of its values over folds."""
    difference: float
    """Mean minus the winner's mean; 0 for the winner."""
    p: float
    """Adjusted p-value of the hypothesis that no configuration is better; above alpha."""
    seconds: float
    """Wall-clock time in which all its folds were trained."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the ten configurations with the lowest means."""

    key: str
    mean: float
    probability_best: float
    """Probability that its true mean is the lowest of all configurations considered."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the folds say about the best configuration; values are minimised."""

    winner: str
    """Key of the configuration with the lowest mean."""
    test: str
    """Name of the test and of its correction for multiplicity."""
    alpha: float
    """The set of `members` misses the truly best configuration with at most this probability."""
    folds: int
    members: tuple[Member, ...]
    """The configurations that cannot be told from the best, lowest mean first; the winner is one of them."""
    cheapest: str
    """Key of the member that trained in the fewest seconds."""
    candidates: tuple[Candidate, ...]
    """The ten lowest means (fewer where fewer were considered), lowest first."""
    optimism: float | None
    """By how much the winner's mean is expected to lie below what it would give on fresh folds, in the unit of
    the values, >= 0; None with a single fold."""
    considered: int
    """Configurations with a value in every fold."""
    excluded: int
    """Configurations without one: they diverged, were pruned or failed."""

    @property
    def decisive(self) -> bool:
        """Whether so many folds could exclude anything: the smallest p-value of n folds is 2**-n."""
        return 2.0**-self.folds <= self.alpha


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
        seed: of the bootstrap, and of the sign flips where there are more than ten folds.
        progress: is told from time to time which share of the configurations is tested.

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
    means = values[kept].mean(axis=1)
    # The last bits of a mean depend on the order of summation.
    order = np.argsort(np.round(means, 12), kind="stable")
    kept, means = kept[order], means[order]
    values_CK = values[kept]
    if overlap > 0:
        # Deviations so wide that s²/n of them is the corrected variance: all that follows may then take the
        # folds as independent, and the paired t-statistic is the corrected resampled one.
        widening = np.sqrt(1.0 + folds * overlap)
        values_CK = means[:, None] + widening * (values_CK - means[:, None])
    random = np.random.default_rng(seed)
    p = adjusted_p(values_CK, random, progress)
    inside = np.flatnonzero(p > alpha)
    if folds == 1:
        probabilities, optimism = np.full(len(kept), 1 / len(kept)), None
    else:
        weights_BK = random.multinomial(folds, np.full(folds, 1 / folds), size=BOOTSTRAPS) / folds
        probabilities = probability_best(values_CK, inside, weights_BK)
        optimism = expected_optimism(values_CK, weights_BK)

    def cost(index: int) -> tuple[float, int]:
        return float(seconds[kept[index]]), index

    return Verdict(
        winner=keys[kept[0]],
        test=test_name(folds, overlap),
        alpha=alpha,
        folds=folds,
        members=tuple(
            Member(
                keys[kept[i]],
                float(means[i]),
                float(means[i] - means[0]),
                float(p[i]),
                float(seconds[kept[i]]),
            )
            for i in inside
        ),
        cheapest=keys[kept[min(inside.tolist(), key=cost)]],
        candidates=tuple(
            Candidate(keys[kept[i]], float(means[i]), float(probabilities[i]))
            for i in range(min(TOP, len(kept)))
        ),
        optimism=optimism,
        considered=len(kept),
        excluded=count - len(kept),
    )


def probability_best(values_CK: FloatArray, inside: IntArray, weights_BK: FloatArray) -> FloatArray:
    """For each configuration the probability that its true mean is the lowest, (configurations,), summing to 1.

    The share of bootstrap samples of folds (Efron, Annals of Statistics 7, 1979) in which its mean is the lowest.
    The lowest of many noisy means flatter, and the plain share takes that for merit. So the means of the
    configurations `inside` the confidence set, and their deviations, are first drawn towards each other by as much of
    their spread as is noise (parametric empirical Bayes: Morris, JASA 78, 1983).

    Args:
        weights_BK: (bootstrap samples, folds), rows sum to 1.
    """
    count, folds = values_CK.shape
    centred_CK = values_CK - values_CK[inside].mean(axis=0)
    means = centred_CK.mean(axis=1)
    shrunk, kept = means.copy(), np.ones(count)
    if len(inside) > 2:
        noise = centred_CK[inside].var(axis=1, ddof=1) / folds
        centre, kept[inside] = shrinkage(means[inside], noise)
        shrunk[inside] = centre + kept[inside] * (means[inside] - centre)
    # The bootstrap's variance of a mean lacks the factor n / (n − 1).
    widening = np.sqrt(folds / (folds - 1))

    def drawn() -> Iterator[tuple[slice, FloatArray]]:
        for block in blocks(count):
            deviations_BC = (weights_BK @ centred_CK[block].T - means[block]) * (
                widening * np.sqrt(kept[block])
            )
            yield block, shrunk[block] + deviations_BC

    lowest_B, largest = np.full(len(weights_BK), np.inf), 0.0
    for _, drawn_BC in drawn():
        np.minimum(lowest_B, drawn_BC.min(axis=1), out=lowest_B)
        largest = max(largest, float(np.abs(drawn_BC).max()))
    # Equal ones share a sample.
    limit_B = (lowest_B + 1e-12 * (1.0 + largest))[:, None]
    sharing_B = np.zeros(len(weights_BK))
    for _, drawn_BC in drawn():
        sharing_B += (drawn_BC <= limit_B).sum(axis=1)
    found = np.empty(count)
    for block, drawn_BC in drawn():
        found[block] = (1.0 / sharing_B) @ (drawn_BC <= limit_B) / len(weights_BK)
    return found


def blocks(count: int) -> Iterator[slice]:
    """So many configurations in their order, a block at a time."""
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def shrinkage(means: FloatArray, noise: FloatArray) -> tuple[float, FloatArray]:
    """The centre that means are drawn to, and the share of its distance to it that each keeps (Morris 1983).

    Args:
        means: (members,), at least three.
        noise: (members,) variances of the means.
    """
    count, least = len(means), 1e-9 * float(noise.mean()) + 1e-300
    spread = float(means.var(ddof=1))
    for _ in range(30):
        weights = 1.0 / (spread + noise + least)
        weights /= weights.sum()
        centre = float(weights @ means)
        spread = max(0.0, float(weights @ (count / (count - 1) * (means - centre) ** 2 - noise)))
    return centre, (spread + least) / (spread + noise + least)


def expected_optimism(values_CK: FloatArray, weights_BK: FloatArray) -> float:
    """By how much the mean of the first configuration, the winner, is expected to flatter it.

    Bootstrap bias corrected cross-validation (Tsamardinos, Greasidou & Borboudakis, Machine Learning 107, 2018):
    each bootstrap sample of folds chooses its own winner, which is then judged on the folds left out of the
    sample, here by its difference from the winner of all folds. Tibshirani & Tibshirani's estimate (Annals of
    Applied Statistics 3, 2009) is not taken: it looks at the winners of single folds, which flatter more than the
    winner of all of them.

    Args:
        values_CK: (configurations, folds), the lowest mean first.
        weights_BK: (bootstrap samples, folds).
    """
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
