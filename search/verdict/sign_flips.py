"""The test behind a verdict's set: which configurations may be the best, by sign flips of whole folds (max-T)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from pairsearch.search.machine import cores

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

FLIPS = 1024
"""Sign flips of the folds: all of them up to ten folds, so many drawn at random beyond."""
SAME = 1e-5
"""Statistics that lie closer than this count as equal."""
FEW = 2000
"""Configurations up to which the plain test is fast enough; the other is compiled at its first use."""
ROWS = 64
"""Configurations that the compiled test takes together."""


def test_name(folds: int, overlap: float) -> str:
    """The test of `adjusted_p` in words."""
    if folds == 1:
        return "none, a single fold allows no test"
    statistic = "corrected resampled t (Nadeau & Bengio 2003)" if overlap > 0 else "paired t"
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


def adjusted_p(
    values_CK: FloatArray, random: np.random.Generator, progress: Callable[[float], None] = lambda _: None
) -> FloatArray:
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

    Every configuration is held against every other. With many configurations and up to ten folds the compiled test
    (`search.verdict.flip_kernel`) gives the same p-values, but for what single precision rounds here; with more folds
    the time grows with the square of the configurations, a minute for 10,000.

    Args:
        values_CK: (configurations, folds), finite.
        random: of the sign flips, where not all are taken.
        progress: is told which share of the configurations is done.
    """
    count, folds = values_CK.shape
    if folds == 1 or count == 1:
        return np.ones(count)
    if count > FEW and 2**folds <= FLIPS:
        return _compiled(values_CK, progress)
    return plain_p(values_CK, sign_flips(folds, random), progress)


def plain_p(
    values_CK: FloatArray, flips_KF: SingleArray, progress: Callable[[float], None] = lambda _: None
) -> FloatArray:
    """The test as it reads, for at least two configurations; see `adjusted_p`."""
    count, folds = values_CK.shape
    centred_CK = values_CK - values_CK.mean(axis=0)
    p = np.empty(count)
    for index in range(count):
        progress(index / count)
        differences_CK = centred_CK[index] - centred_CK
        # A flip leaves the sum of squares as it is, and t rises with r = sum / sqrt(folds × sum of squares).
        length_C = np.sqrt(folds * np.einsum("ck,ck->c", differences_CK, differences_CK))
        length_C[length_C == 0.0] = 1.0
        r_CF = (differences_CK / length_C[:, None]).astype(np.float32) @ flips_KF
        highest_F, lowest_F = r_CF.max(axis=0), r_CF.min(axis=0)
        least = highest_F[0] - SAME
        p[index] = ((highest_F >= least).sum() + (-lowest_F >= least).sum()) / (2 * flips_KF.shape[1])
    return p


def _compiled(values_CK: FloatArray, progress: Callable[[float], None]) -> FloatArray:
    from pairsearch.search.verdict.flip_kernel import Tester  # noqa: PLC0415 - Numba takes a while

    tester = Tester(values_CK, SAME)
    starts = range(0, len(values_CK), ROWS)
    parts = []
    # The compiled test holds no lock of Python's.
    threads = ThreadPoolExecutor(cores())
    try:
        for part in threads.map(lambda start: tester.p_values(start, start + ROWS), starts):
            parts.append(part)
            progress(len(parts) / len(starts))
    finally:  # soon, where somebody interrupts
        threads.shutdown(cancel_futures=True)
    return np.concatenate(parts)
