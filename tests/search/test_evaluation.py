"""The final evaluation: rounds on fresh pairs, kept once finished, the same for every configuration."""

from __future__ import annotations

import json
import statistics
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny

from pairsearch.data.pairs import PairSet
from pairsearch.search.database.connection import Database
from pairsearch.search.errors import StudyError
from pairsearch.search.evaluation.evaluating import configurations_to_evaluate
from pairsearch.search.evaluation.rounds import Request, evaluate, missing_rounds
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.evaluations import read_evaluation
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.loading import Loaded
from pairsearch.studies.pairs.problem import Pairs
from pairsearch.studies.problem import Run

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SOME = tiny.point(batch_size=10, learning_rate=1e-3, weight_decay=0.0)
OTHER = tiny.point(batch_size=25, learning_rate=1e-3, weight_decay=0.0)
ROUNDS = "where kind = 'round' order by study_id, run"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """The tiny study's problem."""
    return tiny.loaded()


def train(
    database: Database, study: StoredStudy, loaded: Loaded, rounds: int, configuration: Configuration = SOME
) -> int:
    missing = missing_rounds(database, study, configuration, rounds)
    request = Request(configuration, missing, rounds)
    return evaluate(database, study, loaded, request, worker="ann") if missing else 0


def test_finished_rounds_are_kept_and_only_the_missing_ones_trained(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    assert train(database, study, loaded, 2) == 2
    before = tiny.rows(database, "runs", rest=ROUNDS)
    assert missing_rounds(database, study, SOME, 4) == (2, 3)
    assert train(database, study, loaded, 4) == 2
    assert tiny.rows(database, "runs", rest=ROUNDS)[:2] == before
    assert train(database, study, loaded, 4) == 0
    assert tiny.rows(database, "runs", "run", ROUNDS) == [(0,), (1,), (2,), (3,)]


@ON_SQLITE
def test_a_gap_among_the_stored_rounds_is_filled(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    evaluate(database, study, loaded, Request(SOME, (0, 2), 3), worker="ann")
    assert missing_rounds(database, study, SOME, 3) == (1,)
    assert missing_rounds(database, study, OTHER, 3) == (0, 1, 2)
    assert train(database, study, loaded, 3) == 1
    assert missing_rounds(database, study, SOME, 3) == ()


def test_a_round_gives_the_same_figures_whatever_is_trained_beside_it(
    database: Database, study: StoredStudy, make_study, loaded: Loaded
) -> None:
    train(database, study, loaded, 3)
    other = make_study(name="other")
    for index in (2, 0, 1):
        evaluate(database, other, loaded, Request(SOME, (index,), 3), worker="bob", threads=2)
    first, second = (
        tiny.rows(database, "runs", "run, figures", f"where study_id = {study_id} order by run")
        for study_id in (study.id, other.id)
    )
    assert len(first) == 3
    assert first == second


def test_two_evaluations_at_once_store_each_round_once(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    request = Request(SOME, (0, 1), 2)
    with ThreadPoolExecutor(2) as pool:
        stored = list(pool.map(lambda name: evaluate(database, study, loaded, request, worker=name), "ab"))
    assert sum(stored) == 2
    assert tiny.rows(database, "runs", "run", ROUNDS) == [(0,), (1,)]
    assert len(tiny.rows(database, "curves")) == 2 * len(
        loaded.traits.metrics.keys() - {"val_loss", "val_error"}
    )


def test_rounds_draw_fresh_pairs(loaded: Loaded) -> None:
    def pairs_of(index: int) -> tuple[PairSet, PairSet]:
        problem = loaded.problem
        assert isinstance(problem, Pairs)
        return problem.round_pairs(Run("round", index, 2, 2, seed=7))

    train_set, test_set = pairs_of(0)
    again, _ = pairs_of(0)
    other, _ = pairs_of(1)
    assert again.indices.equal(train_set.indices)
    assert not other.indices.equal(train_set.indices)
    assert (len(train_set), len(test_set)) == (20, 20)


@ON_SQLITE
def test_an_evaluation_that_was_stopped_stores_nothing(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    request = Request(SOME, (0, 1), 2)
    stored = evaluate(database, study, loaded, request, worker="ann", on_epoch=lambda _: False)
    assert stored == 0
    assert tiny.rows(database, "runs") == []
    assert missing_rounds(database, study, SOME, 2) == (0, 1)


@ON_SQLITE
def test_mean_and_sample_deviation_are_over_rounds(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    train(database, study, loaded, 3)
    errors = [
        json.loads(figures)["test_error"] for (figures,) in tiny.rows(database, "runs", "figures", ROUNDS)
    ]
    found = read_evaluation(database, study, SOME)
    assert (found.rounds, list(found.figures)) == (3, ["train_error", "test_error"])
    assert found.figures["test_error"].mean == pytest.approx(statistics.fmean(errors))
    assert found.figures["test_error"].std == pytest.approx(statistics.stdev(errors))
    assert found.facts == {"parameters": "48,730"}
    assert read_evaluation(database, study, OTHER).figures == {}


@ON_SQLITE
def test_a_diverged_round_is_a_result_without_figures(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    wild = tiny.point(batch_size=1, learning_rate=1e30, weight_decay=0.0)
    assert train(database, study, loaded, 2, wild) == 2
    found = read_evaluation(database, study, wild)
    assert (found.rounds, found.diverged, found.figures) == (2, 2, {})
    assert missing_rounds(database, study, wild, 2) == ()


@ON_SQLITE
def test_the_best_are_evaluated_or_the_paper_s(
    database: Database, study: StoredStudy, make_study, make_worker
) -> None:
    with pytest.raises(StudyError, match="no finished trial to evaluate"):
        configurations_to_evaluate(database, study, top=1, paper=False)
    make_worker(tiny.Answering(), study).run()
    by_value = sorted(study.definition.grid.configurations(), key=tiny.value_of)
    assert configurations_to_evaluate(database, study, top=3, paper=False) == by_value[:3]
    with pytest.raises(StudyError, match="no \\[paper\\] table"):
        configurations_to_evaluate(database, study, top=1, paper=True)
    with_paper = make_study(name="paper", paper=tiny.PAPER)
    assert configurations_to_evaluate(database, with_paper, top=1, paper=True) == [
        tiny.point(batch_size=25, learning_rate=1e-4, weight_decay=0.1)
    ]
