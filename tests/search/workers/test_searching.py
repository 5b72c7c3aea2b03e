"""A search looks after its workers until all have ended, shows the progress, and says why it ended as it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny
from sqlalchemy import make_url

from pairsearch.search.common.errors import DatabaseAwayError, InputError, WorkError
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.progress import Progress, read_progress
from pairsearch.search.setup.arguments import StudyArgument
from pairsearch.search.workers import searching
from pairsearch.search.workers.forking import Zygote
from pairsearch.search.workers.searching import conclude, pool_of, search, usual_workers

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
GRID = {"batch_size": [10], "learning_rate": [1e-3], "weight_decay": [0.0]}
Step = Callable[[], None]


def nothing() -> None:
    """Time passes."""


class Played:
    """Plays workers: what they do while the search waits, and how its looking after them ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
        self.steps = [*steps]
        self.asked: list[Any] = []
        self.replaced: list[list[int]] = []
        self.replies: list[bool | Exception] = []
        self.reconciled: list[Any] = []
        self.passed_on = 0
        monkeypatch.setattr(searching, "pool_of", self.pool_of)
        monkeypatch.setattr(searching, "Watch", lambda *given: self.asked.append(given[3]) or self)
        monkeypatch.setattr(searching, "reconcile", lambda *given: self.reconciled.append(given))
        monkeypatch.setattr(searching, "cores", lambda: 5)

    @contextmanager
    def pool_of(self, *given: Any) -> Iterator[Played]:
        self.asked.append(given[2:])
        yield self

    def wait(self, _seconds: float) -> None:
        self.steps.pop(0)()

    def alive(self) -> int:
        return len(self.steps)

    def replace(self, progresses: list[Progress]) -> bool:
        self.replaced.append([progress.open for progress in progresses])
        reply = self.replies.pop(0) if self.replies else False
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pass_on(self) -> None:
        self.passed_on += 1

    def complaints(self) -> list[str]:
        return ["a worker complains"]


@pytest.fixture
def studies(make_study: Any) -> list[StoredStudy]:
    """Two studies of one configuration each."""
    return [make_study(name=name, grid=GRID) for name in ("one", "two")]


GIVEN = cast(
    "list[StudyArgument]",
    [SimpleNamespace(text="one", here=Path("/first")), SimpleNamespace(text="two", here=Path("/second"))],
)


def finishing(database: Database, study: StoredStudy) -> Step:
    def finish() -> None:
        ledger = Ledger(database, study)
        claim = ledger.claim("ann")
        assert claim is not None
        tiny.finish(ledger, claim, tiny.outcome(claim.configuration))

    return finish


def test_a_search_ends_with_its_last_worker_and_shows_each_look(
    database: Database, studies: list[StoredStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = studies
    played = Played(monkeypatch, finishing(database, first), nothing, finishing(database, second))
    # The last worker ends, and one takes its place.
    played.replies = [False, DatabaseAwayError("gone for a moment"), True]
    played.steps.append(nothing)
    Ledger(database, second).stop()
    shown: list[tuple[list[int], bool]] = []
    said: list[str] = []
    zygote = cast(Zygote, object())
    found = search(
        database,
        studies,
        GIVEN,
        Machine(),
        limit=7,
        on_progress=lambda progresses, last: shown.append(([one.open for one in progresses], last)),
        complain=said.append,
        zygote=zygote,
    )
    assert played.asked == [(Machine(), 5, zygote, 7), 5]
    assert played.replaced == [[0, 1], [0, 1], [0, 0], [0, 0]]
    looks = [([1, 1], False), ([0, 1], False), ([0, 0], False), ([0, 0], False), ([0, 0], True)]
    assert (shown, played.passed_on) == (looks, 3)
    assert played.reconciled == [(database, studies)]
    assert found == [read_progress(database, study) for study in studies]
    assert said == ["a worker complains"]
    assert search(database, studies, GIVEN, Machine()) == found
    assert len(played.reconciled) == 1, "nothing was left to do"


def test_a_worker_that_takes_another_s_place_is_waited_for(
    database: Database, studies: list[StoredStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(monkeypatch, nothing)
    played.replies = [True]

    def wait(_seconds: float) -> None:
        for study in studies if played.replaced else []:
            finishing(database, study)()

    monkeypatch.setattr(played, "wait", wait)
    monkeypatch.setattr(played, "alive", lambda: 0)
    assert [progress.open for progress in search(database, studies, GIVEN, Machine(), 2)] == [0, 0]
    assert played.asked == [(Machine(), 2, None, None), 2]
    assert len(played.replaced) == 2


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_a_search_that_was_stopped_says_so_whatever_others_have_begun_since(
    database: Database, studies: list[StoredStudy], monkeypatch: pytest.MonkeyPatch, goes_on: bool, which: int
) -> None:
    stopped = Ledger(database, studies[which])
    played = Played(monkeypatch, stopped.stop, stopped.go_on if goes_on else nothing)
    with pytest.raises(
        WorkError, match=r"^stopped by `pairsearch stop` \(one 1, two 1 left\): run it again to go on$"
    ):
        search(database, studies, GIVEN, Machine(), 1)
    assert played.reconciled


def test_workers_that_ended_too_early_are_told_from_failures(
    database: Database, studies: list[StoredStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(monkeypatch, finishing(database, studies[0]))
    with pytest.raises(
        WorkError, match=r"^workers ended with configurations left \(two 1\): run it again to go on$"
    ):
        search(database, studies, GIVEN, Machine(), 1)
    assert played.reconciled
    ledger = Ledger(database, studies[1])
    claim = ledger.claim("ann")
    assert claim is not None
    ledger.fail_attempt(claim, "broken", final=True, traceback="first\nsecond")
    said: list[str] = []
    latest = [read_progress(database, study) for study in studies]
    key = claim.configuration.key
    with pytest.raises(WorkError, match=rf"^1 configuration failed, for example {key} of study two: broken$"):
        conclude(database, studies, latest, ["complaint"], said.append)
    assert said == [f"two: {key} raised an exception:", "first", "second", "complaint"]
    twice = [replace(latest[0], failures={"a": "first"}), latest[1]]
    with pytest.raises(WorkError, match=r"^2 configurations failed, for example a of study one: first$"):
        conclude(database, studies, twice)


@pytest.mark.parametrize("ready", [True, False, None])
def test_workers_are_forked_where_that_can_be_with_the_database_closed(
    database: Database, monkeypatch: pytest.MonkeyPatch, ready: bool | None
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(searching, "Pool", lambda *words: given.extend(words))
    opened = SimpleNamespace(
        url=make_url("postgresql://ann:secret@host/db"), close=lambda: given.append("closed")
    )
    asked: list[str] = []
    zygote = cast(Zygote, SimpleNamespace(ready=lambda device: asked.append(device) or ready))
    machine = Machine(device="cuda", gpus=("3", "4"))
    pool_of(cast(Database, opened), GIVEN, machine, 4, None if ready is None else zygote, 9)
    closed, words, *others = given
    assert (closed, words[:2], words[-2:]) == ("closed", ["one", "two"], ["--limit", "9"])
    url = "postgresql://ann:secret@host/db"
    assert others == [4, url, Path("/first"), zygote if ready else None, ("3", "4")]
    assert asked == ([] if ready is None else ["cuda"])


def test_the_usual_workers_are_one_for_each_core_or_gpu(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "cores", lambda: 5)
    machines = [Machine(), Machine(device="cuda"), Machine(device="cuda", gpus=("0", "1"))]
    assert [usual_workers(machine) for machine in machines] == [5, 1, 2]


def test_the_largest_study_says_how_many_workers_fit(
    database: Database, studies: list[StoredStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (2**30, 2**20)
    sized = [
        replace(study, traits=replace(study.traits, worker_bytes=size))
        for study, size in zip(studies, sizes, strict=True)
    ]
    monkeypatch.setattr(searching, "available_memory", lambda: 2**31)
    said: list[str] = []
    for count in (2, 3):
        searching.say_if_too_many(sized, count, said.append)
    assert said == [
        "note: memory may not hold 3 workers: 2.0 GiB are free and each takes some 1.0 GiB: --workers 2 would fit"
    ]


def test_a_device_that_is_not_there_is_told_before_anything_begins(
    database: Database, studies: list[StoredStudy]
) -> None:
    ledger = Ledger(database, studies[0])
    ledger.stop()
    with pytest.raises(InputError, match="cuda:77"):
        search(database, studies, GIVEN, Machine(device="cuda:77"))
    assert ledger.stopped()
