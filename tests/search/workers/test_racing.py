"""The race: its promise on studies whose truth is known, and the worker's view of it."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from calibration import Scenario, synthetic
from optuna.storages import RDBStorage
from racing import rules

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.advising import Racer
from pairsearch.studies import racing


@pytest.mark.parametrize("noise", ["normal", "right", "left", "shared"])
@pytest.mark.parametrize("layout", ["equal", "cluster"])
def test_the_truly_best_is_lost_about_as_rarely_as_promised(layout: str, noise: str) -> None:
    random, lost, saved = np.random.default_rng(0), [], []
    race = rules(1.0)["race"]
    for _ in range(100):
        truth, values = synthetic(Scenario(layout, noise, configurations=64), random)
        whole, spared = race(values, random.permutation(64), racing.ALPHA)
        lost.append(1.0 - whole[truth == 0.0].mean())
        saved.append(spared)
    # Three standard errors over what is promised; a race that tested each time at 0.05 loses more.
    assert np.mean(lost) < 0.05 + 3 * np.std(lost) / 10
    assert np.mean(saved) > (0.4 if layout == "cluster" else -1)


def test_nothing_is_stopped_before_the_third_fold_or_after_the_last() -> None:
    race = racing.Race(5)
    assert race(np.array([0.1, 0.2, 0.1, 0.2, 0.1])) == 0
    assert race.stopped_after(np.array([[9.0, 9.1, 9.0, 9.1, 9.0]])).tolist() == [3]
    assert race.stopped_after(np.array([[9.0, 9.1]])).tolist() == [0]
    limits = racing.thresholds(5)
    assert np.isinf(limits[[0, 1, 4]]).all()
    assert np.isfinite(limits[2:4]).all()
    assert [race.stops(np.full(folds, 9.0) + np.arange(folds) % 2) for folds in range(2, 6)] == [
        False,
        True,
        True,
        False,
    ]


def test_each_look_takes_an_equal_part_of_half_of_the_error_rate() -> None:
    random = np.random.default_rng(0)
    t = racing.statistics(random.standard_normal((40_000, 10)))
    for look in racing.looks(10):
        share = (t[:, look - 1] > racing.thresholds(10, 0.7)[look - 1]).mean()
        assert share == pytest.approx(0.05, abs=0.005)


def test_the_statistic_is_that_of_a_one_sample_t_test() -> None:
    from scipy import stats  # noqa: PLC0415

    given = 1e6 + np.random.default_rng(0).standard_normal((3, 6))
    for folds in range(2, 7):
        assert racing.statistics(given)[:, folds - 1] == pytest.approx(
            stats.ttest_1samp(given[:, :folds], 0.0, axis=1).statistic, rel=1e-6
        )


def test_weights_that_are_added_up_are_those_that_are_made_anew() -> None:
    random = np.random.default_rng(0)
    given = random.standard_normal((200, 10)) + random.gamma(1.5, 2.0, 200)[:, None]
    race = racing.Race(10)
    for row in given:
        race.add(row)
    others = (given.sum(axis=1, keepdims=True) - given) / 9
    weights = np.exp(-racing.sharpness(10) / race._scale * (others - others.min(axis=0)))
    assert race._sums_K / race._weights_K == pytest.approx(
        (weights * given).sum(axis=0) / weights.sum(axis=0)
    )
    assert race._scale == pytest.approx(np.median(given.std(axis=1, ddof=1)), rel=0.12), (
        "it may lag by a tenth"
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("sign", [1, -1], ids=["minimised", "maximised"])
def test_a_worker_races_against_the_finished_configurations_of_all(
    database: Database, storage: RDBStorage, sign: int
) -> None:
    folds, random = 6, np.random.default_rng(1)
    changes = {"folds": folds, "pruner": "race", "metrics": {"val_loss": {"maximise": sign < 0}}}
    grid = {"x": list(range(12))}
    study = create_study(database, tiny.anything(grid=grid, **changes)).study
    ledger, race, racer = Ledger(database, study), racing.Race(folds), Racer(database, study)
    decided, points = [], study.definition.grid.configurations()
    for number in range(12):
        values = 1.0 + 0.1 * random.standard_normal(folds)
        asked = 1.0 + 0.08 * (number % 4) + 0.1 * random.standard_normal(folds)
        for count in range(1, folds + 1):
            decided.append(race.stops(asked[:count]))
            reports = dict(enumerate((sign * asked[:count]).tolist(), start=1))
            assert racer.should_prune(points[number], reports) == decided[-1]
        claim = ledger.claim("ann")
        assert claim is not None
        column = (sign * values)[:, None]
        outcome = tiny.outcome_of(column, column, column, value=float(column.mean()))
        assert tiny.finish(ledger, claim, outcome)
        race.add(values)
    assert 3 < sum(decided) < len(decided) / 2
