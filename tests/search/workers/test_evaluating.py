"""How an evaluation is shared out: what this process trains, with how many others, and what is left to others."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny

from pairsearch.models import fused
from pairsearch.search.common.errors import InputError, StudyError, WorkError
from pairsearch.search.common.machine import ONE_CORE, Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.setup.arguments import StudyArgument
from pairsearch.search.workers import evaluating, worker
from pairsearch.search.workers.evaluating import (
    Chosen,
    Evaluator,
    ask,
    choose,
    complete,
    evaluate,
)
from pairsearch.search.workers.tally import Tally
from pairsearch.search.workers.working import work
from pairsearch.studies.loading import Loaded
from pairsearch.studies.seeds import layout_order

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
GIVEN = [cast(StudyArgument, SimpleNamespace(text="tiny", name="tiny"))]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """The tiny study's problem."""
    return tiny.loaded()


@pytest.mark.parametrize(
    ("workers", "seconds", "given", "jobs", "others"),
    [
        (3, 0.0, True, 5, 2),
        (9, 0.0, True, 3, 2),
        (1, 99.0, True, 5, 0),
        (3, 99.0, False, 5, 0),
        (3, 99.0, True, 0, 0),
        # As many as there are cores, where that is worth their start.
        (None, 20.5, True, 5, 3),
        (None, 20.0, True, 5, 0),
        (None, math.inf, True, 2, 1),
    ],
)
def test_others_train_rounds_too_where_there_are_enough_and_that_is_worth_it(
    database: Database,
    study: StoredStudy,
    monkeypatch: pytest.MonkeyPatch,
    workers: int | None,
    seconds: float,
    given: bool,
    jobs: int,
    others: int,
) -> None:
    asked: list[Any] = []
    said: list[str] = []

    @contextmanager
    def pool_of(*words: Any) -> Iterator[Any]:
        asked.append(words)
        yield SimpleNamespace(complaints=lambda: ["one died"])

    monkeypatch.setattr(evaluating, "pool_of", pool_of)
    monkeypatch.setattr(evaluating, "usual_workers", lambda _: 4)
    monkeypatch.setattr(evaluating, "cores", lambda: 4)
    monkeypatch.setattr(evaluating, "say_if_too_many", lambda _, count, say: say(f"{count} workers"))
    for configuration in layout_order(study.definition)[:jobs]:
        Ledger(database, study).insert_rounds(configuration, 2)
    machine, zygote = Machine(threads=7, gpus=("0", "1", "2")), cast(Any, object())
    evaluator = Evaluator(machine, workers=workers, zygote=zygote, say=said.append)
    arguments = GIVEN if given else []
    with evaluator.with_others(database, [study], arguments, seconds) as each:
        pass
    if not others:
        assert (each, asked, said) == (evaluator, [], [])
        return
    assert said == [f"{others + 1} workers", "one died"]
    # The first GPU is this process's.
    assert asked == [(database, arguments, replace(machine, gpus=("1", "2")), others, zygote, 0)]
    assert each == replace(evaluator, machine=replace(machine, threads=max(1, 4 - others)))


def test_workers_share_the_only_gpu_and_leave_this_process_a_thread(
    database: Database, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    @contextmanager
    def pool_of(*words: Any) -> Iterator[Any]:
        asked.append(words[2].gpus)
        yield SimpleNamespace(complaints=list)

    monkeypatch.setattr(evaluating, "pool_of", pool_of)
    monkeypatch.setattr(evaluating, "cores", lambda: 1)
    for configuration in layout_order(study.definition)[:3]:
        Ledger(database, study).insert_rounds(configuration, 2)
    with Evaluator(Machine(gpus=("5",)), workers=3).with_others(database, [study], GIVEN, 1.0) as each:
        assert (asked, each.machine.threads) == ([("5",)], 1)


def test_the_time_that_rounds_take_is_told_by_the_folds(
    database: Database, make_study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(evaluation={"rounds": 2, "epochs": 6})
    ledger = Ledger(database, study)
    claim = ledger.claim("ann")
    assert claim is not None
    chosen = [Chosen("search", study, [claim.configuration])]
    assert ask(database, [], 2) == 0.0
    assert ask(database, chosen, 2) == math.inf
    # Two folds of two epochs each.
    tiny.finish(ledger, claim, replace(tiny.outcome(claim.configuration), seconds=10.0))
    assert ask(database, chosen, 3) == 3 * 6 * 10.0 / 4
    assert tiny.rows(database, "jobs", "first, count", "where kind = 'round' order by first") == [
        (0, 2),
        (2, 1),
    ]


def test_rounds_that_others_train_need_no_training_here(
    database: Database, study: StoredStudy, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    (some, *_) = layout_order(study.definition)
    said: list[str] = []
    chosen = [Chosen("search", study, [some])]
    train = fused.train
    monkeypatch.setattr(fused, "train", lambda *_, **__: 1 / 0)
    ledger = Ledger(database, study)
    ledger.stop()
    assert ask(database, chosen, None, said.append) == math.inf
    assert said == [f"tiny: 2 rounds of {some.key}: 2 of them are left to workers"]
    assert ledger.stopped()
    assert ask(database, chosen, None) == math.inf
    assert not ledger.stopped()
    with pytest.raises(WorkError, match="this machine cannot train"):
        evaluate(database, chosen, [], {"tiny": loaded}, Evaluator(ONE_CORE))
    monkeypatch.setattr(fused, "train", train)
    Evaluator(ONE_CORE).rounds(database, study, loaded, some, 2)
    # Rounds alone: the search goes on as it was.
    assert tiny.states(database) == {"pending": 8}
    there = Evaluator(ONE_CORE, say=said.append, stored="all stored")
    [row] = complete(database, chosen, [], {"tiny": loaded}, there, None)
    assert row.evaluated.rounds == 2
    assert said[1:] == [f"tiny: 2 rounds of {some.key}: all stored"]
    assert ask(database, chosen, None, said.append) == 0.0
    assert said[2:] == [f"tiny: 2 rounds of {some.key}: all stored before"]


def test_an_evaluation_checks_everything_before_it_loads_data(
    database: Database, study: StoredStudy, make_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    with pytest.raises(InputError, match="cuda:77"):
        choose(database, GIVEN, Machine(device="cuda:77"), {})
    with pytest.raises(StudyError, match="no finished trial"):
        choose(database, GIVEN, ONE_CORE, {})
    make_worker(tiny.Answering()).run()
    with pytest.raises(StudyError, match="seed"):
        choose(database, GIVEN, ONE_CORE, {"tiny": tiny.loaded(seed=8)})
    monkeypatch.setattr(evaluating, "load", lambda *words: asked.append(words) or tiny.loaded())
    found: dict[str, Loaded] = {}
    say = asked.append
    best = sorted(layout_order(study.definition)[:5], key=tiny.value_of)[:3]
    assert choose(database, GIVEN, ONE_CORE, found, top=3, limit=5, say=say) == [
        Chosen("search", study, best)
    ]
    assert asked == [(database, GIVEN[0], ONE_CORE, say)]
    assert found.keys() == {"tiny"}
    best = sorted(study.definition.grid.configurations(), key=tiny.value_of)[:1]
    assert choose(database, GIVEN, ONE_CORE, found) == [Chosen("search", study, best)]
    assert len(asked) == 1


def test_workers_train_as_the_machine_is(
    database: Database, study: StoredStudy, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a search's worker and an evaluation's one have in common, and in what they differ."""
    made: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def make(*words: Any, **options: Any) -> Any:
        made.append((words, options))
        return SimpleNamespace(run=lambda *left: made.append((left, {})) or Tally(), unkept=[])

    monkeypatch.setattr(worker, "Worker", make)
    machine = Machine(lease=7.0, patience=9.0, threads=3, checkpoints=tmp_path / "c", models=tmp_path / "m")
    stopping, said, told = threading.Event(), list[str](), list[str]()
    queue = deque([(study, loaded)])
    work(database, queue, machine, stopping, said.append, limit=5, max_trials=4)

    @contextmanager
    def watch(_label: str) -> Iterator[Any]:
        yield told.append

    (some, *_) = layout_order(study.definition)
    Ledger(database, study).insert_rounds(some, 1)
    evaluator = Evaluator(machine, stopping, say=said.append, watch=watch)
    with pytest.raises(KeyboardInterrupt):
        evaluator.rounds(database, study, loaded, some, 1)
    (words, search), run, (others, evaluation), _ = made
    assert run == ((4,), {})
    for (ledger, objective, given), options in ((words, search), (others, evaluation)):
        assert (ledger.database, ledger.study, ledger.lease_seconds) == (database, study, 7.0)
        assert (objective.loaded, given, options["stopping"]) == (loaded, machine, stopping)
    assert [words[1].runs[0].threads, others[1].runs[0].threads] == [1, 3]
    assert (search["limit"], evaluation["limit"], evaluation["key"]) == (5, 0, some.key)
    search["say"]("a search's worker speaks")
    evaluation["say"]("an evaluation's does not")
    evaluation["complain"]("but complains")
    assert said == ["a search's worker speaks", "but complains"]


def test_a_worker_on_several_studies_ends_after_so_many_trials_of_all(
    database: Database, make_study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int | None]] = []
    tallies = {"one": Tally(finished=2, failed=1), "two": Tally(finished=3), "three": Tally()}

    def make(ledger: Ledger, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(
            run=lambda left: made.append((ledger.study.name, left)) or tallies[ledger.study.name]
        )

    monkeypatch.setattr(worker, "Worker", make)
    studies = [(make_study(name=name), tiny.loaded(name=name)) for name in tallies]

    def done(most: int | None) -> Tally:
        made.clear()
        return work(database, deque(studies), ONE_CORE, threading.Event(), print, max_trials=most)

    assert done(None) == Tally(finished=5, failed=1)
    assert made == [("one", None), ("two", None), ("three", None)]
    assert done(7) == Tally(finished=5, failed=1)
    assert made == [("one", 7), ("two", 4), ("three", 1)]
    done(6)
    assert made == [("one", 6), ("two", 3)]
    done(3)
    assert made == [("one", 3)]
