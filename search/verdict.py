"""The verdict of a study: what its folds can and cannot tell about the best configuration.

Pure NumPy, no database: figures in, `Verdict` out. `search.judging` reads the figures of a study, and
`search.calibration` measures on synthetic studies how far what is said here holds.

All configurations meet the same samples, splits, initial weights and batch orders, so they are compared fold by
fold. What is assumed of the folds depends on the protocol:

* `resample`: they are independent draws from one pool of training images. That holds by construction as long as
  the verdict is read as one about further samples of that pool; two samples of 2,000 of MNIST's 60,000 images
  share about 67 of them.
* `kfold`: they share their one sample, and the mean over folds varies more than the folds show. Its variance is
  taken as (1/n + test/train) s² instead of s²/n (Nadeau & Bengio, "Inference for the generalization error",
  Machine Learning 52, 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
SingleArray = npt.NDArray[np.float32]

FLIPS = 1024
"""Sign flips of the folds: all of them up to ten folds, so many drawn at random beyond."""
BOOTSTRAPS = 2000
"""Bootstrap samples of the folds; a probability of one half then has a standard error of about 0.01."""
TOP = 10
"""How many configurations are given a probability of being the best."""
SAME = 1e-5
"""Statistics in single precision that lie closer than this count as equal."""


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
    protocol: str,
    test_fraction: float,
    alpha: float = 0.05,
    seed: int = 0,
    sizes: Sequence[float] | None = None,
) -> Verdict:
    """The verdict on configurations that share their folds. Equal arguments give an equal verdict.

    Args:
        values: (configurations, folds), lower is better; a row that is not finite throughout is excluded.
        keys: name of each configuration. Means that agree to twelve decimals are ties, which keep this order.
        seconds: (configurations,) wall-clock time of training.
        protocol: `resample` or `kfold` (`data.folds`).
        test_fraction: validation pairs over training pairs of a fold; read for `kfold` alone.
        alpha: probability with which the set of members may miss the truly best configuration.
        seed: of the bootstrap, and of the sign flips where there are more than ten folds.
        sizes: breaks ties in seconds, for example parameter counts.

    Raises:
        ValueError: no row is finite throughout, or arguments that do not fit each other.
    """
    count, folds = values.shape
    if not len(keys) == len(seconds) == count or (sizes is not None and len(sizes) != count):
        raise ValueError(f"expected keys, seconds and sizes of {count} configurations, as there are values")
    if protocol not in ("resample", "kfold"):
        raise ValueError(f"protocol: expected 'resample' or 'kfold', got {protocol!r}")
    kept = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(kept):
        raise ValueError(f"expected a configuration with a value in every fold, got none in {count}")
    means = values[kept].mean(axis=1)
    # The last bits of a mean depend on the order of summation.
    order = np.argsort(np.round(means, 12), kind="stable")
    kept, means = kept[order], means[order]
    values_CK = values[kept]
    if protocol == "kfold":
        # Deviations so wide that s²/n of them is the corrected variance: all that follows may then take the
        # folds as independent, and the paired t-statistic is the corrected resampled one.
        widening = np.sqrt(1.0 + folds * test_fraction)
        values_CK = means[:, None] + widening * (values_CK - means[:, None])
    random = np.random.default_rng(seed)
    p = adjusted_p(values_CK, random)
    inside = np.flatnonzero(p > alpha)
    if folds == 1:
        probabilities, optimism = np.full(len(kept), 1 / len(kept)), None
    else:
        weights_BK = random.multinomial(folds, np.full(folds, 1 / folds), size=BOOTSTRAPS) / folds
        probabilities = probability_best(values_CK, inside, weights_BK)
        optimism = expected_optimism(values_CK, weights_BK)

    def cost(index: int) -> tuple[float, float, int]:
        row = kept[index]
        return float(seconds[row]), 0.0 if sizes is None else float(sizes[row]), index

    return Verdict(
        winner=keys[kept[0]],
        test=test_name(folds, protocol),
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


def test_name(folds: int, protocol: str) -> str:
    """The test of `adjusted_p` in words."""
    if folds == 1:
        return "none, a single fold allows no test"
    statistic = "paired t" if protocol == "resample" else "corrected resampled t (Nadeau & Bengio 2003)"
    flips = f"all {2**folds:,}" if 2**folds <= FLIPS else f"{FLIPS:,} random"
    return f"{statistic}, maximum over all competitors, against {flips} sign flips of {folds} folds (max-T)"


def sign_flips(folds: int, random: np.random.Generator) -> SingleArray:
    """Half of the sign flips, (folds, flips / 2) of ±1, the first without a flip; the others are their negatives.

    With random flips the identity is one of them, so that the test stays exact (Hemerik & Goeman, "Exact testing
    with random permutations", TEST 27, 2018).
    """
    half = min(2**folds, FLIPS) // 2
    if 2**folds <= FLIPS:
        flips = 1 - 2 * ((np.arange(half) >> np.arange(folds)[:, None]) & 1)
    else:
        flips = random.choice([-1, 1], size=(folds, half))
        flips[:, 0] = 1
    return np.ascontiguousarray(flips, dtype=np.float32)


def adjusted_p(values_CK: FloatArray, random: np.random.Generator) -> FloatArray:
    """For each configuration the p-value of the hypothesis that none is better, (configurations,).

    The test of configuration c takes the largest of the one-sided paired t-statistics of c against every other
    configuration, and compares it with its values under sign flips of whole folds. Flipping a fold flips it for
    all competitors, so their dependence is kept and nothing is lost to Bonferroni (max-T: Westfall & Young,
    "Resampling-Based Multiple Testing", 1993; Romano & Wolf, JASA 100, 2005). The configurations whose test does
    not reject are a confidence set for the best (multiple comparisons with the best: Hsu, Annals of Statistics
    12, 1984). Comparing all with the lowest observed mean instead would compare with a competitor that the data
    have chosen; here each is held against all others, and the truly best one is rejected with probability alpha.
    Against itself a configuration has t = 0, so that the p-value of the lowest mean is 1.

    Exact where the differences in a fold are jointly symmetric about equal means, be their tails heavy or not.
    Strong skewness makes it liberal: what ten folds did not show, such as a rare collapse, no test can know.
    `scipy.stats.permutation_test` is the same test for a single pair.

    Args:
        values_CK: (configurations, folds), finite.
    """
    count, folds = values_CK.shape
    if folds == 1 or count == 1:
        return np.ones(count)
    flips_KF = sign_flips(folds, random)
    centred_CK = values_CK - values_CK.mean(axis=0)
    p = np.empty(count)
    for index in range(count):
        differences_CK = centred_CK[index] - centred_CK
        # A flip leaves the sum of squares as it is, and t rises with r = sum / sqrt(folds × sum of squares).
        length_C = np.sqrt(folds * np.einsum("ck,ck->c", differences_CK, differences_CK))
        length_C[length_C == 0.0] = 1.0
        r_CF = (differences_CK / length_C[:, None]).astype(np.float32) @ flips_KF
        highest_F, lowest_F = r_CF.max(axis=0), r_CF.min(axis=0)
        least = highest_F[0] - SAME
        p[index] = ((highest_F >= least).sum() + (-lowest_F >= least).sum()) / (2 * flips_KF.shape[1])
    return p


def probability_best(values_CK: FloatArray, inside: IntArray, weights_BK: FloatArray) -> FloatArray:
    """For each configuration the probability that its true mean is the lowest, (configurations,), summing to 1.

    The share of bootstrap samples of folds (Efron, Annals of Statistics 7, 1979) in which its mean is the lowest.
    The lowest of many noisy means flatter, and the plain share takes that for merit. So the means of the
    configurations `inside` the confidence set, and their deviations, are first drawn towards each other by as much of
    their spread as is noise (parametric empirical Bayes: Morris, JASA 78, 1983).

    Args:
        weights_BK: (bootstrap samples, folds), rows sum to 1.
    """
    folds = values_CK.shape[1]
    centred_CK = values_CK - values_CK[inside].mean(axis=0)
    means = centred_CK.mean(axis=1)
    # The bootstrap's variance of a mean lacks the factor n / (n − 1).
    deviations_BC = (weights_BK @ centred_CK.T - means) * np.sqrt(folds / (folds - 1))
    if len(inside) > 2:
        noise = centred_CK[inside].var(axis=1, ddof=1) / folds
        centre, kept = shrinkage(means[inside], noise)
        means[inside] = centre + kept * (means[inside] - centre)
        deviations_BC[:, inside] *= np.sqrt(kept)
    drawn_BC = means + deviations_BC
    # Equal ones share a sample.
    scale = 1e-12 * (1.0 + np.abs(drawn_BC).max())
    lowest_BC = drawn_BC <= drawn_BC.min(axis=1, keepdims=True) + scale
    return np.asarray((lowest_BC / lowest_BC.sum(axis=1, keepdims=True)).mean(axis=0))


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
    chosen_B = (weights_BK @ values_CK.T).argmin(axis=1)
    left_out_BK = weights_BK == 0.0
    some_B = left_out_BK.any(axis=1)
    if not some_B.any():
        return 0.0
    left_out_BK, chosen_B = left_out_BK[some_B], chosen_B[some_B]
    difference_BK = values_CK[chosen_B] - values_CK[0]
    judged_B = (left_out_BK * difference_BK).sum(axis=1) / left_out_BK.sum(axis=1)
    return max(0.0, float(judged_B.mean()))
