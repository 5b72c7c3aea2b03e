"""The verdict on many configurations: blocks give what the plain formulas give, in seconds and little memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from pairsearch.search.verdict import rivals
from pairsearch.search.verdict.judging import expected_optimism, judge
from pairsearch.search.verdict.rivals import Group
from pairsearch.studies.intervals import FloatArray


def study(count: int, folds: int, spread: float, seed: int) -> FloatArray:
    """Figures by fold, the lowest mean first."""
    random = np.random.default_rng(seed)
    values = spread * random.gamma(1.5, 2.0, (count, 1)) + random.lognormal(0.0, 0.5, (count, 1)) * (
        random.standard_normal((count, folds))
    )
    return np.asarray(values[np.argsort(values.mean(axis=1), kind="stable")])


def plain_optimism(values_CK: FloatArray) -> float:
    """`expected_optimism` as its definition reads."""
    folds = values_CK.shape[1]
    random = np.random.default_rng(0)
    weights_BK = random.multinomial(folds, np.full(folds, 1 / folds), size=2000) / folds
    chosen_B = (weights_BK @ values_CK.T).argmin(axis=1)
    left_out_BK = weights_BK == 0.0
    some = left_out_BK.any(axis=1)
    difference_BK = (values_CK[chosen_B] - values_CK[0])[some]
    judged = (left_out_BK[some] * difference_BK).sum(axis=1) / left_out_BK[some].sum(axis=1)
    return max(0.0, float(judged.mean()))


@pytest.mark.parametrize("count", [3, 255, 257, 1000])
def test_blocks_give_what_the_whole_gives(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = study(count, 10, 0.2, count)
    assert expected_optimism(values) == pytest.approx(plain_optimism(values))
    group = Group.of(values, np.ones(count, np.bool_))
    whole = group.chance(values, 0.0, 0.05)
    monkeypatch.setattr(rivals, "BLOCK", 100)
    assert group.chance(values, 0.0, 0.05) == pytest.approx(whole)


def test_of_equals_in_a_sample_the_first_is_chosen() -> None:
    """Means of so few whole numbers are often equal, and exactly so."""
    values = np.random.default_rng(0).integers(3, size=(600, 4)).astype(float)
    values = values[np.argsort(values.mean(axis=1), kind="stable")] + np.arange(4)
    assert expected_optimism(values) == pytest.approx(plain_optimism(values))


def test_fifty_thousand_configurations_are_judged_in_seconds_and_little_memory(
    show: Callable[[str], None],
) -> None:
    count = 50_000
    values = study(count, 10, 1.0, 5)
    start = time.process_time()
    tracemalloc.start()
    judge(values, [""] * count, np.ones(count))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    seconds = time.process_time() - start
    show(
        f"verdict on {count:,} configurations of ten folds: {seconds:.1f} s of processor time, {peak:.0f} MB"
    )
    # Of all bootstrap means at once, 80 MB each, it would hold several; a busy machine counts up to twice the time.
    assert peak < 100
    assert seconds < 20
