"""The verdict of a study from what was read of it: intervals of shares, winners by each figure, and what is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import tiny

from pairsearch.search.database.states import State
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.fold_figures import Point, Unjudged
from pairsearch.search.verdict.judging import judge
from pairsearch.search.verdict.study_verdict import verdict_on
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Metric

FOLDS = 6
Figures = Mapping[str, float | None]


def read(
    values: Sequence[Sequence[float]],
    states: Sequence[State] = (),
    figures: Sequence[Figures] = (),
    seconds: Sequence[float | None] = (),
    metric: Metric | None = None,
    overlap: float = 0.0,
) -> Unjudged:
    """What is read of a study with these losses by configuration and fold, all finished if not said."""
    count = len(values)
    loaded = tiny.anything(folds=FOLDS, grid={"x": list(range(count))})
    metrics = {"val_loss": metric or Metric(), "val_error": Metric(maximise=True), "train_loss": Metric()}
    traits = replace(loaded.traits, metrics=metrics, validated=tuple(metrics), overlap=overlap)
    study = StoredStudy(1, "tiny", 0, loaded.definition, loaded.definition.grid.choices, traits)
    rows = zip(
        states or [State.FINISHED] * count,
        figures or [{}] * count,
        seconds or [1.0] * count,
        strict=True,
    )
    points = tuple(
        Point(Configuration({"x": x}), state, None, known, took)
        for x, (state, known, took) in enumerate(rows)
    )
    return Unjudged(study, points, {"val_loss": np.array(values, float)})


ZEROS, ONES = [[0.0, 0.0, 0.0, 0.0, 0.0, 0.1]], [[1.0, 1.0, 1.0, 1.0, 1.0, 0.9]]


@pytest.mark.parametrize(
    ("values", "metric", "low", "high"),
    [
        (ZEROS, Metric(percent=True), 0.0, None),
        (ONES, Metric(percent=True), None, 1.0),
        (ZEROS, Metric(percent=True, maximise=True), None, 0.0),
        (ONES, Metric(percent=True, maximise=True), -1.0, None),
        ([*ZEROS, [0.0] * 5 + [1.0]], Metric(percent=True), 0.0, None),
        # These are no shares.
        (ZEROS, Metric(), None, None),
        ([*ZEROS, [1.0] * 5 + [1.5]], Metric(percent=True), None, None),
        ([*ONES, [0.9] * 5 + [-0.5]], Metric(percent=True, maximise=True), None, None),
    ],
)
def test_the_interval_of_a_share_ends_at_none_and_at_all(
    values: list[list[float]], metric: Metric, low: float | None, high: float | None
) -> None:
    given = read(values, metric=metric)
    found = verdict_on(given).verdict
    keys = [point.key for point in given.points]
    plain = judge(
        metric.sign * given.values["val_loss"], keys, np.ones(len(keys)), seed=given.study.definition.seed
    )
    assert found is not None
    assert found.interval is not None
    assert plain.interval is not None
    expected = (plain.interval[0] if low is None else low, plain.interval[1] if high is None else high)
    assert found == replace(plain, interval=expected)
    assert (expected == plain.interval) == (low is None and high is None)


def test_few_folds_have_no_interval_of_a_share() -> None:
    given = read([[0.5] * FOLDS], metric=Metric(percent=True))
    few = replace(given, values={"val_loss": given.values["val_loss"][:, :3]})
    assert verdict_on(few).verdict.interval is None


def test_settings_of_the_study_reach_the_verdict() -> None:
    noise = np.random.default_rng(1).standard_normal((5, FOLDS))
    given = read(noise.tolist(), seconds=[5.0, None, 3.0, 0.5, 4.0], overlap=0.2)
    seen = replace(given.study, definition=given.study.definition.model_copy(update={"seed": 11}))
    told: list[str] = []
    found = verdict_on(replace(given, study=seen), alpha=0.2, tell=told.append)
    keys = [point.key for point in given.points]
    seconds = np.array([5.0, 0.0, 3.0, 0.5, 4.0])
    assert found.verdict == judge(noise, keys, seconds, overlap=0.2, alpha=0.2, seed=11)
    assert found.verdict != judge(noise, keys, seconds, overlap=0.2, alpha=0.2, seed=7)
    assert (found.study, found.metric, found.overlap) == ("tiny", "val_loss", 0.2)
    assert found.metrics == seen.traits.of_folds
    assert found.configurations == {point.key: point.configuration for point in given.points}
    assert found.seconds == dict(zip(keys, seconds, strict=True))
    assert told == ["judging the 5 configurations of tiny"]


def test_what_is_not_finished_is_counted_by_what_became_of_it() -> None:
    nothing = [np.nan] * FOLDS
    values = [[0.1] * FOLDS, nothing, nothing, nothing, nothing, nothing, [0.2] * FOLDS]
    states = [*State]
    order = [State.FINISHED, State.PRUNED, State.DIVERGED, State.FAILED, State.PENDING, State.RUNNING]
    assert set(order) == set(states)
    found = verdict_on(read(values, [*order, State.FINISHED]))
    assert (found.open, found.provisional, found.uncovered, found.pruner) == (2, True, 1, "none")
    assert (found.verdict.considered, found.verdict.excluded) == (2, 3)
    assert list(found.configurations) == list(found.seconds) == ["x=0", "x=6"]
    one = verdict_on(read(values[:2], [State.FINISHED, State.RUNNING]))
    assert (one.open, one.provisional) == (1, True)
    assert not verdict_on(read(values[:1])).provisional
    raced = read(values[:2], [State.FINISHED, State.PRUNED])
    race = raced.study.definition.model_copy(update={"pruner": "race"})
    assert verdict_on(replace(raced, study=replace(raced.study, definition=race))).uncovered == 0
    lacking = [[0.1] * (FOLDS - 1) + [np.nan]]
    assert verdict_on(read(lacking)).verdict is None
    assert verdict_on(replace(raced, values={})).verdict is None


def test_by_each_figure_the_first_of_the_best_wins() -> None:
    figures: list[Figures] = [
        {"val_loss": 0.5, "val_error": None},
        {"val_loss": 0.3 + 3e-13, "val_error": 0.8},
        {"val_loss": 0.3, "val_error": 0.9},
        {"val_loss": 0.3, "val_error": 0.9 + 3e-12},
        {"val_loss": 0.4},
    ]
    values = [[figure["val_loss"] or 0.0] * FOLDS for figure in figures]
    found = verdict_on(read(values, figures=figures))
    assert {name: (one.configuration.key, one.figures) for name, one in found.winners.items()} == {
        "val_loss": ("x=1", figures[1]),
        "val_error": ("x=3", figures[3]),
    }


def test_values_of_the_verdict_are_shown_with_the_sign_of_the_metric() -> None:
    for metric, value in ((Metric(), 4.0), (Metric(maximise=True), -4.0)):
        assert verdict_on(read([[2.0] * FOLDS], metric=metric)).value(4.0) == value
