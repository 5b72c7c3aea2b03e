"""A finished study as arrays, from the ledger and from results that were loaded."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy, get_study, list_studies
from pairsearch.search.results.study_table import mean_curve, read_table
from pairsearch.studies.configuration import Configuration

DIVERGED, GAP = tiny.point(10, 1e-4, 0.0), tiny.point(25, 1e-3, 0.1)


def answer(configuration: Configuration) -> Outcome:
    """One configuration diverges, one has a fold without a figure in its first epoch."""
    if configuration == DIVERGED:
        return tiny.diverged(configuration)
    full = tiny.outcome(configuration)
    if configuration != GAP:
        return full
    first = full.folds[0]
    curves = first.curves | {"val_loss": [math.nan, first.curves["val_loss"][1]]}
    return replace(full, folds=(replace(first, curves=curves), *full.folds[1:]))


def test_the_ledger_is_read_as_it_is_stored_in_the_order_of_the_grid(
    database: Database, study: StoredStudy, make_worker: Any
) -> None:
    assert read_table(database, study).configurations == ()

    make_worker(tiny.Answering(answer)).run()
    table = read_table(database, study)
    grid = study.definition.grid.configurations()
    assert list(table.configurations) == [one for one in grid if one != DIVERGED]
    assert (table.name, table.excluded, table.rounds) == ("tiny", 1, {})
    for key, fold, figures in tiny.rows(database, "runs", "key, run, figures", "where kind = 'fold'"):
        if key != DIVERGED.key:
            place = [one.key for one in table.configurations].index(key)
            for figure, value in json.loads(figures).items():
                assert table.values[figure][place, fold] == value
    states = dict(tiny.rows(database, "configurations", "key, seconds", f"where state = '{State.FINISHED}'"))
    assert table.seconds.tolist() == [states[one.key] for one in table.configurations]
    whole = table.values["val_loss"].mean(axis=1)
    assert np.allclose(table.curves["val_loss"][:, -1], whole, rtol=1e-15)
    assert np.isnan(table.curves["val_loss"]).sum() == 1
    assert np.isnan(table.curves["val_loss"][-1, 0]), "a fold of it has no figure there"


def test_a_mean_needs_every_fold() -> None:
    assert mean_curve([[1.0, 2.0, math.nan], [3.0, 4.0]]) == [2.0, 3.0, None]
    assert mean_curve([[0.1] * 3, [1e16] * 3, [-1e16] * 3]) == [pytest.approx(0.1 / 3)] * 3
    assert mean_curve([]) == []


def test_the_shipped_results_are_complete(paper: Database) -> None:
    table = read_table(paper, get_study(paper, "wsal"))
    assert len(table.configurations) + table.excluded == 960
    assert table.values["val_loss"].shape == (len(table.configurations), 10)
    assert table.curves["val_loss"].shape == (len(table.configurations), 30)
    assert np.isfinite(table.values["val_loss"]).all()
    assert np.isfinite(table.curves["val_loss"]).all()
    # The mean of the last epoch is the mean of the folds.
    last = table.curves["val_loss"][:, -1]
    assert np.allclose(last, table.values["val_loss"].mean(axis=1), rtol=1e-14)
    assert (table.seconds > 0).all()
    assert all(len(of) in (10, 30) for of in table.rounds.values())
    assert len(list_studies(paper)) == 10
