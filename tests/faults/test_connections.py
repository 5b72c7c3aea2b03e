"""Connections to PostgreSQL cut while idle, in a transaction, and during commit; no result is stored twice."""

from __future__ import annotations

from pathlib import Path

import breaking
import programs
import promise
import pytest
import tiny
from server import Server
from wire import Break, Wire

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import list_studies

Hardy = tuple[Database, Path]
# A worker commits twice or a little more for a configuration: each kind of its transactions is broken several times.
SHARE = 1 / 3
# A transaction takes milliseconds: the worker may be done before more of them are met.
CUTS = 6


@pytest.mark.parametrize("where", Break, ids=lambda where: where.name)
def test_a_connection_that_breaks_during_commit_stores_nothing_twice(
    server: Server,
    server_url: str,
    hardy: Hardy,
    tmp_path: Path,
    expected: list[tuple[object, ...]],
    where: Break,
) -> None:
    database, file = hardy
    wire = Wire(server.socket, where, SHARE)
    try:
        ended = promise.work(
            tmp_path / "worker", wire.url(server_url), file, "--patience", "60", prepare=breaking.in_a_hurry
        )
    finally:
        wire.close()
    assert ended.code == 0, ended.err
    assert "worker ends: 12 finished, 0 handed back, 0 superseded, 0 failed" in ended.out
    assert wire.broken >= promise.POINTS / 2
    promise.assert_kept(database, expected)
    # A claim whose COMMIT was not answered is found again, or handed back: no lease had to run out.
    assert tiny.rows(database, "configurations", "sum(lapses)") == [(0,)]


def test_connections_cut_in_the_middle_of_a_transaction_are_made_again(
    server: Server, server_url: str, hardy: Hardy, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    database, file = hardy
    worker = promise.start(
        tmp_path / "worker", server_url, file, "--patience", "60", prepare=breaking.in_a_hurry
    )
    cut = 0
    name = database.url.database or ""
    while worker.is_alive() and cut < CUTS:
        cut += server.cut(name, in_transaction=True)
    ended = programs.ended(worker, tmp_path / "worker")
    assert ended.code == 0, ended.err
    assert cut >= CUTS
    promise.assert_kept(database, expected)


def test_connections_cut_while_idle_are_made_again(
    server: Server, server_url: str, hardy: Hardy, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    """The worker has nothing to do but to wait for what the test holds."""
    database, file = hardy
    ledger = Ledger(database, list_studies(database)[0])
    held = ledger.claim("the test")
    assert held is not None
    worker = promise.start(tmp_path / "worker", server_url, file)
    programs.wait_for(lambda: tiny.states(database)["finished"] == promise.POINTS - 1, "all others")
    cut = 0
    while cut < CUTS:
        cut += server.cut(database.url.database or "")
        programs.wait_for(lambda: server.connections(database.url.database or "") > 0, "a new connection")
    assert ledger.hand_back(held)
    ended = programs.ended(worker, tmp_path / "worker")
    assert ended.code == 0, ended.err
    promise.assert_kept(database, expected)
