"""The verdict holds what it says: held to SciPy and to plain loops, and measured on studies whose truth is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pairsearch.search.measure.calibration import Scenario, measure
from pairsearch.search.verdict.judging import Verdict, judge
from pairsearch.search.verdict.sign_flips import FloatArray


def judged(values: FloatArray | Sequence[Sequence[float]], **changes: Any) -> Verdict:
    """The verdict on configurations named 0, 1, 2 … that take one second each."""
    figures = np.asarray(values, dtype=float)
    arguments = {
        "keys": [str(index) for index in range(len(figures))],
        "seconds": np.ones(len(figures)),
    }
    return judge(figures, **(arguments | changes))


def members(verdict: Verdict) -> set[str]:
    return {member.key for member in verdict.members}


def p_values(verdict: Verdict) -> list[float]:
    """Adjusted p-values in the order of the configurations; all are members at alpha 0."""
    return [p for _, p in sorted((int(member.key), member.p) for member in verdict.members)]


def noisy(configurations: int, folds: int, seed: int = 0, spread: float = 0.5) -> FloatArray:
    random = np.random.default_rng(seed)
    means = spread * random.standard_normal((configurations, 1))
    return means + random.standard_normal((configurations, folds))


def p_by_loops(values: FloatArray, c: int, statistic: Any) -> float:
    """The test of one configuration as its definition reads, flip by flip and pair by pair."""

    def largest(signs: Sequence[int]) -> float:
        pairs = (values[c] - values[other] for other in range(len(values)) if other != c)
        # Against itself a configuration has 0.
        return max(0.0, *(statistic(np.asarray(signs) * differences) for differences in pairs))

    observed = largest([1] * values.shape[1])
    flipped = [largest(signs) for signs in itertools.product([1, -1], repeat=values.shape[1])]
    return sum(value >= observed * (1 - 1e-5) for value in flipped) / len(flipped)


def t(differences: FloatArray) -> float:
    return float(differences.mean() / (differences.std(ddof=1) / math.sqrt(len(differences))))


def scipy_p(differences: FloatArray) -> float:
    return float(
        stats.permutation_test(
            (differences,), t, permutation_type="samples", alternative="greater", n_resamples=np.inf
        ).pvalue
    )


def test_the_test_of_two_configurations_is_that_of_scipy_and_the_winner_passes_it() -> None:
    values = noisy(2, 8)
    better, worse = np.argsort(values.mean(axis=1))
    p = p_values(judged(values, alpha=0.0))
    assert p[worse] == pytest.approx(scipy_p(values[worse] - values[better]))
    assert p[better] == 1.0


def test_the_test_of_several_configurations_is_that_of_plain_loops() -> None:
    values = noisy(5, 7)
    p = p_values(judged(values, alpha=0.0))
    assert p == pytest.approx([p_by_loops(values, c, t) for c in range(5)])
    assert len(set(p)) > 3


def test_folds_that_overlap_are_compared_by_the_corrected_resampled_t_statistic() -> None:
    values, fraction = noisy(2, 9, seed=3), 1 / 8
    better, worse = np.argsort(values.mean(axis=1))
    differences = values[worse] - values[better]
    verdict = judged(values, alpha=0.0, overlap=fraction)
    corrected = differences.mean() / math.sqrt((1 / 9 + fraction) * differences.var(ddof=1))
    # The differences that independent folds would have to show for this statistic.
    wide = differences.mean() + math.sqrt(1 + 9 * fraction) * (differences - differences.mean())
    assert t(wide) == pytest.approx(corrected)
    assert p_values(verdict)[worse] == pytest.approx(scipy_p(wide))
    assert p_values(verdict)[worse] > scipy_p(differences)
    assert "Nadeau & Bengio" in verdict.test


def test_overlapping_folds_tell_less_and_flatter_more() -> None:
    values = noisy(30, 10, spread=1.0)
    independent, overlapping = judged(values), judged(values, overlap=1 / 9)
    assert members(independent) < members(overlapping)
    assert independent.optimism is not None
    assert overlapping.optimism is not None
    assert independent.optimism < overlapping.optimism


def test_many_folds_are_flipped_at_random_which_agrees_with_all_flips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = noisy(6, 12)
    drawn = judged(values, alpha=0.0)
    assert "1,024 random sign flips of 12 folds" in drawn.test
    monkeypatch.setattr("pairsearch.search.verdict.sign_flips.FLIPS", 2**12)
    complete = judged(values, alpha=0.0)
    assert "all 4,096 sign flips" in complete.test
    # Five standard errors of a share of 512 independent flips.
    assert p_values(drawn) == pytest.approx(p_values(complete), abs=5 * math.sqrt(0.25 / 512))


def test_a_clear_winner_is_alone_certain_and_not_flattered() -> None:
    values = noisy(20, 10)
    values[7] -= 10
    verdict = judged(values)
    assert (verdict.winner, members(verdict), verdict.cheapest) == ("7", {"7"}, "7")
    assert verdict.candidates[0].probability_best == 1.0
    assert verdict.optimism == 0.0


def test_members_and_candidates_come_best_first() -> None:
    values = noisy(40, 10)
    verdict = judged(values)
    means = values.mean(axis=1)
    assert [int(c.key) for c in verdict.candidates] == np.argsort(means)[:10].tolist()
    listed = [member.mean for member in verdict.members]
    assert listed == sorted(listed)
    assert verdict.members[0].key == verdict.winner
    assert [m.difference for m in verdict.members] == pytest.approx([mean - means.min() for mean in listed])


def test_a_fold_that_is_harder_for_all_changes_nothing() -> None:
    values = noisy(25, 10)
    plain, harder = judged(values), judged(values + np.linspace(0, 50, 10))
    assert members(plain) == members(harder)
    assert plain.optimism == pytest.approx(harder.optimism)
    assert [c.probability_best for c in plain.candidates] == pytest.approx(
        [c.probability_best for c in harder.candidates]
    )


def test_the_same_figures_give_the_same_verdict() -> None:
    values = noisy(30, 12)
    assert judged(values) == judged(values)


def test_of_the_members_the_fastest_is_cheapest_and_the_better_of_equals() -> None:
    values = noisy(4, 10, spread=0.0)
    values[3] += 100
    seconds = np.array([9.0, 5.0, 5.0, 1.0])
    assert members(judged(values)) == {"0", "1", "2"}
    better, worse = sorted((1, 2), key=lambda place: values[place].mean())
    assert judged(values, seconds=seconds).cheapest == str(better)
    seconds[worse] = 4.0
    assert judged(values, seconds=seconds).cheapest == str(worse)


def test_what_has_no_figure_in_some_fold_is_left_out_and_counted() -> None:
    values = noisy(6, 10)
    spoilt = np.vstack([values, values[:2] - 100])
    spoilt[6, 3], spoilt[7, :] = math.nan, math.inf
    with_them = judged(spoilt)
    assert (with_them.considered, with_them.excluded) == (6, 2)
    assert with_them.members == judged(values).members


def test_equal_configurations_are_all_members_share_the_probability_and_keep_their_order() -> None:
    verdict = judged(np.full((4, 10), 0.3))
    assert verdict.winner == verdict.cheapest == "0"
    assert [(m.key, m.p) for m in verdict.members] == [("0", 1.0), ("1", 1.0), ("2", 1.0), ("3", 1.0)]
    assert [c.probability_best for c in verdict.candidates] == pytest.approx([0.25] * 4)
    assert verdict.optimism == 0.0


def test_a_configuration_that_is_worse_by_the_same_in_every_fold_is_excluded() -> None:
    folds = np.linspace(0.2, 0.9, 10)
    assert members(judged([folds, folds + 0.01])) == {"0"}


def test_a_single_fold_tells_nothing() -> None:
    verdict = judged([[0.1], [0.2]])
    assert (verdict.winner, members(verdict), verdict.decisive) == ("0", {"0", "1"}, False)
    assert verdict.optimism is None
    assert [c.probability_best for c in verdict.candidates] == [0.5, 0.5]


@pytest.mark.parametrize(("folds", "decisive"), [(2, False), (4, False), (5, True), (10, True)])
def test_few_folds_exclude_nothing_however_clear_they_look(folds: int, decisive: bool) -> None:
    values = noisy(2, folds)
    values[1] += 1000
    verdict = judged(values)
    assert verdict.decisive is decisive
    assert members(verdict) == ({"0"} if decisive else {"0", "1"})


def test_a_single_configuration_is_its_own_verdict() -> None:
    verdict = judged([[0.1, 0.3, 0.2]])
    assert (verdict.winner, members(verdict), verdict.optimism) == ("0", {"0"}, 0.0)
    assert verdict.candidates[0].probability_best == 1.0


@pytest.mark.parametrize(
    ("values", "changes", "complaint"),
    [
        ([[math.nan, 1.0]], {}, "got none in 1"),
        ([[1.0, 1.0]], {"keys": ["a", "b"]}, "of 1 configurations"),
        ([[1.0, 1.0]], {"seconds": np.ones(2)}, "of 1 configurations"),
        ([[1.0, 1.0]], {"overlap": -0.1}, "overlap: expected a number >= 0, got -0.1"),
        ([[1.0, 1.0]], {"overlap": math.nan}, "overlap: expected a number >= 0, got nan"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    values: list[list[float]], changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        judged(values, **changes)


STUDIES = 40


@pytest.mark.parametrize("protocol", ["resample", "kfold"])
@pytest.mark.parametrize("layout", ["equal", "cluster", "spread"])
@pytest.mark.parametrize("noise", ["normal", "heavy", "shared", "skewed"])
def test_on_known_truths_the_set_has_the_best_and_the_optimism_is_right(
    layout: str, noise: str, protocol: str, show: Callable[[str], None]
) -> None:
    fraction = 0.25 if protocol == "resample" else 1 / 9
    found = measure(Scenario(layout, noise, protocol, configurations=48, test_fraction=fraction), STUDIES)
    show(
        f"verdict: {protocol}, means {layout}, noise {noise}: truly best in the set {found.coverage:.3f}, "
        f"lost {1 - found.coverage:.3f} (by uncorrected t-tests {1 - found.uncorrected:.3f}), "
        f"size of the set {found.size:.3f}, "
        f"winner stated best {found.stated:.2f}, is {found.correct:.2f}, "
        f"optimism stated {found.optimism:.2f}, is {found.flattery:.2f} ± {found.flattery_error:.2f}"
    )
    # Skewness with equal means, and an effect of the sample that has heavy tails, break what the test assumes.
    broken = layout == "equal" and (noise == "skewed" or (noise, protocol) == ("heavy", "kfold"))
    nominal = 0.6 if broken else 0.95
    assert found.coverage >= nominal - 3 * math.sqrt(0.05 * 0.95 / STUDIES)
    # Uncorrected tests against the lowest mean, which the data have chosen, lose the best too often.
    assert found.uncorrected <= found.coverage
    if layout == "equal":
        assert found.uncorrected < 0.9
    # Skewed sample effects cannot be told from means; there the optimism is stated too large rather than too small.
    upper = 2.0 if protocol == "kfold" else 1.3
    assert found.optimism > found.flattery / 1.3 - 3 * found.flattery_error
    assert found.optimism < upper * found.flattery + 3 * found.flattery_error
