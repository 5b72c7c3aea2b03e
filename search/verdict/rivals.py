"""The test behind a verdict's set: is a configuration worse than those that the other folds show to be the best?

For each fold, the *rivals* are found on all other folds (`leading`), and a configuration's difference from their mean
is taken on that fold alone. Whom the data have chosen is so never judged on the data that chose it: the idea of Zhang,
Lee & Lei, "Winners with confidence: discrete argmin inference with an application to model selection", arXiv
2408.02060, 2024. They weight rivals by a softmin of their means; here rivals are equal among themselves, and nobody
else counts. A softmin sharp enough to forget many hopeless configurations follows the noise where none is hopeless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairsearch.search.verdict.student import FloatArray, quantile, upper_tail

Flags = npt.NDArray[np.bool_]

BOOTSTRAPS = 200
"""Bootstrap samples of the folds behind a threshold."""
LEVEL = 0.025
"""Probability with which somebody leads a group of equals: small, since then the mean of many is given up for few."""
LEVEL_OF_OVERLAPPING = 0.005
"""The same where folds overlap: whoever leads by what they have in common leads in all of them."""
PARTS = (2, 8)
"""Rivals are looked for in the better half of the configurations, and in the best eighth."""
CORRECTION, CORRECTION_OF_OVERLAPPING = 3, 4
"""What the smaller of the two p-values is multiplied by: 2 after Bonferroni, and the rest for few folds of skewed or
dependent noise. The least whole numbers with which the calibration holds (`search.measure.calibration`)."""
FEW = 8
"""Configurations that are all looked at."""
ROUNDING = 1e-12
"""Differences smaller than this share of a configuration's largest value are none."""
BLOCK = 4096
"""Configurations whose bootstrap samples are held at a time: some 7 MB."""


@dataclass(frozen=True, slots=True)
class Group:
    """Configurations that may be the best as far as one look at the folds can tell.

    Args:
        inside: (configurations,) who belongs to it.
        mean: (folds,) its mean in each fold.
        spread: the typical standard deviation of a member's differences from that mean, over folds.
    """

    inside: Flags
    mean: FloatArray
    spread: float

    @classmethod
    def of(cls, values_CK: FloatArray, inside: Flags) -> Group:
        """The group of those `inside`."""
        mean_K = values_CK[inside].mean(axis=0)
        deviations = (values_CK[inside] - mean_K).std(axis=1, ddof=1)
        return cls(inside, mean_K, float(np.median(deviations)))

    def chance(self, values_CK: FloatArray, overlap: float, level: float) -> float:
        """How far below the group's mean the luckiest of as many equals comes, in standard errors, with P = `level`.

        The bootstrap of whole folds, of the largest studentised deviation over the group's configurations: it sees
        how many there are, how they depend on each other, and how skewed their noise is. What folds that overlap have
        in common, they do not show: it is drawn as another configuration's noise in one of them, in the measure of
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
    """What p-values are multiplied by, and what levels are divided by."""
    return CORRECTION_OF_OVERLAPPING if overlap else CORRECTION


def leading(values_CK: FloatArray, size: int, overlap: float = 0.0) -> tuple[Group, Group]:
    """The configurations that lead: nobody of them is better than their mean by more than chance.

    It starts with the `size` best, as the others are often what did not train at all and vary as nothing else does. It
    goes on with those that are better than their mean by more than the luckiest of so many equals would be, as long as
    there are any.

    Args:
        values_CK: (configurations, folds), at least two of each; lower is better.
        size: at least two.
        overlap: validation over training examples of a fold where folds share one sample, else 0.

    Returns:
        The group, and the one that it was found in, the same where nobody leads.
    """
    folds = values_CK.shape[1]
    means_C = values_CK.mean(axis=1)
    group = before = Group.of(values_CK, means_C <= np.partition(means_C, size - 1)[size - 1])
    rounding_C = ROUNDING * np.abs(values_CK).max(axis=1)
    while group.inside.sum() > 1:
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
    """How much worse each configuration is than its rivals in each fold, (configurations, folds).

    A configuration is no rival of its own. Whoever leads alone is compared with those that it leads.
    """
    found_CK = np.empty_like(values_CK)
    folds = values_CK.shape[1]
    for fold in range(folds):
        group, before = leading(np.delete(values_CK, fold, axis=1), size, overlap)
        alone_C = group.inside & (group.inside.sum() == 1)
        own_C, wider_C = values_CK[:, fold], before.inside
        for inside_C, here_C in ((group.inside, ~alone_C), (wider_C, alone_C)):
            others_C = inside_C.sum() - inside_C
            total_C = own_C[inside_C].sum() - np.where(inside_C, own_C, 0.0)
            found_CK[here_C, fold] = (own_C - total_C / np.maximum(others_C, 1))[here_C]
    return found_CK


@dataclass(frozen=True, slots=True)
class Test:
    """Each configuration held against its rivals.

    Args:
        leaders: those of all folds, at least two.
        p: (configurations,) p-values of the hypothesis that it is no worse.
        at_least: (configurations,) below which, with probability 1 − alpha, what it lies behind them does not lie.
    """

    leaders: Group
    p: FloatArray
    at_least: FloatArray

    @classmethod
    def of(
        cls,
        values_CK: FloatArray,
        overlap: float,
        alpha: float,
        progress: Callable[[float], None] = lambda _: None,
    ) -> Test:
        """Student's t with one degree of freedom less than there are folds.

        Rivals are looked for in the better half, and in the best eighth; the smaller p-value counts, corrected. The
        half is better where a few good ones stand before many hopeless ones, the eighth where ever fewer are ever
        better. The standard deviation is at least that which is typical of the leaders: few folds of skewed noise often
        show too little of it.
        """
        count, folds = values_CK.shape
        sizes = sorted({max(min(FEW, count), -(-count // part)) for part in PARTS})
        least_C = ROUNDING * np.abs(values_CK).max(axis=1) + 1e-300
        found = []
        for number, size in enumerate(sizes):
            progress(number / len(sizes))
            differences_CK = differences(values_CK, size, overlap)
            group, before = leading(values_CK, size, overlap)
            leaders = group if group.inside.sum() > 1 else before
            deviations_C = differences_CK.std(axis=1, ddof=1)
            deviations_C = np.maximum(deviations_C, np.median(deviations_C[leaders.inside]))
            means_C = differences_CK.mean(axis=1)
            errors_C = np.maximum(deviations_C * np.sqrt(1.0 / folds + overlap), least_C)
            p_C = correction(overlap) * upper_tail(means_C / errors_C, folds - 1)
            at_least_C = means_C - quantile(alpha / correction(overlap), folds - 1) * errors_C
            found.append((leaders, p_C, at_least_C))
        progress(1.0)
        leaders = found[-1][0]
        p = np.minimum(1.0, np.min([p_C for _, p_C, _ in found], axis=0))
        return cls(leaders, p, np.max([at_least_C for _, _, at_least_C in found], axis=0))
