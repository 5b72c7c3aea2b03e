"""What folds say about their configuration, and other answers that need no database."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from typing import Any

import pytest
import tiny

from pairsearch.search.database.column_types import KINDS, WrongValueError
from pairsearch.search.database.states import State
from pairsearch.search.ledger.jobs import blocks, fold_jobs
from pairsearch.search.ledger.outcome import Outcome, RunResult, conclude, mean_of, reports_of
from pairsearch.search.ledger.rows import read_curve
from pairsearch.search.ledger.studies import StoredStudy, merge_choices

NAN, INF = math.nan, math.inf


def study(*, together: bool = False, **changes: object) -> StoredStudy:
    """A study that is in no database."""
    loaded = tiny.anything(**{"epochs": 3, "grid": {"x": [1, 2]}} | changes)
    traits = replace(loaded.traits, together=together)
    return StoredStudy(1, "tiny", 0, loaded.definition, loaded.definition.grid.choices, traits)


FIRST = RunResult(0, {"val_loss": [4.0, 1.0], "val_error": [0.5, 0.25]})
SECOND = RunResult(1, {"val_loss": [8.0, 2.0]})
LATE = RunResult(2, {"val_loss": [3.0, NAN], "val_error": [0.5, INF]}, diverged=2)
LOADED = RunResult(1, {}, known={"val_loss": 5.0, "val_error": None})


def test_a_run_has_epochs_and_figures_after_the_last() -> None:
    assert [run.epochs for run in (FIRST, SECOND, LOADED)] == [2, 2, 0]
    assert RunResult(0, {"a": [1.0], "b": [1.0, 2.0]}).epochs == 2
    assert FIRST.final == {"val_loss": 1.0, "val_error": 0.25}
    assert RunResult(0, {"a": [1.0, INF], "b": [2.0, 3.0]}).final == {"a": None, "b": 3.0}
    assert LATE.final == {}
    assert LOADED.final == {"val_loss": 5.0, "val_error": None}
    lasts = [run.last("val_loss") for run in (FIRST, LATE, LOADED)]
    assert lasts == [1.0, None, 5.0]
    assert [run.last("val_error") for run in (SECOND, LOADED)] == [None, None]
    assert replace(LATE, curves={"val_loss": [3.0, 7.0]}).last("val_loss") == 7.0


@pytest.mark.parametrize(
    ("folds", "of_study", "pruned", "expected"),
    [
        ([FIRST, SECOND], {}, False, (State.FINISHED, 1.5, {"val_loss": 1.5, "val_error": None}, None)),
        ([FIRST, LOADED], {}, False, (State.FINISHED, 3.0, {"val_loss": 3.0, "val_error": None}, None)),
        (
            [FIRST, FIRST],
            {},
            False,
            (State.FINISHED, 1.0, {"val_loss": 1.0, "val_error": 0.25}, None),
        ),
        (
            [FIRST, SECOND, LATE, replace(LATE, index=3)],
            {},
            True,
            (
                State.DIVERGED,
                None,
                {"val_loss": None, "val_error": None},
                "fold 2 diverged in epoch 2: a figure became NaN or infinite",
            ),
        ),
        (
            [FIRST, FIRST],
            {"pruner": "median", "together": True},
            True,
            (
                State.PRUNED,
                None,
                {"val_loss": 1.0, "val_error": 0.25},
                "pruned after epoch 2 by pruner median",
            ),
        ),
        (
            [FIRST, FIRST],
            {"pruner": "median", "folds": 3},
            True,
            (
                State.PRUNED,
                None,
                {"val_loss": 1.0, "val_error": 0.25},
                "pruned after 2 folds by pruner median",
            ),
        ),
    ],
)
def test_folds_say_what_became_of_their_configuration(
    folds: list[RunResult], of_study: dict[str, Any], pruned: bool, expected: tuple[Any, ...]
) -> None:
    stored = study(**of_study)
    found = conclude(
        stored.definition, stored.traits, folds, pruned=pruned, seconds=2.5, provenance={"host": "here"}
    )
    assert (found.state, found.value, found.figures, found.reason) == expected
    assert (found.folds, found.seconds, found.provenance) == (tuple(folds), 2.5, {"host": "here"})
    assert found.mean is None


@pytest.mark.parametrize(
    ("numbers", "mean"),
    [([], None), ([1.0, None], None), ([1.0, NAN], None), ([INF], None), ([1.0, 2.0], 1.5), ([0.0], 0.0)],
)
def test_a_mean_is_one_of_finite_numbers(numbers: list[float | None], mean: float | None) -> None:
    assert mean_of(numbers) == mean


def test_reports_are_means_by_epoch_or_folds_one_by_one() -> None:
    outcome = Outcome(State.FINISHED, 1.5, {}, (FIRST, SECOND), 1.0)
    assert reports_of(study(together=True), outcome) == {1: 6.0, 2: 1.5}
    assert reports_of(study(), outcome) == {1: 1.0, 2: 2.0}
    assert reports_of(study(), replace(outcome, folds=(FIRST, replace(LATE, index=1)))) == {1: 1.0}
    late = replace(outcome, folds=(FIRST, LATE))
    assert reports_of(study(together=True), late) == {1: 3.5}
    shorter = replace(outcome, folds=(FIRST, RunResult(1, {"val_loss": [2.0]})))
    assert reports_of(study(together=True), shorter) == {1: 3.0}
    loaded = replace(outcome, folds=(LOADED,), mean=RunResult(0, {"val_loss": [9.0, 8.0, 7.0]}))
    assert reports_of(study(together=True), loaded) == {1: 9.0, 2: 8.0, 3: 7.0}


def test_a_study_s_folds_are_jobs_of_their_own_or_one() -> None:
    row = {"study_id": 7, "key": "x=1", "rank": 3, "errors": 1, "lapses": 2, "claims": 4, "state": "pending"}
    common = {name: row[name] for name in row if name != "state"} | {"kind": "fold"}
    apart = study(folds=3)
    assert apart.folds_apart
    assert fold_jobs(apart, row) == [
        common | {"first": fold, "count": 1, "state": "pending"} for fold in range(3)
    ]
    for other in (study(folds=3, together=True), study(folds=3, pruner="median")):
        assert not other.folds_apart
        assert fold_jobs(other, row | {"state": "failed"}) == [
            common | {"first": 0, "count": 3, "state": "failed"}
        ]


@pytest.mark.parametrize(
    ("numbers", "together", "expected"),
    [
        ([], True, []),
        ([0, 1, 2], True, [(0, 3)]),
        ([0, 1, 3, 5, 6], True, [(0, 2), (3, 1), (5, 2)]),
        ([0, 1, 3], False, [(0, 1), (1, 1), (3, 1)]),
    ],
)
def test_rounds_that_follow_each_other_are_one_job_where_they_train_together(
    numbers: list[int], together: bool, expected: list[tuple[int, int]]
) -> None:
    assert blocks(numbers, together=together) == expected


def test_values_of_a_grid_are_appended_and_keep_their_places() -> None:
    stored = {"a": [2, 1], "b": ["x"]}
    assert merge_choices(stored, {"a": [1, 3, 1.0, True], "c": [None]}) == {
        "a": (2, 1, 3, 1.0, True), "b": ("x",), "c": (None,),
    }  # fmt: skip
    assert [type(value) for value in merge_choices(stored, {"a": [1.0, True]})["a"]] == [
        int,
        int,
        float,
        bool,
    ]
    assert list(merge_choices({"b": [1]}, {"a": [1], "b": [1]})) == ["b", "a"]


def test_a_curve_has_a_number_for_each_epoch() -> None:
    first, second = read_curve(1, "[1, null]", 2)
    assert (first, type(first), math.isnan(second)) == (1.0, float, True)
    with pytest.raises(WrongValueError, match=r"array of 3 numbers.*run_id=5"):
        read_curve(5, "[1, null]", 3)


def test_a_fact_may_name_a_file_that_is_no_utf_8() -> None:
    file = os.fsdecode(b"caf\xe9.csv")
    assert KINDS["JSON object"](json.dumps({"file": file}))
