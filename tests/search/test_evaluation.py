"""The final evaluation: rounds on fresh pairs, kept once finished, the same for every configuration."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny

from pairsearch.data.sources import Source
from pairsearch.search.database.connection import Database
from pairsearch.search.errors import StudyError
from pairsearch.search.evaluation.evaluating import configurations_to_evaluate
from pairsearch.search.evaluation.rounds import Request, evaluate, missing_rounds
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.evaluations import read_evaluation
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.jobs import round_pairs

SOME = tiny.point(batch_size=10, learning_rate=1e-3, weight_decay=0.0)
OTHER = tiny.point(batch_size=25, learning_rate=1e-3, weight_decay=0.0)
FIGURES = "round, train_loss, train_error, test_loss, test_error"


def train(
    database: Database, study: StoredStudy, source: Source, rounds: int, configuration: Configuration = SOME
) -> int:
    missing = missing_rounds(database, study, configuration, rounds)
    return evaluate(database, study, source, Request(configuration, missing), worker="ann") if missing else 0


def test_finished_rounds_are_kept_and_only_the_missing_ones_trained(
    database: Database, study: StoredStudy, digits_source: Source
) -> None:
    assert train(database, study, digits_source, 2) == 2
    before = tiny.rows(database, "rounds", rest="order by id")
    assert missing_rounds(database, study, SOME, 4) == (2, 3)
    assert train(database, study, digits_source, 4) == 2
    assert tiny.rows(database, "rounds", rest="order by id")[:2] == before
    assert train(database, study, digits_source, 4) == 0
    assert tiny.rows(database, "rounds", "round", "order by id") == [(0,), (1,), (2,), (3,)]


def test_a_round_gives_the_same_figures_whatever_is_trained_beside_it(
    database: Database, study: StoredStudy, make_study, digits_source: Source
) -> None:
    train(database, study, digits_source, 3)
    other = make_study(name="other")
    for index in (2, 0, 1):
        evaluate(database, other, digits_source, Request(SOME, (index,)), worker="bob", threads=2)
    first, second = (
        tiny.rows(database, "rounds", FIGURES, f"where study_id = {study_id} order by round")
        for study_id in (study.id, other.id)
    )
    assert first == second


def test_two_evaluations_at_once_store_each_round_once(
    database: Database, study: StoredStudy, digits_source: Source
) -> None:
    request = Request(SOME, (0, 1))
    with ThreadPoolExecutor(2) as pool:
        stored = list(
            pool.map(lambda name: evaluate(database, study, digits_source, request, worker=name), "ab")
        )
    assert sum(stored) == 2
    assert tiny.rows(database, "rounds", "round", "order by round") == [(0,), (1,)]
    assert len(tiny.rows(database, "round_curves")) == 2 * 2


def test_rounds_draw_fresh_pairs_that_no_configuration_changes(
    study: StoredStudy, digits_source: Source
) -> None:
    train_set, test_set = round_pairs(study.definition, digits_source, 0)
    again, _ = round_pairs(study.definition, digits_source, 0)
    other, _ = round_pairs(study.definition, digits_source, 1)
    assert again.indices.equal(train_set.indices)
    assert not other.indices.equal(train_set.indices)
    assert (len(train_set), len(test_set)) == (20, 20)


def test_an_evaluation_that_was_stopped_stores_nothing(
    database: Database, study: StoredStudy, digits_source: Source
) -> None:
    request = Request(SOME, (0, 1))
    stored = evaluate(database, study, digits_source, request, worker="ann", on_epoch=lambda _: False)
    assert stored == 0
    assert tiny.rows(database, "rounds") == []
    assert missing_rounds(database, study, SOME, 2) == (0, 1)


def test_mean_and_sample_deviation_are_over_rounds(
    database: Database, study: StoredStudy, digits_source: Source
) -> None:
    train(database, study, digits_source, 3)
    errors = [error for (error,) in tiny.rows(database, "rounds", "test_error", "order by round")]
    found = read_evaluation(database, study, SOME)
    assert found.rounds == 3
    assert found.test_error is not None
    assert found.test_error.mean == pytest.approx(statistics.fmean(errors))
    assert found.test_error.std == pytest.approx(statistics.stdev(errors))
    assert read_evaluation(database, study, OTHER).test_error is None


def test_a_diverged_round_is_a_result_without_figures(
    database: Database, study: StoredStudy, digits_source: Source
) -> None:
    wild = tiny.point(batch_size=1, learning_rate=1e30, weight_decay=0.0)
    assert train(database, study, digits_source, 2, wild) == 2
    found = read_evaluation(database, study, wild)
    assert (found.rounds, found.diverged, found.test_error) == (2, 2, None)
    assert missing_rounds(database, study, wild, 2) == ()


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
