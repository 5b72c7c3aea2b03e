"""The final evaluation: rounds on fresh pairs, kept once finished, the same for every configuration."""

from __future__ import annotations

import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny

from pairsearch.data.pairs import PairSet
from pairsearch.search.database.connection import Database
from pairsearch.search.errors import StudyError, WorkError
from pairsearch.search.evaluation.evaluating import (
    Chosen,
    Evaluator,
    configurations_to_evaluate,
    evaluate_studies,
)
from pairsearch.search.evaluation.rounds import Request, TrainedRound, evaluate, missing_rounds
from pairsearch.search.ledger.rows import read_runs
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.machine import ONE_CORE, Machine
from pairsearch.search.results.evaluations import read_evaluation, rounds_within
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.recorder import Recorder
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import parse
from pairsearch.studies.loading import Loaded, load
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
        evaluate(
            database, other, loaded, Request(SOME, (index,), 3), worker="bob", machine=Machine(threads=2)
        )
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


@ON_SQLITE
def test_a_round_is_stored_with_its_curves_and_where_it_comes_from(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    trained: list[TrainedRound] = []
    request = Request(SOME, (0, 1), 2)
    assert evaluate(database, study, loaded, request, worker="ann", keep=trained.extend) == 2
    with database.read() as connection:
        assert read_runs(connection, study.id, SOME.key, "round") == [one.result for one in trained]
        rounds = rounds_within(connection, study, SOME.key)
    assert [one.index for one in rounds] == [0, 1]
    for worker, finished_at in tiny.rows(database, "runs", "worker, finished_at", "where kind = 'round'"):
        assert (worker, finished_at) == ("ann", pytest.approx(time.time(), abs=60))
    for stored, one in zip(rounds, trained, strict=True):
        assert (stored.seconds, stored.facts) == (one.seconds, one.facts)
        assert stored.provenance == one.provenance
        # Two rounds trained together share their time.
        assert 0 < one.seconds == trained[0].seconds < 60
    assert read_evaluation(database, study, SOME).seconds == pytest.approx(2 * trained[0].seconds)


@ON_SQLITE
def test_an_evaluator_trains_what_is_missing_and_says_so(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    said: list[str] = []
    told: list[str] = []

    @contextmanager
    def watch(label: str) -> Iterator[Callable[[str], None]]:
        assert label == name
        yield told.append

    evaluator = Evaluator(ONE_CORE, say=said.append, watch=watch)
    for wanted, trained in ((1, 1), (3, 2)):
        name = f"tiny: {wanted} rounds of {SOME.key}"
        evaluator.rounds(database, study, loaded, SOME, wanted)
        line = re.fullmatch(rf"{re.escape(name)}: {trained} trained in ([0-9.]+) s", said.pop())
        assert line is not None
        assert float(line[1]) < 60
        # The last epoch shows the stored figures, means over the rounds trained together.
        found = read_evaluation(database, study, SOME)
        assert [line.split(",")[0] for line in told] == [f"{name}: epoch {epoch}" for epoch in (1, 2)]
        if wanted == 1:
            assert told[-1].endswith(
                f"training error {100 * found.figures['train_error'].mean:.2f}, "
                f"test error {100 * found.figures['test_error'].mean:.2f}"
            )
        told.clear()
    evaluator.rounds(database, study, loaded, SOME, 3)
    assert said == [f"tiny: 3 rounds of {SOME.key}: all stored before"]
    assert told == []


@ON_SQLITE
def test_a_stopped_evaluator_raises_and_keeps_nothing_unfinished(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    stopping = threading.Event()
    evaluator = Evaluator(ONE_CORE, stopping)
    evaluator.rounds(database, study, loaded, SOME, 1)
    stopping.set()
    with pytest.raises(KeyboardInterrupt):
        evaluator.rounds(database, study, loaded, SOME, 2)
    assert missing_rounds(database, study, SOME, 2) == (1,)
    # There is nothing to stop.
    evaluator.rounds(database, study, loaded, SOME, 1)
    # Nor is there after the last epoch.
    stopping.clear()
    last = Evaluator(ONE_CORE, stopping, models=Folder(stopping))  # type: ignore[arg-type]
    last.rounds(database, study, loaded, SOME, 2)
    assert stopping.is_set()
    assert missing_rounds(database, study, SOME, 2) == ()


class Folder:
    """Takes the models of rounds that are trained, and at this moment the process is told to stop."""

    path = Path("models")

    def __init__(self, stopping: threading.Event) -> None:
        self.keep = lambda *_: stopping.set() or 0


@ON_SQLITE
def test_studies_are_evaluated_with_the_rounds_of_their_definition_unless_told_otherwise(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    chosen = [Chosen("search", study, [SOME]), Chosen("paper", study, [OTHER])]
    for rounds, expected in ((1, 1), (None, 2)):
        rows = evaluate_studies(database, chosen, {"tiny": loaded}, Evaluator(ONE_CORE), rounds)
        assert [(row.chosen_by, row.study, row.params, row.evaluated.rounds) for row in rows] == [
            ("search", study, SOME.params, expected),
            ("paper", study, OTHER.params, expected),
        ]
        assert [row.evaluated for row in rows] == [
            read_evaluation(database, study, one) for one in (SOME, OTHER)
        ]


@ON_SQLITE
def test_what_a_problem_raises_while_it_is_evaluated_is_said_without_passwords(
    database: Database, study: StoredStudy, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("pairsearch.search.evaluation.evaluating.prove", lambda *_: None)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room at postgresql://ann:open-sesame@host/db")

    monkeypatch.setattr("pairsearch.models.fused.train", fail)
    with pytest.raises(
        WorkError, match=r"study tiny: batch_size 10.*MemoryError.*: finished rounds are kept"
    ):
        evaluate_studies(
            database,
            [Chosen("search", study, [SOME])],
            {"tiny": loaded},
            Evaluator(ONE_CORE, say=said.append),
            1,
        )
    assert said[0] == "Traceback (most recent call last):"
    assert said[-1] == "MemoryError: no room at postgresql://ann:***@host/db"


@ON_SQLITE
def test_rounds_one_after_the_other_are_stored_one_by_one_until_a_stop(
    database: Database, tmp_path: Path, storage
) -> None:
    (tmp_path / "mine.py").write_text(
        "from pairsearch.studies.problem import Metric, OneByOne\n"
        "class Mine(OneByOne):\n"
        "    metrics = {'loss': Metric()}\n"
        "    def fit(self, params, run, report):\n"
        "        report(1, loss=params['x'] + run.index + 10 * run.threads)\n"
    )
    fields = {"name": "mine", "problem": "mine.py:Mine", "metric": "loss", "epochs": 1, "folds": 2}
    own = load(parse(fields | {"grid": {"x": [1.0]}, "evaluation": {"rounds": 3}}, "mine"), tmp_path)
    study, one = create_study(database, own, storage).study, Configuration({"x": 1.0})
    seen: list[int] = []

    def on_epoch(recorder: Recorder) -> bool:
        seen.append(recorder.runs[0].index)
        return len(seen) < 2

    request = Request(one, (0, 1, 2), 3)
    assert evaluate(database, study, own, request, worker="ann", on_epoch=on_epoch) == 1
    assert seen == [0, 1]
    assert missing_rounds(database, study, one, 3) == (1, 2)
    two = Machine(threads=2)
    assert evaluate(database, study, own, Request(one, (1, 2), 3), worker="ann", machine=two) == 2
    assert tiny.rows(database, "runs", "figures", ROUNDS) == [
        (f'{{"loss": {loss}}}',) for loss in (11.0, 22.0, 23.0)
    ]
