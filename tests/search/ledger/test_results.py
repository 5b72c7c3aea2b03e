"""Results round-trip through the tables bit for bit; what is not finite becomes NULL, and NaN again."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import tiny

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome, RunResult


def stored(ledger: Ledger, result: Outcome) -> Outcome:
    claim = ledger.claim("ann")
    assert claim is not None
    assert tiny.finish(ledger, claim, result)
    found = ledger.outcome(claim.configuration.key)
    assert found is not None
    return found


SOME = tiny.point(batch_size=10, learning_rate=1e-3, weight_decay=0.1)


def test_a_finished_outcome_comes_back_bit_for_bit(ledger: Ledger) -> None:
    random = np.random.default_rng(0)
    curves = [(random.random((3, 5)) ** 9).tolist() for _ in range(3)]
    given = tiny.outcome_of(*curves, value=1 / 3, provenance={"host": "here"})
    assert stored(ledger, given) == given


def test_what_is_not_finite_is_null_in_the_database_and_nan_again_in_python(
    database: Database, ledger: Ledger
) -> None:
    given = tiny.diverged(SOME)
    found = stored(ledger, given)
    assert (found.state, found.value, found.reason) == (given.state, None, given.reason)
    assert [fold.diverged for fold in found.folds] == [None, 2]
    assert found.figures == given.figures == {"train_loss": None, "val_loss": None, "val_error": None}
    for there, here in zip(found.folds, given.folds, strict=True):
        for name, curve in here.curves.items():
            expected = [point if math.isfinite(point) else math.nan for point in curve]
            np.testing.assert_array_equal(there.curves[name], expected)
    final = {"train_loss": 0.6, "val_loss": 0.6, "val_error": 0.4}
    rows = tiny.rows(database, "runs", "kind, run, epochs, figures, diverged_epoch", "order by run")
    assert [(*row[:3], json.loads(row[3]), row[4]) for row in rows] == [
        ("fold", 0, 2, final, None),
        ("fold", 1, 2, {}, 2),
    ]
    points = tiny.rows(
        database,
        "curves",
        "points",
        "where figure = 'val_loss' and run_id = (select id from pairsearch_runs where run = 1)",
    )
    assert points == [("[0.8, null]",)]


def test_a_row_holds_the_means_over_folds(database: Database, ledger: Ledger) -> None:
    given = tiny.outcome(SOME)
    stored(ledger, given)
    [(value, text)] = tiny.rows(database, "configurations", "value, figures", "where rank = 0")
    assert value == given.value
    assert json.loads(text) == given.figures
    assert given.figures["val_loss"] == pytest.approx(
        np.mean([fold.curves["val_loss"][-1] for fold in given.folds])
    )


def test_each_fold_has_a_curve_of_each_figure_with_a_point_for_each_epoch(
    database: Database, ledger: Ledger
) -> None:
    stored(ledger, tiny.outcome(SOME, folds=3, epochs=4))
    found = tiny.rows(
        database,
        "curves",
        "r.run, c.figure, c.points",
        "c join pairsearch_runs r on r.id = c.run_id order by r.run",
    )
    assert {(run, figure): len(json.loads(points)) for run, figure, points in found} == {
        (run, figure): 4 for run in range(3) for figure in ("train_loss", "val_loss", "val_error")
    }
    assert len(found) == 9


def test_runs_that_ended_in_different_epochs_come_back_as_they_were(ledger: Ledger) -> None:
    """As folds that are trained in turn may; a figure that came late is unknown before."""
    given = tiny.diverged(SOME)
    folds = (
        RunResult(0, {"loss": [0.5, 0.25, 0.125]}),
        RunResult(1, {"loss": [0.5], "error": [1.0]}),
        RunResult(2, {"loss": [0.5, 0.5], "error": [math.nan, 0.0]}),
    )
    found = stored(ledger, dataclasses.replace(given, folds=folds))
    assert [fold.epochs for fold in found.folds] == [3, 1, 2]
    assert found.folds[:2] == folds[:2]
    np.testing.assert_array_equal(found.folds[2].curves["error"], [math.nan, 0.0])


def test_nothing_is_known_of_a_configuration_without_a_result(ledger: Ledger) -> None:
    assert ledger.outcome(SOME.key) is None
    assert ledger.outcome("no such key") is None
