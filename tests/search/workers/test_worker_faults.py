"""A worker whose database fails under it: full, away for a while, or away for good."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import tiny
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pairsearch.search.common.errors import DatabaseAwayError, DiskFullError
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.claims import Claim, Renewal
from pairsearch.search.ledger.jobs import Finish, Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.mirror.trials import open_view
from pairsearch.search.workers import working
from pairsearch.search.workers.heartbeat import Heartbeat
from pairsearch.search.workers.objective import Progress
from pairsearch.search.workers.worker import Tally
from pairsearch.studies.configuration import Configuration

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@contextmanager
def no_room(engine: Engine) -> Iterator[None]:
    """Let a SQLite file grow no more through an engine, as on a full disk."""

    def limit(connection, _record) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size instead

    engine.dispose()
    event.listen(engine, "connect", limit)
    yield
    event.remove(engine, "connect", limit)
    engine.dispose()


class Acting(tiny.Answering):
    """Does something before its first answer."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act: Callable[[], None] | None = act

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        act, self.act = self.act, None
        if act is not None:
            act()
        return super().__call__(configuration, progress)


class Bulky(tiny.Answering):
    """Gives results that need many pages, and so does where they come from."""

    def provenance(self) -> dict[str, str]:
        return {"host": "x" * 100_000}

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        return tiny.outcome(configuration, epochs=2000)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_disk_ends_the_worker_and_the_configuration_goes_back(
    database: Database, storage, study, make_worker
) -> None:
    """Results have no room, and nor has anything that comes after."""
    full = pytest.raises(DiskFullError, match="the disk is full: make room and start again")
    with no_room(database.engine), full:
        make_worker(Bulky()).run()
    states = tiny.states(database)
    assert states["running"] == 0, "the configuration was not handed back"
    done = states["finished"]
    assert make_worker(tiny.Answering()).run() == Tally(finished=8 - done)
    assert tiny.states(database) == {"finished": 8}
    trials = storage.get_all_trials(study.optuna_study_id)
    assert TrialState.RUNNING not in {trial.state for trial in trials}


@ON_SQLITE
def test_a_report_that_finds_no_room_does_not_count_against_the_configuration(
    database: Database, storage, study, make_worker
) -> None:
    failures = iter([DiskFullError("no room"), DatabaseAwayError("gone for a moment")])

    class Faltering(Ledger):
        def report(self, claim: Claim, step: int, value: float) -> None:
            for error in failures:
                raise error
            super().report(claim, step, value)

    ledger = Faltering(database, study, view=open_view(database, study))
    assert make_worker(tiny.Answering(), ledger=ledger).run(max_trials=1) == Tally(finished=1)
    assert tiny.rows(database, "configurations", "state, errors", "where rank = 0") == [("finished", 0)]
    [trial] = storage.get_all_trials(study.optuna_study_id)
    assert sorted(trial.intermediate_values) == [1, 2], "reports put off are made up for at the end"


@pytest.fixture
def shut(postgresql_server, postgresql_url: str) -> Callable[[bool], None]:
    """Makes PostgreSQL turn away everybody from the test's database, those inside too, or admit them again."""
    name = postgresql_url.partition("?")[0].rpartition("/")[2]

    def set_shut(away: bool) -> None:
        with psycopg.connect(postgresql_server.get_uri(), autocommit=True) as admin:
            admin.execute(f"alter database {name} allow_connections {not away}")
            if away:
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
                )

    return set_shut


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_waits_for_a_database_that_comes_back(
    database: Database, study, make_worker, shut: Callable[[bool], None]
) -> None:
    class OpensAgain(Ledger):
        misses = 0

        def finish_and_claim(self, *given: Any) -> tuple[Finish, Claim | None]:
            try:
                return super().finish_and_claim(*given)
            except DatabaseAwayError:
                self.misses += 1
                if self.misses == 2:
                    shut(False)
                raise

    ledger = OpensAgain(database, study)
    objective = Acting(lambda: shut(True))
    assert make_worker(objective, ledger=ledger, patience=60.0).run() == Tally(finished=8)
    assert ledger.misses == 2
    assert set(objective.asked.values()) == {1}
    assert tiny.states(database) == {"finished": 8}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_gives_up_after_its_patience(
    database: Database, study, make_worker, shut: Callable[[bool], None]
) -> None:
    with pytest.raises(DatabaseAwayError, match="is not reachable") as caught:
        make_worker(Acting(lambda: shut(True)), patience=0.5).run()
    assert "open-sesame" not in str(caught.value)
    shut(False)
    assert tiny.states(database) == {"running": 1, "pending": 7}
    tiny.let_leases_run_out(database)
    assert make_worker(tiny.Answering()).run() == Tally(finished=8)


@ON_SQLITE
def test_a_heartbeat_outlives_writes_that_fail(
    database: Database, study, caplog: pytest.LogCaptureFixture
) -> None:
    renewed = threading.Event()

    class Faltering(Ledger):
        failures = 2

        def renew(self, claim: Claim) -> Renewal:
            if self.failures:
                self.failures -= 1
                raise DatabaseAwayError("gone for a moment")
            held = super().renew(claim)
            renewed.set()
            return held

    ledger = Faltering(database, study, lease_seconds=0.2)
    claim = ledger.claim("ann")
    assert claim is not None
    with (
        caplog.at_level(logging.WARNING),
        Heartbeat(ledger, threading.Event()) as heartbeat,
        heartbeat.of(claim),
    ):
        # A server that does not answer to a renewal must not keep the process alive.
        assert [one.daemon for one in threading.enumerate() if one.name == "heartbeat"] == [True]
        assert renewed.wait(30)
    assert not heartbeat.lost.is_set()
    assert caplog.messages.count("heartbeat missed: gone for a moment") == 2


def test_a_heartbeat_tells_that_the_claim_was_lost(database: Database, study) -> None:
    ledger = Ledger(database, study, lease_seconds=0.2)
    claim = ledger.claim("ann")
    assert claim is not None
    ledger.hand_back(claim)
    with Heartbeat(ledger, threading.Event()) as heartbeat, heartbeat.of(claim):
        assert heartbeat.lost.wait(30)


@ON_SQLITE
def test_a_heart_beats_for_the_claim_that_is_held_and_not_after_it(
    database: Database, study, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Claim] = []
    renewing, renewed = threading.Event(), threading.Event()

    class Slow(Ledger):
        def renew(self, claim: Claim) -> Renewal:
            calls.append(claim)
            renewing.set()
            if claim == other:
                time.sleep(0.3)
                renewed.set()
            return super().renew(claim)

    ledger = Slow(database, study, lease_seconds=0.2)
    claim, other = ledger.claim("ann"), ledger.claim("ann")
    assert claim is not None
    assert other is not None
    with Heartbeat(ledger, threading.Event()) as heartbeat:
        time.sleep(0.2)  # it has none yet
        with heartbeat.of(claim):
            assert renewing.wait(30)
        time.sleep(0.1)  # one may have begun
        before = [*calls]
        time.sleep(0.3)
        assert calls == before
        renewing.clear()
        with heartbeat.of(other):
            assert renewing.wait(30)
        # A renewal that has begun is waited for.
    assert renewed.is_set()
    assert {one.token for one in calls} == {claim.token, other.token}
    assert not heartbeat.lost.is_set()
    assert "heartbeat" not in {one.name for one in threading.enumerate()}
    assert caplog.messages == []


@ON_SQLITE
def test_a_claim_whose_answer_was_lost_is_taken_up(database: Database, study, make_worker) -> None:
    class Silent(Ledger):
        silent = 2
        asked = 0

        def held(self, *given: Any) -> Claim | None:
            self.asked += 1
            return super().held(*given)

        def claim(self, *given: object, **named: object) -> Claim | None:  # type: ignore[override]
            claim = super().claim(*given, **named)  # type: ignore[arg-type]
            if self.silent:
                self.silent -= 1
                raise DatabaseAwayError("gone before it answered")
            return claim

    ledger = Silent(database, study, 5.0)
    worker = make_worker(tiny.Answering(), ledger=ledger, patience=60.0)
    assert worker.run() == Tally(finished=8)
    assert ledger.asked == 2, "what was answered is not asked for"
    assert tiny.rows(database, "configurations", "sum(claims), sum(lapses)") == [(8, 0)]
    assert re.fullmatch(r"\S+:\d+:[0-9a-f]{6}", worker.name)


@ON_SQLITE
def test_a_database_that_is_away_as_a_worker_begins_is_waited_for(
    database: Database, study, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = iter([True, True, False])

    def once_away(make: Callable[..., object]) -> Callable[..., object]:
        def made(*given: object, **named: object) -> object:
            if next(away):
                raise DatabaseAwayError("gone for a moment")
            return make(*given, **named)

        return made

    monkeypatch.setattr(working, "open_ledger", once_away(working.open_ledger))
    queue = deque([(study, tiny.loaded())])
    machine = Machine(patience=60.0)
    tally = working.work(database, queue, machine, threading.Event(), lambda _: None, max_trials=1)
    assert tally == Tally(finished=1)
    assert list(away) == []
