"""The verdict on many configurations: the compiled test and the blocks give what the plain formulas give."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from pairsearch.search.verdict import judging as verdict
from pairsearch.search.verdict import sign_flips
from pairsearch.search.verdict.judging import (
    BOOTSTRAPS,
    expected_optimism,
    judge,
    probability_best,
    shrinkage,
)
from pairsearch.search.verdict.sign_flips import FloatArray, adjusted_p, plain_p


def study(count: int, folds: int, spread: float, seed: int, *, odd: bool = False) -> FloatArray:
    """Figures by fold, the lowest mean first; `odd` ones have equals, outliers and a fold that is harder."""
    random = np.random.default_rng(seed)
    values = spread * random.gamma(1.5, 2.0, (count, 1)) + random.lognormal(0.0, 0.5, (count, 1)) * (
        random.standard_normal((count, folds))
    )
    if odd:
        values[1::7] = values[0::7][: len(values[1::7])]
        values[2::11] = np.round(values[2::11])
        values[3] *= 1e6
        values[4] = values[5] + 1e-9
        values[:, -1] += 50.0
    return np.asarray(values[np.argsort(values.mean(axis=1), kind="stable")])


@pytest.mark.parametrize("folds", [2, 5, 7, 10])
@pytest.mark.parametrize(("spread", "odd"), [(0.0, False), (1.0, False), (0.3, True)])
def test_the_compiled_test_is_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, folds: int, spread: float, odd: bool
) -> None:
    values = study(1100, folds, spread, folds, odd=odd)
    plain = plain_p(values, sign_flips.sign_flips(folds, np.random.default_rng(0)))
    monkeypatch.setattr(sign_flips, "FEW", 1)
    fast = adjusted_p(values, np.random.default_rng(0))
    # A statistic that lies within single precision of the threshold may count in one and not in the other.
    assert np.abs(fast - plain).max() <= 2 / 2**folds
    assert (fast != plain).mean() < 0.01
    assert ((fast > 0.05) == (plain > 0.05)).all()


@pytest.mark.parametrize("scale", [2.0**400, 2.0**-400])
def test_figures_that_single_precision_does_not_hold_change_nothing(
    monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    monkeypatch.setattr(sign_flips, "FEW", 1)
    values = study(600, 8, 0.3, 0)
    scaled, plain = (adjusted_p(given, np.random.default_rng(0)) for given in (values * scale, values))
    assert np.abs(scaled - plain).max() <= 2 / 2**8
    assert (scaled != plain).mean() < 0.01


def plain_probability(values_CK: FloatArray, inside: verdict.IntArray, weights_BK: FloatArray) -> FloatArray:
    """`probability_best` as its definition reads, with all bootstrap means at once."""
    folds = values_CK.shape[1]
    centred_CK = values_CK - values_CK[inside].mean(axis=0)
    means = centred_CK.mean(axis=1)
    deviations_BC = (weights_BK @ centred_CK.T - means) * np.sqrt(folds / (folds - 1))
    if len(inside) > 2:
        centre, kept = shrinkage(means[inside], centred_CK[inside].var(axis=1, ddof=1) / folds)
        means[inside] = centre + kept * (means[inside] - centre)
        deviations_BC[:, inside] *= np.sqrt(kept)
    drawn_BC = means + deviations_BC
    limit = drawn_BC.min(axis=1, keepdims=True) + 1e-12 * (1.0 + np.abs(drawn_BC).max())
    lowest_BC = drawn_BC <= limit
    return np.asarray((lowest_BC / lowest_BC.sum(axis=1, keepdims=True)).mean(axis=0))


def plain_optimism(values_CK: FloatArray, weights_BK: FloatArray) -> float:
    """`expected_optimism` as its definition reads."""
    chosen_B = (weights_BK @ values_CK.T).argmin(axis=1)
    left_out_BK = weights_BK == 0.0
    some = left_out_BK.any(axis=1)
    difference_BK = (values_CK[chosen_B] - values_CK[0])[some]
    judged = (left_out_BK[some] * difference_BK).sum(axis=1) / left_out_BK[some].sum(axis=1)
    return max(0.0, float(judged.mean()))


@pytest.mark.parametrize("count", [3, 255, 256, 257, 1000])
@pytest.mark.parametrize("odd", [False, True])
def test_probabilities_and_optimism_in_blocks_are_those_of_the_whole(count: int, odd: bool) -> None:
    values = study(count, 10, 0.2, count, odd=odd and count > 11)
    weights = np.random.default_rng(1).multinomial(10, np.full(10, 0.1), size=BOOTSTRAPS) / 10
    inside = np.arange(0, count, 2)
    found = probability_best(values, inside, weights)
    assert found == pytest.approx(plain_probability(values, inside, weights), abs=1e-12)
    assert found.sum() == pytest.approx(1.0)
    assert expected_optimism(values, weights) == pytest.approx(plain_optimism(values, weights))


def test_it_tells_how_far_it_is() -> None:
    values, told = study(sign_flips.FEW + 200, 5, 1.0, 3), list[float]()
    judge(
        values,
        [str(index) for index in range(len(values))],
        np.ones(len(values)),
        progress=told.append,
    )
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1] == 1.0


def test_ten_thousand_configurations_are_judged_in_seconds_and_little_memory(
    show: Callable[[str], None],
) -> None:
    values = study(10_000, 10, 1.0, 5)
    judge(values[:2001], [""] * 2001, np.ones(2001))  # compiles
    start = time.process_time()
    tracemalloc.start()
    judge(values, [""] * 10_000, np.ones(10_000))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    seconds = time.process_time() - start
    show(f"verdict on 10,000 configurations of ten folds: {seconds:.1f} s of processor time, {peak:.0f} MB")
    # Of all bootstrap means at once, 160 MB each, it held several; a busy machine counts up to twice the time.
    assert peak < 150
    assert seconds < 20
