"""PostgreSQL shut down or killed under a worker: it waits with its result in hand, and gives up after its patience."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import breaking
import programs
import promise
import tiny
from server import Server

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import list_studies

AWAY_SECONDS = 3.0
STOPPED = partial(breaking.stopped_at, "pairsearch.search.ledger.jobs:Ledger", "finish_and_claim")
"""Stops the worker when it has trained its first configuration, and has yet to store it."""

Hardy = tuple[Database, Path]


def test_a_worker_keeps_its_result_in_hand_until_the_server_is_back(
    server: Server, server_url: str, hardy: Hardy, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    """Killed here, and shut down in good order in the next test."""
    database, file = hardy
    worker = promise.start(tmp_path / "worker", server_url, file, prepare=STOPPED)
    promise.wait_until_stopped(worker)
    server.kill()
    promise.go_on(worker)
    # Long enough for several calls that nobody answers.
    time.sleep(AWAY_SECONDS)
    assert worker.is_alive()
    server.start()
    ended = programs.ended(worker, tmp_path / "worker")
    assert ended.code == 0, ended.err
    assert "worker ends: 12 finished, 0 handed back, 0 superseded, 0 failed" in ended.out
    promise.assert_kept(database, expected)
    assert tiny.rows(database, "configurations", "distinct claims") == [(1,)], "nothing was trained twice"


def test_results_in_hand_come_before_the_leases_that_ran_out_while_the_server_was_away(
    server: Server, server_url: str, hardy: Hardy, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    """Whoever looks first after the start would take what the waiting worker is about to store."""
    database, file = hardy
    lease = ("--lease", "2")
    worker = promise.start(tmp_path / "worker", server_url, file, *lease, prepare=STOPPED)
    promise.wait_until_stopped(worker)
    server.stop()
    # Out by the database's clock when it is back.
    time.sleep(2.5)
    server.start()
    assert Ledger(database, list_studies(database)[0]).reap() == []
    promise.go_on(worker)
    ended = programs.ended(worker, tmp_path / "worker")
    assert "worker ends: 12 finished, 0 handed back, 0 superseded, 0 failed" in ended.out
    promise.assert_kept(database, expected)
    assert tiny.rows(database, "configurations", "distinct claims") == [(1,)], "nothing was trained twice"


def test_after_its_patience_it_ends_with_one_line_and_the_configuration_goes_back(
    server: Server, server_url: str, hardy: Hardy, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    database, file = hardy
    worker = promise.start(
        tmp_path / "worker", server_url, file, "--lease", "1", "--patience", "1", prepare=STOPPED
    )
    promise.wait_until_stopped(worker)
    server.stop()
    promise.go_on(worker)
    ended = programs.ended(worker, tmp_path / "worker")
    server.start()
    assert ended.code == 1
    *warnings, line = ended.err.splitlines()
    assert line.startswith("error: database postgresql+psycopg://")
    assert "is not reachable" in line
    assert all(warning.startswith("WARNING: ") for warning in warnings), ended.err
    assert tiny.states(database) == {"running": 1, "pending": 11}
    # Its lease is over by now, or soon.
    assert promise.work(tmp_path / "next", server_url, file, "--lease", "1").code == 0
    promise.assert_kept(database, expected)


def test_a_worker_told_to_stop_does_not_wait_for_its_patience_to_end(
    server: Server, server_url: str, hardy: Hardy, tmp_path: Path
) -> None:
    database, file = hardy
    worker = promise.start(tmp_path / "worker", server_url, file, prepare=stopped_and_soon_out_of_patience)
    promise.wait_until_stopped(worker)
    server.stop()
    promise.go_on(worker)
    worker.terminate()
    ended = programs.ended(worker, tmp_path / "worker")
    server.start()
    assert ended.code == 1
    assert "is not reachable" in ended.err
    assert tiny.states(database)["running"] == 1, "its lease gives it back"


def stopped_and_soon_out_of_patience() -> None:
    """Both at once."""
    breaking.soon_out_of_patience()
    STOPPED()


def test_a_worker_that_was_told_its_patience_waits_for_a_server_that_is_not_there_yet(
    server: Server, server_url: str, hardy: Hardy, tmp_path: Path
) -> None:
    database, file = hardy
    server.stop()
    refused = promise.work(tmp_path / "refused", server_url, file)
    assert "is not reachable" in refused.complaint
    waiting = promise.start(tmp_path / "waiting", server_url, file, "--patience", "60")
    waiting.join(1.0)
    assert waiting.exitcode is None
    server.start()
    assert programs.ended(waiting, tmp_path / "waiting").code == 0
    promise.assert_kept(database)


def test_workers_that_wait_at_the_start_end_when_they_are_told_to(
    server: Server, server_url: str, hardy: Hardy, tmp_path: Path
) -> None:
    _, file = hardy
    codes = {signal.SIGTERM: 0, signal.SIGINT: 130}
    server.stop()
    try:
        workers = {
            number: promise.start(tmp_path / number.name, server_url, file, "--patience", "60")
            for number in codes
        }
        # Past their first calls, that is, when they pause.
        time.sleep(2.0)
        for number, worker in workers.items():
            promise.send(worker, number)
        ends = {number: programs.ended(worker, tmp_path / number.name) for number, worker in workers.items()}
    finally:
        server.start()
    assert {number: (ended.code, ended.err) for number, ended in ends.items()} == {
        number: (code, "") for number, code in codes.items()
    }
    assert all("worker ends: 0 finished" in ended.out for ended in ends.values())
