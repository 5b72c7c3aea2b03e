"""What is said of a verdict, word for word, and its dictionary: in the singular and the plural, of either direction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pairsearch.search.database.states import State
from pairsearch.search.results.fold_figures import Point
from pairsearch.search.verdict.judging import Member, Others, Verdict
from pairsearch.search.verdict.sentences import verdict_json, verdict_lines
from pairsearch.search.verdict.study_verdict import StudyVerdict
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Metric

A, B, C = (Configuration({"x": x}) for x in (1, 2, 3))
TEST = "paired t"
VERDICT = Verdict(
    winner=A.key,
    mean=0.5,
    interval=(0.25, 0.75),
    optimism=0.125,
    regret=0.375,
    test=TEST,
    alpha=0.05,
    folds=6,
    members=(Member(A.key, 0.5, 0.0, 1.0, 9.0), Member(B.key, 0.625, 0.125, 0.5, 4.0)),
    others=Others(2, 3.0, 2.0),
    cheapest=B.key,
    cheapest_within_one_error=C.key,
    considered=4,
    excluded=0,
)
FOUND = StudyVerdict(
    study="some",
    metric="loss",
    metrics={"loss": Metric(), "error": Metric(percent=True), "train": Metric(training=True)},
    overlap=0.25,
    verdict=VERDICT,
    configurations={one.key: one for one in (A, B, C)},
    seconds={A.key: 9.0, B.key: 4.0, C.key: 0.0},
    winners={
        "loss": Point(A, State.FINISHED, None, {"loss": 0.5, "error": 0.25}, None),
        "error": Point(B, State.FINISHED, None, {"loss": 0.625, "error": 0.125, "train": None}, None),
        "train": Point(C, State.FINISHED, None, {"train": 0.0}, None),
    },
    open=0,
    pruner="none",
    uncovered=0,
)
SET = (
    "Verdict by loss: 2 of 4 may be the best; the other 2 are worse, half of them by at least 2.0000, at the 5 % "
    "level. Test: paired t."
)
CHEAPEST = (
    "Cheapest of these, by seconds of training (all folds together): x 2, 4.0 s. Cheapest with a mean within one "
    "standard error of the best: x 3, 0.0 s."
)
FRESH = (
    "On fresh folds the best, chosen among 4, is expected to have about 0.6250 instead of 0.5000; between 0.2500 and "
    "0.7500 (95 %)."
)
COSTS = "If another is truly the best, taking this one costs at most 0.3750 (95 %)."
BY_ERROR = "By error another is best: x 2 (loss 0.6250, error 12.50 %)."
ALONE: dict[str, Any] = {"members": VERDICT.members[:1], "others": Others(1, 3.0, 2.0), "considered": 2}


@pytest.mark.parametrize(
    ("changes", "of_study", "lines"),
    [
        ({}, {}, [SET, CHEAPEST, FRESH, COSTS, BY_ERROR]),
        # Where the row of the best lacks its figure.
        ({}, {"winners": {"error": FOUND.winners["error"]}}, [SET, CHEAPEST, FRESH, COSTS]),
        # Results that were loaded have no times.
        ({}, {"seconds": {A.key: 0.0, B.key: 0.0, C.key: 0.0}}, [SET, FRESH, COSTS, BY_ERROR]),
        (
            ALONE,
            {"winners": {}},
            [
                "Verdict by loss: the first is the best; the other is worse, by at least 2.0000, at the 5 % level. "
                "Test: paired t.",
                FRESH.replace("among 4", "among 2"),
            ],
        ),
        (
            {"others": None, "alpha": 0.1, "considered": 2, "excluded": 1},
            {"open": 1, "winners": {}},
            [
                "Verdict by loss: each of the 2 configurations may be the best at the 10 % level. Test: paired t.",
                CHEAPEST,
                FRESH.replace("among 4", "among 2").replace("95", "90"),
                COSTS.replace("95", "90"),
                "Left out: 1 without a figure in every fold (diverged, pruned or failed).",
                "Provisional: 1 configuration is still to be trained.",
            ],
        ),
        (
            ALONE | {"others": None, "considered": 1},
            {"open": 2},
            [
                "Verdict: there is one configuration to judge, and nothing to compare it with.",
                FRESH.replace("chosen among 4, ", ""),
                BY_ERROR,
                "Provisional: 2 configurations are still to be trained.",
            ],
        ),
        (
            {"folds": 2, "interval": None, "regret": None, "others": None},
            {"uncovered": 2, "pruner": "hyperband", "winners": {}},
            [
                "Verdict among those that were not pruned: 2 folds can tell nothing at the 5 % level; all 4 "
                "configurations may be the best.",
                "It does not cover the 2 configurations that were pruned, among which the best may be. Pruner "
                "hyperband lost the best in 76 to 85 % of orders on three of the paper's four studies.",
                CHEAPEST,
            ],
        ),
        (
            {
                "folds": 1,
                "interval": None,
                "optimism": None,
                "regret": None,
                "cheapest_within_one_error": B.key,
            },
            {"uncovered": 1, "winners": {}},
            [
                "Verdict among those that were not pruned: 1 fold can tell nothing at the 5 % level; all 4 "
                "configurations may be the best.",
                "It does not cover the 1 configuration that was pruned, among which the best may be.",
                CHEAPEST.replace("x 3, 0.0 s", "the same"),
            ],
        ),
    ],
)
def test_a_verdict_is_said_in_these_words(
    changes: dict[str, Any], of_study: dict[str, Any], lines: list[str]
) -> None:
    assert verdict_lines(replace(FOUND, verdict=replace(VERDICT, **changes), **of_study)) == lines


def test_figures_that_are_maximised_are_said_with_their_own_sign() -> None:
    accuracy = replace(FOUND, metrics={"loss": Metric(percent=True, maximise=True)}, winners={})
    judged = replace(VERDICT, mean=-0.5, interval=(-0.75, -0.25), optimism=0.125, cheapest=A.key)
    assert verdict_lines(replace(accuracy, verdict=judged)) == [
        SET.replace("2.0000", "200.00 %"),
        CHEAPEST.replace("x 2, 4.0 s", "the best itself, 9.0 s"),
        FRESH.replace(
            "0.6250 instead of 0.5000; between 0.2500 and 0.7500",
            "37.50 % instead of 50.00 %; between 25.00 % and 75.00 %",
        ),
        COSTS.replace("0.3750", "37.50 %"),
    ]
    told = verdict_json(replace(accuracy, verdict=judged))
    assert told is not None
    assert (told["mean"], told["interval"]) == (0.5, [0.25, 0.75])
    assert [member["mean"] for member in told["members"]] == [-0.5, -0.625]


def test_the_dictionary_has_all_of_it() -> None:
    found = replace(FOUND, open=3, pruner="median", uncovered=1)
    assert verdict_json(found) == {
        "metric": "loss",
        "overlap": 0.25,
        "provisional": True,
        "open": 3,
        "pruner": "median",
        "uncovered": 1,
        "decisive": True,
        "winner": {"x": 1},
        "mean": 0.5,
        "interval": [0.25, 0.75],
        "optimism": 0.125,
        "regret": 0.375,
        "test": TEST,
        "alpha": 0.05,
        "folds": 6,
        "members": [
            {"params": {"x": 1}, "mean": 0.5, "difference": 0.0, "p": 1.0, "seconds": 9.0},
            {"params": {"x": 2}, "mean": 0.625, "difference": 0.125, "p": 0.5, "seconds": 4.0},
        ],
        "others": {"count": 2, "difference": 3.0, "at_least": 2.0},
        "cheapest": {"x": 2},
        "cheapest_within_one_error": {"x": 3},
        "considered": 4,
        "excluded": 0,
        "winners": {
            "loss": {"params": {"x": 1}, "figures": {"loss": 0.5, "error": 0.25}},
            "error": {"params": {"x": 2}, "figures": {"loss": 0.625, "error": 0.125, "train": None}},
            "train": {"params": {"x": 3}, "figures": {"train": 0.0}},
        },
    }
    few = verdict_json(replace(FOUND, verdict=replace(VERDICT, folds=4, interval=None)))
    assert few is not None
    assert (few["interval"], few["decisive"], few["provisional"]) == (None, False, False)


def test_nothing_is_said_while_nothing_is_finished() -> None:
    assert verdict_lines(replace(FOUND, verdict=None)) == []
    assert verdict_json(replace(FOUND, verdict=None)) is None
