"""Workers on an engine that starts none: that there are as many as were asked for, and who ends which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
import tiny

from pairsearch.search.common.errors import DatabaseAwayError, InputError, WorkError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.engines import fleet, standing
from pairsearch.search.engines.contract import Count, Engine, EngineError, Order
from pairsearch.search.engines.fleet import Fleet, search_on
from pairsearch.search.engines.orders import Cluster
from pairsearch.search.ledger import submissions
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.setup.creation import create_study

ORDER = Order(words=("worker",), environment={}, folder=Path("/"))


class Imagined(Engine):
    """An engine whose workers are numbers; each id has one worker."""

    name = "imagined"

    def __init__(self, address: str | None = None) -> None:
        super().__init__(address, {})
        self.workers: dict[str, Count] = {}
        self.before: Callable[[], None] = lambda: None
        self.silent = False

    @property
    def alive(self) -> int:
        return sum(count.alive for count in self.workers.values())

    def check(self, order: Order, workers: int) -> None:
        pass

    def submit(self, order: Order, workers: int) -> dict[str, int]:
        before, self.before = self.before, lambda: None
        before()
        made = [str(len(self.workers) + number) for number in range(workers)]
        self.workers |= dict.fromkeys(made, Count(0, 1))
        return dict.fromkeys(made, 1)

    def count(self, ids: Collection[str]) -> dict[str, Count]:
        if self.silent:
            raise EngineError("nobody is there")
        return {one: self.workers[one] for one in ids}

    def stop(self, ids: Collection[str]) -> None:
        self.workers |= dict.fromkeys(ids, Count(0, 0))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path}/runs.db", create=True)
    yield opened
    opened.close()


@pytest.fixture
def study(database: Database) -> StoredStudy:
    return create_study(database, tiny.anything(grid={"a": [1, 2, 3]})).study


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "ASK_SECONDS", "GRACE_SECONDS"):
        monkeypatch.setattr(fleet, name, 0.0)
    monkeypatch.setattr(standing, "LOOK_SECONDS", 0.0)


def test_two_commands_at_once_have_as_many_workers_as_one(database: Database, study: StoredStudy) -> None:
    engine, said = Imagined(), list[str]()
    first = Fleet(database, [study], Cluster(engine, 3), ORDER)
    second = Fleet(database, [study], Cluster(engine, 3), ORDER, say=said.append)
    engine.before = first.begin  # after the second has counted none
    second.begin()
    assert engine.alive == 3
    assert "another command" in said[-1]
    engine.stop(["0"])
    second.begin()
    assert (engine.alive, second.alive()) == (3, 3)


def test_workers_that_cannot_be_stored_are_ended(
    database: Database, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise DatabaseAwayError("away")

    monkeypatch.setattr(submissions, "record", away)
    engine = Imagined()
    with pytest.raises(DatabaseAwayError):
        Fleet(database, [study], Cluster(engine, 3), ORDER).begin()
    assert engine.alive == 0


def test_who_has_what_it_wanted_leaves_the_workers_of_others(database: Database, study: StoredStudy) -> None:
    engine = Imagined()
    Fleet(database, [study], Cluster(engine, 2), ORDER).begin()
    # It has what is within its limit, as where another command wants all, or rounds alone.
    own = Fleet(database, [study], Cluster(engine, 3), ORDER, limit=1)
    own.begin()
    engine.workers["2"] = Count(1, 0)
    tiny.execute(database, "update pairsearch_configurations set state = 'failed' where rank = 0")
    own.follow(lambda *_: None)
    assert engine.workers == {"0": Count(0, 1), "1": Count(0, 1), "2": Count(0, 0)}
    tiny.execute(database, "update pairsearch_configurations set state = 'failed'")
    own.follow(lambda *_: None)
    assert engine.alive == 0


def test_who_follows_says_once_that_the_database_is_away_and_ends_after_a_stop_without_its_engine(
    database: Database, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, said, looked = Imagined(), list[str](), iter(range(100))
    read = fleet.read_progress

    def flaky(*of: object) -> object:
        if 1 < next(looked) < 5:
            raise DatabaseAwayError("away")
        return read(*of)  # type: ignore[arg-type]

    def shown(*_: object) -> None:
        if next(looked) > 20:
            engine.silent = True
            Ledger(database, study).stop()

    monkeypatch.setattr(fleet, "read_progress", flaky)
    with pytest.raises(WorkError, match="stopped by `pairsearch stop`"):
        search_on(Cluster(engine, 2), ORDER, database, [study], on_progress=shown, complain=said.append)
    assert sum("away" in line for line in said) == 1
    assert any("does not answer" in line for line in said)


def test_a_detached_search_says_what_it_submitted_whatever_its_workers_have_done(
    database: Database, study: StoredStudy
) -> None:
    engine, said = Imagined(), list[str]()
    engine.before = lambda: tiny.execute(database, "update pairsearch_configurations set state = 'failed'")
    cluster = Cluster(engine, 2, detach=True)
    assert search_on(cluster, ORDER, database, [study], say=said.append)[0].open == 0
    with pytest.raises(WorkError, match="3 configurations failed"):
        search_on(cluster, ORDER, database, [study], say=said.append)
    assert said == ["imagined: 2 workers submitted (0, 1)", "nothing is left to be trained"]


def test_stop_goes_on_past_an_engine_that_is_gone(
    database: Database, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {place: Imagined(place) for place in ("a", "b", "c")}
    for engine in engines.values():
        Fleet(database, [study], Cluster(engine, 2), ORDER).begin()
    engines["b"].silent = True

    def named(_: str, address: str | None) -> Engine:
        if address == "a":
            raise InputError("a package is missing")
        return engines[address or ""]

    monkeypatch.setattr(standing, "engine_named", named)
    said = list[str]()
    with pytest.raises(EngineError, match=r"a package is missing; .*nobody is there"):
        standing.stop_all(database, [study], said.append)
    assert said == ["imagined: 2 workers ended"]
    assert engines["c"].alive == 0
    # They are asked again, as they may answer later, until somebody says that they never will.
    stored = submissions.submissions_to(database, [study])
    assert {one.address: one.ended for one in stored} == {"a": False, "b": False, "c": True}
    standing.stop_all(database, [study], said.append, forget=True)
    assert said[1:] == [
        "imagined: 2 workers forgotten (a package is missing)",
        "imagined: 2 workers forgotten (nobody is there)",
    ]
    assert all(one.ended for one in submissions.submissions_to(database, [study]))
