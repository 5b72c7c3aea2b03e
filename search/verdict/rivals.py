"""The test behind a verdict's set: is a configuration worse than those that lead on the other folds?

For each fold, the *rivals* are chosen on all other folds (`leading`), and the difference of a configuration from their
mean is taken on that fold alone. Rivals are thus never judged on the data that chose them. The idea is from Zhang, Lee
& Lei, "Winners with confidence: discrete argmin inference with an application to model selection", arXiv 2408.02060,
2024. They weight rivals by a softmin of their means. Here all rivals have the same weight and others have none, because
a softmin sharp enough to ignore many hopeless configurations follows the noise where none is hopeless.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairsearch.studies.intervals import FloatArray, quantile, upper_tail

Flags = npt.NDArray[np.bool_]

BOOTSTRAPS = 200
"""Bootstrap samples of the folds behind a threshold."""
LEVEL = 0.025
"""Probability with which a configuration seems to lead a group of equals. It is small, since a false lead replaces the
mean of many by that of a few."""
LEVEL_OF_OVERLAPPING = 0.005
"""The same for overlapping folds: a lead due to what they have in common appears in all of them."""
PARTS = (2, 8)
"""Rivals are sought in the better half of the configurations, and in the best eighth."""
CORRECTION, CORRECTION_OF_OVERLAPPING = 3, 4
"""Factor of the smaller of the two p-values: 2 after Bonferroni, the rest for few folds of skewed or dependent noise.
These are the smallest whole numbers with which the calibration holds (`benchmarks/calibration.py`)."""
FEW = 8
"""Up to this many configurations, rivals are sought among all of them."""
ROUNDING = 1e-12
"""Differences below this share of a configuration's largest value count as zero."""
BLOCK = 4096
"""Configurations whose bootstrap samples are in memory at a time: some 7 MB."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of configurations that are compared by their mean.

    Args:
        inside: (configurations,) whether each belongs to the group.
        mean: (folds,) the mean of the group in each fold.
        spread: the typical standard deviation, over folds, of a member's differences from that mean.
    """

    inside: Flags
    mean: FloatArray
    spread: float

    @classmethod
    def of(cls, values_CK: FloatArray, inside: Flags) -> Group:
        """Make the group of the configurations `inside`."""
        mean_K = values_CK[inside].mean(axis=0)
        deviations = (values_CK[inside] - mean_K).std(axis=1, ddof=1)
        return cls(inside, mean_K, float(np.median(deviations)))

    def chance(self, values_CK: FloatArray, overlap: float, level: float) -> float:
        """Return how many standard errors below the mean the luckiest of as many equals is, with probability `level`.

        This bootstraps whole folds for the largest studentised deviation over the configurations of the group, which
        accounts for their number, their dependence and the skew of their noise. The noise that overlapping folds have
        in common does not show in them. It is drawn as the noise of another configuration in one fold, scaled by
        `overlap`, since few folds hardly show the tails of their own.
        """
        folds = values_CK.shape[1]
        random = np.random.default_rng(0)
        weights_KB = random.multinomial(folds, np.full(folds, 1 / folds), size=BOOTSTRAPS).T / folds
        common_KB = np.sqrt(overlap) * np.eye(folds)[:, random.integers(folds, size=BOOTSTRAPS)]
        largest_B = np.zeros(BOOTSTRAPS)
        members = np.flatnonzero(self.inside)
        # The variance of a bootstrap sample lacks the factor n / (n − 1), once for its mean and once for itself.
        missing = folds / (folds - 1)
        for start in range(0, len(members), BLOCK):
            residuals_CK = values_CK[members[start : start + BLOCK]] - self.mean
            residuals_CK -= residuals_CK.mean(axis=1, keepdims=True)
            residuals_CK *= np.sqrt(missing)
            means_CB = residuals_CK @ weights_KB
            variances_CB = missing * (np.square(residuals_CK) @ weights_KB - np.square(means_CB))
            errors_CB = np.sqrt(np.maximum(variances_CB, self.spread**2) / folds)
            errors_CB[errors_CB == 0.0] = np.inf
            lowest_CB = -(means_CB + np.roll(residuals_CK, 1, axis=0) @ common_KB) / errors_CB
            np.maximum(largest_B, lowest_CB.max(axis=0), out=largest_B)
        return float(np.quantile(largest_B, 1.0 - level))


def correction(overlap: float) -> int:
    """Return the factor of p-values, and the divisor of levels."""
    return CORRECTION_OF_OVERLAPPING if overlap else CORRECTION


def leading(values_CK: FloatArray, size: int, overlap: float = 0.0) -> tuple[Group, Group]:
    """Find the leading configurations, of which none is better than their mean by more than chance.

    The search starts with the `size` best: the others often did not train at all, and vary far more than the rest. It
    goes on with those that are better than the mean by more than the luckiest of as many equals would be, until there
    are none.

    Args:
        values_CK: (configurations, folds), at least two of each; lower is better.
        size: at least two.
        overlap: validation over training examples of a fold if folds share one sample, else 0.

    Returns:
        The leading group, and the group in which it was found; the same group twice if none of it leads.
    """
    folds = values_CK.shape[1]
    means_C = values_CK.mean(axis=1)
    group = before = Group.of(values_CK, means_C <= np.sort(means_C)[size - 1])
    rounding_C = ROUNDING * np.abs(values_CK).max(axis=1)
    while True:
        differences_CK = values_CK - group.mean
        deviations_C = differences_CK.std(axis=1, ddof=1)
        errors_C = np.maximum(deviations_C, group.spread) / np.sqrt(folds)
        chance = group.chance(values_CK, overlap, LEVEL_OF_OVERLAPPING if overlap else LEVEL)
        inside = group.inside & (differences_CK.mean(axis=1) < -(chance * errors_C + rounding_C))
        if not inside.any():
            break
        before, group = group, Group.of(values_CK, inside)
    return group, before


def differences(values_CK: FloatArray, size: int, overlap: float) -> FloatArray:
    """Return how much worse each configuration is than its rivals in each fold: (configurations, folds).

    A configuration is not its own rival. One that leads alone is compared with the group that it leads.
    """
    worse_CK = np.empty_like(values_CK)
    folds = values_CK.shape[1]
    for fold in range(folds):
        group, before = leading(np.delete(values_CK, fold, axis=1), size, overlap)
        alone_C = group.inside & (group.inside.sum() == 1)
        own_C, wider_C = values_CK[:, fold], before.inside
        for inside_C, here_C in ((group.inside, ~alone_C), (wider_C, alone_C)):
            others_C = inside_C.sum() - inside_C
            total_C = own_C[inside_C].sum() - np.where(inside_C, own_C, 0.0)
            worse_CK[here_C, fold] = (own_C - total_C / np.maximum(others_C, 1))[here_C]
    return worse_CK


@dataclass(frozen=True, slots=True)
class Test:
    """The comparison of each configuration with its rivals.

    Args:
        leaders: the configurations that lead on all folds, at least two.
        p: (configurations,) p-values of the hypothesis that the configuration is no worse than its rivals.
        at_least: (configurations,) lower bounds, each with probability 1 − alpha, of how much worse it is than rivals.
    """

    leaders: Group
    p: FloatArray
    at_least: FloatArray

    @classmethod
    def of(cls, values_CK: FloatArray, overlap: float, alpha: float) -> Test:
        """Test every configuration by Student's t, with one degree of freedom fewer than folds.

        Rivals are sought in the better half and in the best eighth, and the smaller p-value counts after correction.
        The half has more power where a few good configurations stand before many hopeless ones, the eighth where
        quality rises steadily towards a few. The standard deviation is at least the median of the leaders', because few
        folds of skewed noise often show too small a deviation.

        Args:
            values_CK: (configurations, folds), at least two of each; lower is better.
            overlap: validation over training examples of a fold if folds share one sample, else 0.
            alpha: the level of `at_least`.
        """
        count, folds = values_CK.shape
        sizes = sorted({max(min(FEW, count), -(-count // part)) for part in PARTS})
        least_C = ROUNDING * np.abs(values_CK).max(axis=1) + 1e-300
        tested = []
        for size in sizes:
            differences_CK = differences(values_CK, size, overlap)
            group, before = leading(values_CK, size, overlap)
            leaders = group if group.inside.sum() > 1 else before
            deviations_C = differences_CK.std(axis=1, ddof=1)
            deviations_C = np.maximum(deviations_C, np.median(deviations_C[leaders.inside]))
            means_C = differences_CK.mean(axis=1)
            errors_C = np.maximum(deviations_C * np.sqrt(1.0 / folds + overlap), least_C)
            p_C = correction(overlap) * upper_tail(means_C / errors_C, folds - 1)
            at_least_C = means_C - quantile(alpha / correction(overlap), folds - 1) * errors_C
            tested.append((leaders, p_C, at_least_C))
        leaders = tested[-1][0]
        p = np.minimum(1.0, np.min([p_C for _, p_C, _ in tested], axis=0))
        return cls(leaders, p, np.max([at_least_C for _, _, at_least_C in tested], axis=0))
