"""A finished study searched again: what searches would have chosen, by our rules and by Optuna's own."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy import stats

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.replay import searches, stopping
from pairsearch.search.replay.simulation import measure_stopping, replay
from pairsearch.search.replay.targets import replay_json, usual_regrets
from pairsearch.search.results.study_table import StudyTable, read_table
from pairsearch.search.sampling.table_search import search_table
from pairsearch.studies.seeds import layout_order


@pytest.fixture
def b1(paper: Database) -> StudyTable:
    """The shipped study of 64 configurations."""
    return read_table(paper, get_study(paper, "b1"))


def test_a_random_search_needs_as_many_trials_as_the_hypergeometric_distribution_has_it(
    b1: StudyTable,
) -> None:
    course = replay(b1, "random", searches=4000).course
    mean = b1.values["val_loss"].mean(axis=1)
    for regret in usual_regrets(b1):
        good = int((mean <= mean.min() + regret + 1e-12).sum())
        trials, _ = course.needed(regret)
        for count in (4, 16, 32, 60):
            exact = 1.0 - stats.hypergeom.pmf(0, len(mean), good, count)
            assert (trials <= count).mean() == pytest.approx(exact, abs=0.03)


def test_a_thousand_searches_of_960_points_take_seconds(paper: Database) -> None:
    wsal = read_table(paper, get_study(paper, "wsal"))
    found = replay(wsal, "random")
    assert found.course.regret.shape == (1000, 960)
    assert (found.course.regret[:, -1] == 0.0).all()
    assert found.course.seconds[:, -1] == pytest.approx(wsal.seconds.sum())


def test_the_choice_is_the_best_that_is_finished_and_the_first_of_several() -> None:
    table = searches.Losses(np.array([0.3, 0.1, 0.1, 0.2]), np.array([9.0, 7.0, 5.0, np.nan]), np.ones(4))
    found = searches.Searches(
        np.array([[3, 1, 2, 0], [2, 1, 0, 3]]),
        np.array([[1.0, 1.0, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0]]),
        np.array([[True] * 4, [False, True, True, True]]),
    )
    course = searches.course(table, found)
    assert course.regret[0] == pytest.approx([0.1, 0.0, 0.0, 0.0])
    assert course.regret[1].tolist() == [math.inf, 0.0, 0.0, 0.0]
    assert np.array_equal(course.test, [[np.nan, 2.0, 2.0, 2.0], [np.nan, 2.0, 2.0, 2.0]], equal_nan=True)
    assert course.seconds.tolist() == [[1, 2, 3, 4], [0.5, 1.5, 2.5, 3.5]]
    assert [one.tolist() for one in course.needed(0.05)] == [[2, 2], [2, 1.5]]
    assert course.at_seconds(np.array([0.6, 1.0, 1.9]))[1].tolist() == [math.inf, math.inf, 0.0]
    assert course.at_seconds(np.array([0.6, 1.0]))[0] == pytest.approx([math.inf, 0.1])


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("pruner", ["median", "hyperband", "wilcoxon"])
def test_our_rules_stop_what_optunas_pruners_stop_after_the_same_steps(
    b1: StudyTable, pruner: str, missing: bool
) -> None:
    reports, keys = stopping.reports_of(b1), [one.key for one in b1.configurations]
    if missing:
        # Problems need not report every epoch; a configuration's first and last reports may be absent.
        reports.curves[np.random.default_rng(2).random(reports.curves.shape) < 0.2] = np.nan
    by_fold = stopping.RULES[pruner].by_fold
    last = reports.steps(by_fold)[-1]
    values = dict(zip(keys, reports.folds.mean(axis=1).tolist(), strict=True))
    by_key = dict(zip(keys, reports.by_step(by_fold), strict=True))
    for order in searches.random_orders(b1, 3):
        ours = stopping.searched(reports, stopping.RULES[pruner], order[None])
        theirs = list(
            search_table(
                b1.definition, values, by_key, [keys[place] for place in order], sampler=None, pruner=pruner
            )
        )
        assert [key for key, _ in theirs] == [keys[place] for place in order]
        assert [(stopped or last) / last for _, stopped in theirs] == ours.share[0].tolist()
        assert [stopped is None for _, stopped in theirs] == ours.finished[0].tolist()
        assert 10 < len(theirs) - sum(ours.finished[0]) < 64


def test_the_signed_rank_test_is_scipys_with_ties_and_zeros_too() -> None:
    given = np.round(np.random.default_rng(0).normal(0.5, 1.0, (20, 7)), 1)
    given[0] = 0.0
    ours = stopping.signed_rank_p(given)
    for row, p in zip(given, ours, strict=True):
        assert p == pytest.approx(stats.wilcoxon(row, alternative="greater", zero_method="zsplit").pvalue)


@pytest.mark.parametrize("pruner", ["none", "median", "race"])
def test_a_sampler_takes_each_configuration_once_and_the_same_ones_each_time(
    b1: StudyTable, pruner: str
) -> None:
    first, again = (replay(b1, "tpe", pruner, searches=1, trials=64).course for _ in range(2))
    assert np.array_equal(first.regret, again.regret)
    assert np.array_equal(first.seconds, again.seconds)
    if pruner == "none":
        assert first.regret.shape == (1, 64)
        assert first.regret[0, -1] == 0.0
        assert first.seconds[0, -1] == pytest.approx(b1.seconds.sum())
    else:
        assert first.seconds[0, -1] < 0.8 * b1.seconds.sum()


def test_after_twenty_seen_proposals_the_next_of_the_order_comes(b1: StudyTable) -> None:
    keys = [one.key for one in layout_order(b1.definition)]
    values = dict.fromkeys(keys, 0.5)
    found = [key for key, _ in search_table(b1.definition, values, {}, keys, sampler="random", seed=3)]
    assert sorted(found) == sorted(keys)
    # By then nearly all that random draws is seen.
    assert found[-1] == next(key for key in reversed(keys) if key not in found[:-1])


def test_configurations_without_an_answer_are_proposed_in_vain(
    b1: StudyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[optuna.Study] = []
    create = optuna.create_study

    def kept(**options: Any) -> optuna.Study:
        made.append(create(**options))
        return made[-1]

    monkeypatch.setattr(optuna, "create_study", kept)
    keys = [one.key for one in layout_order(b1.definition)][::8]
    values, reports = dict.fromkeys(keys, 0.5), {key: {1: 0.75, 4: 0.5} for key in keys}
    found = list(search_table(b1.definition, values, reports, keys, sampler="random", seed=3))
    assert sorted(key for key, _ in found) == sorted(keys)
    assert {stopped for _, stopped in found} == {None}
    # As a worker leaves them.
    (study,) = made
    ended = Counter(trial.state for trial in study.trials)
    assert ended.keys() == {TrialState.COMPLETE, TrialState.FAIL}
    assert ended[TrialState.COMPLETE] >= len(keys)


def test_one_with_the_grids_order_is_that_of_the_claims(b1: StudyTable) -> None:
    mean = dict(zip((one.key for one in b1.configurations), b1.values["val_loss"].mean(axis=1), strict=True))
    (regret,) = replay(b1, "grid").course.regret
    in_order = np.minimum.accumulate([mean[one.key] for one in layout_order(b1.definition)])
    assert regret == pytest.approx(in_order - min(mean.values()))


def test_what_stopping_early_saves_and_loses(b1: StudyTable) -> None:
    found = {one.pruner: one for one in measure_stopping(b1, 40, every=False)}
    assert list(found) == list(stopping.RULES)
    for one in found.values():
        assert 0.2 < one.saved < 0.9
        assert one.interval[0] <= one.lost <= one.interval[1]
        # Who loses the best chooses another.
        assert (one.regret > 0).mean() == one.lost
    assert found["race"].lost <= 0.1 < found["median"].lost


def test_numbers_that_there_are_none_of_are_null(b1: StudyTable) -> None:
    found: dict[str, Any] = replay_json(b1, replay(b1, "random", searches=20, trials=2), [0.0])
    assert found["needed"][0]["reached"] < 1
    assert found["needed"][0]["trials"][2] is None
    assert found["test"]["figure"] == "test_error"
    assert found["test"]["evaluated"] == 5
    assert len(found["by_trials"]["regret"]) == 3
