"""Results round-trip through the tables bit for bit; what is not finite becomes NULL, and NaN again."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tiny

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.configurations import Ledger
from pairsearch.search.ledger.outcome import Outcome


def stored(ledger: Ledger, result: Outcome) -> Outcome:
    claim = ledger.claim("ann")
    assert claim is not None
    assert ledger.finish(claim, result)
    found = ledger.outcome(claim.configuration.key)
    assert found is not None
    return found


SOME = tiny.point(batch_size=10, learning_rate=1e-3, weight_decay=0.1)


def test_a_finished_outcome_comes_back_bit_for_bit(ledger: Ledger) -> None:
    random = np.random.default_rng(0)
    curves = {name: random.random((3, 5)) ** 9 for name in ("train_loss", "val_loss", "val_error")}
    given = dataclasses.replace(tiny.outcome(SOME, folds=3, epochs=5), value=1 / 3, **curves)
    found = stored(ledger, given)
    for name, curve in curves.items():
        np.testing.assert_array_equal(getattr(found, name), curve, strict=True)
    plain = {field.name for field in dataclasses.fields(Outcome)} - curves.keys()
    assert {name: getattr(found, name) for name in plain} == {name: getattr(given, name) for name in plain}


def test_what_is_not_finite_is_null_in_the_database_and_nan_again_in_python(
    database: Database, ledger: Ledger
) -> None:
    given = tiny.diverged(SOME)
    found = stored(ledger, given)
    assert (found.state, found.value, found.reason) == (given.state, None, given.reason)
    assert found.diverged == (None, 2)
    np.testing.assert_array_equal(
        found.val_loss, np.where(np.isfinite(given.val_loss), given.val_loss, np.nan)
    )
    np.testing.assert_array_equal(found.train_loss, given.train_loss)
    assert tiny.rows(database, "folds", "fold, val_loss, diverged_epoch", "order by fold") == [
        (0, 0.6, None),
        (1, None, 2),
    ]
    assert tiny.rows(database, "curves", "val_loss", "where fold = 1 order by epoch") == [(0.8,), (None,)]
    assert tiny.rows(database, "configurations", "val_loss", "where rank = 0") == [(None,)]


def test_a_row_holds_the_means_over_folds(database: Database, ledger: Ledger) -> None:
    given = tiny.outcome(SOME)
    stored(ledger, given)
    [(value, val_loss, val_error)] = tiny.rows(
        database, "configurations", "value, val_loss, val_error", "where rank = 0"
    )
    assert value == given.value
    assert math.isclose(val_loss, given.val_loss[:, -1].mean())
    assert math.isclose(val_error, given.val_error[:, -1].mean())


def test_each_fold_and_epoch_has_one_point_in_the_curves(database: Database, ledger: Ledger) -> None:
    stored(ledger, tiny.outcome(SOME, folds=3, epochs=4))
    assert tiny.rows(database, "curves", "fold, epoch", "order by fold, epoch") == [
        (fold, epoch) for fold in range(3) for epoch in range(1, 5)
    ]


def test_nothing_is_known_of_a_configuration_without_a_result(ledger: Ledger) -> None:
    assert ledger.outcome(SOME.key) is None
    assert ledger.outcome("no such key") is None
