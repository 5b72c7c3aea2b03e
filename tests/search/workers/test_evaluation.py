"""The final evaluation: rounds on fresh pairs, kept once finished, the same for every configuration."""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import programs
import pytest
import tiny

from pairsearch.data.pairs import PairSet
from pairsearch.search.common.errors import StudyError, WorkError
from pairsearch.search.common.machine import ONE_CORE, Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.rows import read_runs
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.evaluations import read_evaluation, rounds_within
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.evaluating import (
    Chosen,
    Evaluator,
    ask,
    configurations_to_evaluate,
    evaluate,
)
from pairsearch.search.workers.models import stored_models
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.recorder import Recorder
from pairsearch.search.workers.rounds import NewRounds, Rounds, model_content
from pairsearch.search.workers.run_files import RunFiles, file_name
from pairsearch.search.workers.tally import Tally
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import parse
from pairsearch.studies.loading import Loaded, load
from pairsearch.studies.model_card import read_card
from pairsearch.studies.pairs.problem import Pairs
from pairsearch.studies.problem import Run
from pairsearch.studies.seeds import layout_order

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SOME = tiny.point(batch_size=10, learning_rate=1e-3, weight_decay=0.0)
OTHER = tiny.point(batch_size=25, learning_rate=1e-3, weight_decay=0.0)
ROUNDS = "where kind = 'round' order by study_id, run"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """The tiny study's problem."""
    return tiny.loaded()


def work(database: Database, study: StoredStudy, loaded: Loaded, name: str = "ann", **options: Any) -> Tally:
    """Be a worker on the rounds of a study."""
    settings: dict[str, Any] = {"stopping": threading.Event(), "limit": 0} | options
    ledger = settings.pop("ledger", None) or open_ledger(database, study)
    return Worker(ledger, CrossValidation(loaded), name=name, **settings).run()


def train(
    database: Database,
    study: StoredStudy,
    loaded: Loaded,
    rounds: int,
    configuration: Configuration = SOME,
    said: list[str] | None = None,
    **options: Any,
) -> int:
    """Train the missing rounds below a number; how many there were."""
    missing = Ledger(database, study).insert_rounds(configuration, rounds)
    work(database, study, loaded, say=[].append if said is None else said.append, **options)
    return missing


def evaluated(
    evaluator: Evaluator, database: Database, study: StoredStudy, loaded: Loaded, wanted: int
) -> None:
    ask(database, [Chosen("search", study, [SOME])], wanted)
    evaluator.rounds(database, study, loaded, SOME, wanted)


def stored(database: Database, study: StoredStudy, configuration: Configuration = SOME) -> list[int]:
    """The numbers of the stored rounds."""
    with database.read() as connection:
        return [one.index for one in rounds_within(connection, study, configuration.key)]


def test_finished_rounds_are_kept_and_only_the_missing_ones_trained(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    assert train(database, study, loaded, 2) == 2
    before = tiny.rows(database, "runs", rest=ROUNDS)
    assert train(database, study, loaded, 4) == 2
    assert tiny.rows(database, "runs", rest=ROUNDS)[:2] == before
    assert train(database, study, loaded, 4) == 0
    assert stored(database, study) == [0, 1, 2, 3]
    assert tiny.rows(database, "jobs", "first, count, state", "where kind = 'round' order by first") == [
        (0, 2, "done"),
        (2, 2, "done"),
    ]


def test_a_gap_among_the_stored_rounds_is_filled(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    train(database, study, loaded, 3)
    before = tiny.rows(database, "runs", rest=ROUNDS)
    tiny.execute(
        database,
        "delete from pairsearch_models where run_id in (select id from pairsearch_runs where run = 0)",
        "delete from pairsearch_runs where run = 0",
    )
    assert stored(database, study, OTHER) == []
    assert train(database, study, loaded, 5) == 3
    assert tiny.rows(database, "runs", "run, figures", ROUNDS)[:3] == [(row[4], row[6]) for row in before]
    assert stored(database, study) == [0, 1, 2, 3, 4]


def test_a_round_gives_the_same_figures_whatever_is_trained_beside_it(
    database: Database, study: StoredStudy, make_study, loaded: Loaded
) -> None:
    train(database, study, loaded, 3)
    other = make_study(name="other")
    for wanted in (1, 2, 3):
        Ledger(database, other).insert_rounds(SOME, wanted)
        work(database, other, loaded, machine=Machine(threads=2))
    first, second = (
        tiny.rows(database, "runs", "run, figures", f"where study_id = {study_id} order by run")
        for study_id in (study.id, other.id)
    )
    assert len(first) == 3
    assert first == second


def test_two_that_evaluate_at_once_share_the_rounds_and_each_is_stored_once(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    def evaluate(name: str) -> int:
        ledger = Ledger(database, study)
        inserted = sum(ledger.insert_rounds(one, 2) for one in (SOME, OTHER))
        work(database, study, loaded, name)
        return inserted

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(evaluate, "ab")) == 4
    assert tiny.rows(database, "runs", "count(*)") == [(4,)]
    assert tiny.rows(database, "models", "count(*)") == [(4,)]
    assert tiny.rows(database, "superseded") == []


def test_workers_take_rounds_before_folds_and_at_any_limit(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    ledger = Ledger(database, study)
    ledger.insert_rounds(OTHER, 2)
    outside = tiny.point(batch_size=50, learning_rate=1e-3, weight_decay=0.0)
    ledger.insert_rounds(outside, 1)
    kinds = []
    for _ in range(3):
        claim = ledger.claim("ann", limit=1)
        assert claim is not None
        kinds.append((claim.kind, claim.configuration, list(claim.numbers)))
    assert kinds == [
        ("round", OTHER, [0, 1]),
        ("round", outside, [0]),
        ("fold", layout_order(study.definition)[0], [0, 1]),
    ]
    assert ledger.claim("ann", kind="round") is None


def test_rounds_of_a_worker_that_died_are_trained_by_another(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    ledger = Ledger(database, study)
    ledger.insert_rounds(SOME, 2)
    lost = ledger.claim("dead")
    assert lost is not None
    tiny.let_leases_run_out(database)
    assert work(database, study, loaded) == Tally(rounds=2)
    assert not ledger.finish_rounds(lost, [], {}, {})
    assert tiny.rows(database, "runs", "run, worker", ROUNDS) == [(0, "ann"), (1, "ann")]
    assert tiny.rows(database, "jobs", "lapses, claims", "where kind = 'round'") == [(1, 2)]


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
def test_a_worker_that_is_stopped_hands_its_rounds_back(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    Ledger(database, study).insert_rounds(SOME, 2)
    stopping = threading.Event()
    tally = work(database, study, loaded, stopping=stopping, on_epoch=lambda _: stopping.set())
    assert tally == Tally(handed_back=1)
    assert tiny.rows(database, "runs") == []
    assert tiny.rows(database, "jobs", "state, errors", "where kind = 'round'") == [("pending", 0)]


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
    assert stored(database, study, wild) == [0, 1]
    assert tiny.rows(database, "models") == []


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
def test_a_round_is_stored_with_its_curves_its_model_and_where_it_comes_from(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    train(database, study, loaded, 2)
    trained = Rounds(loaded)(SOME, [0, 1])
    with database.read() as connection:
        assert read_runs(connection, study.id, SOME.key, "round") == [one.result for one in trained]
        rounds = rounds_within(connection, study, SOME.key)
    assert [one.index for one in rounds] == [0, 1]
    for worker, finished_at in tiny.rows(database, "runs", "worker, finished_at", "where kind = 'round'"):
        assert (worker, finished_at) == ("ann", pytest.approx(time.time(), abs=60))
    for found, one in zip(rounds, trained, strict=True):
        assert (found.facts, found.provenance) == (one.result.facts, one.provenance)
        # Two rounds trained together share their time.
        assert 0 < found.seconds == rounds[0].seconds < 60
    assert read_evaluation(database, study, SOME).seconds == pytest.approx(2 * rounds[0].seconds)
    assert stored_models(database, study, SOME.key, [0, 1]) == {
        one.index: model_content(study, SOME, one) for one in trained
    }


LARGE: dict[str, Any] = {"evaluation": {"rounds": 2, "model_megabytes": 0.1}}
"""What makes the models of a study too large for its database."""


@ON_SQLITE
def test_a_model_that_is_too_large_for_the_database_goes_into_a_folder_if_there_is_one(
    database: Database, make_study, tmp_path: Path
) -> None:
    study, loaded, shared = make_study(**LARGE), tiny.loaded(**LARGE), tmp_path / "shared"
    keeping = Machine(threads=1, models=shared)
    said: list[str] = []
    assert train(database, study, loaded, 1, said=said) == 1
    assert said.pop().startswith(
        "tiny: 1 rounds trained, 1 models too large for the database (--models FOLDER"
    )
    assert train(database, study, loaded, 2, said=said, machine=keeping) == 1
    assert said.pop().startswith("tiny: 1 rounds trained: ")
    [one] = Rounds(loaded)(SOME, [1])
    assert [file.name for file in shared.iterdir()] == [file_name(study, SOME.key, 1)]
    assert next(shared.iterdir()).read_bytes() == model_content(study, SOME, one)
    # Something is where the file of another belongs.
    (shared / file_name(study, SOME.key, 2)).mkdir()
    assert train(database, study, loaded, 3, said=said, machine=keeping) == 1
    assert re.search(r"cannot write .*round=2.*: the figures are stored without the model", said[0])
    assert tiny.rows(database, "models") == []
    assert stored(database, study) == [0, 1, 2]
    assert len(list(shared.iterdir())) == 2


@ON_SQLITE
@pytest.mark.parametrize("first", ["late", "winner"])
def test_who_loses_the_race_to_store_a_round_leaves_no_file(
    database: Database, make_study, tmp_path: Path, first: str
) -> None:
    study, loaded, shared = make_study(**LARGE), tiny.loaded(**LARGE), tmp_path / "shared"
    keeping = Machine(threads=1, models=shared)
    ledger, files = Ledger(database, study), RunFiles(shared, study)
    ledger.insert_rounds(SOME, 2)
    claim = ledger.claim("late")
    assert claim is not None
    tiny.let_leases_run_out(database)
    ledger.reap()
    # On another processor the figures are others.
    others = [
        dataclasses.replace(one, result=RunResult(one.index, {"test_error": [0.5, 0.5]}))
        for one in Rounds(loaded)(SOME, [0, 1])
    ]
    late, killed = (NewRounds(ledger, claim, others, files) for _ in range(2))
    assert len(list(shared.iterdir())) == len(late) + len(killed) == 4
    if first == "late":
        assert not late.store(lambda call: call())
        assert len(list(shared.iterdir())) == len(killed)
    assert work(database, study, loaded, machine=keeping) == Tally(rounds=2)
    if first == "winner":
        assert not late.store(lambda call: call())
    assert {file.name for file in shared.iterdir()} == {file_name(study, SOME.key, index) for index in (0, 1)}
    with database.read() as connection:
        for one in rounds_within(connection, study, SOME.key):
            assert read_card(shared / file_name(study, SOME.key, one.index)).figures == one.figures


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
        evaluated(evaluator, database, study, loaded, wanted)
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
    evaluated(evaluator, database, study, loaded, 3)
    assert said == [f"tiny: 3 rounds of {SOME.key}: all stored before"]
    assert told == []


@ON_SQLITE
def test_a_stopped_evaluator_raises_and_keeps_nothing_unfinished(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    stopping = threading.Event()
    evaluator = Evaluator(ONE_CORE, stopping)
    evaluated(evaluator, database, study, loaded, 1)
    stopping.set()
    with pytest.raises(KeyboardInterrupt):
        evaluated(evaluator, database, study, loaded, 2)
    Ledger(database, study).stop()
    stopping.clear()
    with pytest.raises(WorkError, match=r"stopped by `pairsearch stop` .* 1 jobs are left\): run it again"):
        evaluator.rounds(database, study, loaded, SOME, 2)
    assert stored(database, study) == [0]
    # There is nothing to stop, though others may still train the second.
    evaluated(evaluator, database, study, loaded, 1)
    assert Ledger(database, study).stopped()
    evaluated(evaluator, database, study, loaded, 2)
    assert stored(database, study) == [0, 1]


@ON_SQLITE
def test_studies_are_evaluated_with_the_rounds_of_their_definition_unless_told_otherwise(
    database: Database, study: StoredStudy, loaded: Loaded
) -> None:
    chosen = [Chosen("search", study, [SOME]), Chosen("paper", study, [OTHER])]
    for rounds, expected in ((1, 1), (None, 2)):
        rows = evaluate(database, chosen, [], {"tiny": loaded}, Evaluator(ONE_CORE), rounds)
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
    monkeypatch.setattr("pairsearch.search.workers.evaluating.prove", lambda *_: None)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room at postgresql://ann:open-sesame@host/db")

    monkeypatch.setattr("pairsearch.models.fused.train", fail)
    chosen, evaluator = [Chosen("search", study, [SOME])], Evaluator(ONE_CORE, say=said.append)
    with pytest.raises(
        WorkError, match=r"study tiny: batch_size 10.*MemoryError.*: finished rounds are kept"
    ):
        evaluate(database, chosen, [], {"tiny": loaded}, evaluator, 1)
    assert said[0] == "Traceback (most recent call last):"
    assert "MemoryError: no room at postgresql://ann:***@host/db" in said
    assert tiny.rows(database, "jobs", "state, errors", "where kind = 'round'") == [("failed", 2)]
    monkeypatch.undo()
    evaluate(database, chosen, [], {"tiny": loaded}, evaluator, 1)
    assert stored(database, study) == [0]


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
    study, one = create_study(database, own).study, Configuration({"x": 1.0})
    seen: list[int] = []
    stopping = threading.Event()

    def on_epoch(recorder: Recorder) -> None:
        seen.append(recorder.runs[0].index)
        if len(seen) == 2:
            stopping.set()

    assert Ledger(database, study).insert_rounds(one, 3) == 3
    tally = work(database, study, own, stopping=stopping, on_epoch=on_epoch)
    assert (tally, seen) == (Tally(handed_back=1, rounds=1), [0, 1])
    assert stored(database, study, one) == [0]
    assert work(database, study, own, machine=Machine(threads=2)) == Tally(rounds=2)
    assert tiny.rows(database, "runs", "figures", ROUNDS) == [
        (f'{{"loss": {loss}}}',) for loss in (11.0, 22.0, 23.0)
    ]


def test_rounds_that_are_not_waited_for_are_trained_by_a_worker_elsewhere(
    tmp_path: Path, database_url: str
) -> None:
    """In another folder, as on another machine; the table is then there without training."""
    tiny.write_toml(tmp_path / "tiny.toml", paper=tiny.PAPER)
    variables = {"PAIRSEARCH_STORAGE": database_url}
    arguments = ("evaluate", "tiny.toml", "--paper", "--data", "digits")
    asked = programs.run(tmp_path, *arguments, "--no-wait", **variables)
    assert asked.code == 0, asked.err
    assert "2 rounds of" in asked.out
    assert "2 of them are left to workers" in asked.out
    assert "`pairsearch worker tiny.toml` trains them" in asked.out
    assert "Table 1" not in asked.out
    assert (
        "tiny: 2 rounds of the final evaluation are left" in programs.run(tmp_path, "status", **variables).out
    )
    other = tmp_path / "other"
    other.mkdir()
    tiny.write_toml(other / "tiny.toml", paper=tiny.PAPER)
    worked = programs.run(other, "worker", "tiny.toml", "--max-trials", "1", **variables)
    assert "worker ends: 0 finished, 0 handed back, 0 superseded, 0 failed, 2 rounds" in worked.out
    told = programs.run(tmp_path, *arguments, "--models", "here", **variables)
    assert "2 rounds of" in told.out
    assert "all stored before, models in here" in told.out
    assert len(list((tmp_path / "here").iterdir())) == 2
    assert "Table 1" in told.out
