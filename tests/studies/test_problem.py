"""The parts of the contract: seeds of runs, and the traits that a study stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pairsearch.studies.problem import Metric, OneByOne, Problem, Run, Traits

TRAITS = Traits(
    version=3,
    fingerprint="ab" * 32,
    metrics={
        "loss": Metric("log loss", unit="nats"),
        "score": Metric(percent=True, maximise=True, training=True),
    },
    files={"wine.py": "cd" * 32},
    validated=("loss",),
    evaluated=("score", "loss"),
    overlap=1 / 3,
    together=False,
    remember={"data": "digits"},
    worker_bytes=2**30,
)


@pytest.mark.parametrize("traits", [TRAITS, Traits(1, "", {"loss": Metric()})], ids=["all", "few"])
def test_traits_come_back_from_json_as_they_were(traits: Traits) -> None:
    again = Traits.from_json(json.loads(json.dumps(traits.to_json(), allow_nan=False)))
    assert again == traits
    assert repr(again) == repr(traits)
    # Earlier versions wrote, and refuse to read, no such field where nothing is known.
    assert ("worker_bytes" in traits.to_json()) == (traits.worker_bytes > 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.pop("version"),
        lambda raw: raw.pop("metrics"),
        lambda raw: raw.update(more=1),
        lambda raw: raw.update(metrics=[]),
        lambda raw: raw["metrics"].update(loss={"best": "low"}),
        lambda raw: raw.update(worker_bytes="much"),
        lambda raw: raw.update(validated=["error"]),
        lambda raw: raw.update(evaluated=["error"]),
    ],
)
def test_traits_of_another_form_are_refused(damage: Callable[[dict[str, Any]], object]) -> None:
    raw = TRAITS.to_json()
    damage(raw)
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        Traits.from_json(raw)


def test_what_folds_report_is_what_is_named_or_all() -> None:
    assert list(TRAITS.of_folds) == ["loss"]
    assert list(Traits(1, "", {"a": Metric(), "b": Metric()}).of_folds) == ["a", "b"]


def test_the_data_are_named_by_what_is_remembered_and_the_head_of_their_fingerprint() -> None:
    assert TRAITS.data == "digits abababababab"
    assert Traits(1, "", {"loss": Metric()}).data == ""


def test_a_stream_depends_on_seed_kind_index_and_name_and_on_nothing_else() -> None:
    """Results in databases depend on these numbers: they never change."""
    assert Run("fold", 0, 10, 30, seed=2020).stream("weights") == 2735406818
    one = Run("fold", 3, 10, 30, seed=7)
    assert one.stream("order") == Run("fold", 3, 5, 1, seed=7, device="cuda:0", threads=4).stream("order")
    others = [Run("round", 3, 10, 30, seed=7), Run("fold", 4, 10, 30, seed=7), Run("fold", 3, 10, 30, seed=8)]
    found = [one.stream("order"), one.stream("weights"), *(run.stream("order") for run in others)]
    assert len(set(found)) == 5
    assert all(0 <= seed < 2**32 for seed in found)


def test_overlap_is_that_of_cross_validation_unless_a_problem_says_otherwise() -> None:
    assert [Problem().overlap(folds) for folds in (1, 2, 5, 11)] == [0.0, 1.0, 0.25, 0.1]


def test_a_problem_of_one_method_trains_a_run_and_reports_for_it() -> None:
    class Mine(OneByOne):
        def fit(self, params: Any, run: Run, report: Any) -> dict[str, Any]:
            report(1, loss=params["x"], error=run.index)
            report(2, loss=0.5, error=0.0)
            return {"w": [run.seed]}

    told: list[tuple[int, list[dict[str, float]]]] = []
    kept = Mine().train({"x": 2}, [Run("fold", 1, 3, 2, seed=9)], lambda *given: told.append(given))
    assert kept == [{"w": [9]}]
    assert told == [(1, [{"loss": 2, "error": 1}]), (2, [{"loss": 0.5, "error": 0.0}])]
