"""Workers killed at each step of their work, and workers stopped for longer than their lease."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import breaking
import programs
import promise
import pytest
import tiny

from pairsearch.search.database.connection import open_database


def test_a_worker_killed_at_each_step_leaves_nothing_behind(
    database_url: str, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    file = promise.create(tmp_path, database_url)
    for step in breaking.STEPS:
        killed = promise.work(
            tmp_path / "_".join(step[1:]),
            database_url,
            file,
            *("--lease", "1"),
            prepare=partial(breaking.killed_at, *step),
        )
        assert killed.code == -signal.SIGKILL, killed
    last = promise.work(tmp_path / "last", database_url, file, "--lease", "1")
    assert (last.code, last.err) == (0, "")
    database = open_database(database_url)
    promise.assert_kept(database, expected)
    # All but the three before a claim was made, and the one after the result was stored, took a claim with them.
    [(lapses,)] = tiny.rows(database, "configurations", "sum(lapses)")
    assert lapses == len(breaking.STEPS) - 4
    database.close()


@pytest.mark.parametrize(
    ("database_url", "owner", "method", "superseded"),
    [
        ("sqlite", "pairsearch.search.ledger.jobs:Ledger", "finish_and_claim", 1),
        ("postgresql", "pairsearch.search.ledger.jobs:Ledger", "report", 0),
    ],
    ids=["sqlite, with its result in hand", "postgresql, while it trains"],
    indirect=["database_url"],
)
def test_a_worker_stopped_for_longer_than_its_lease_goes_on_with_the_next_configuration(
    database_url: str,
    tmp_path: Path,
    expected: list[tuple[object, ...]],
    owner: str,
    method: str,
    superseded: int,
) -> None:
    file = promise.create(tmp_path, database_url)
    stopped = promise.start(
        tmp_path / "stopped",
        database_url,
        file,
        *("--lease", "1"),
        prepare=partial(breaking.stopped_at, owner, method),
    )
    promise.wait_until_stopped(stopped)
    database = open_database(database_url)
    # Of the first configuration, which the stopped one holds; it waits until the lease is over.
    other = promise.work(tmp_path / "other", database_url, file, "--lease", "1", "--limit", "1")
    assert "lease of" in other.out
    assert "worker ends: 1 finished" in other.out
    promise.go_on(stopped)
    ended = programs.ended(stopped, tmp_path / "stopped")
    assert ended.code == 0, ended.err
    assert f"worker ends: 11 finished, 0 handed back, {superseded} superseded, 0 failed" in ended.out
    assert len(tiny.rows(database, "superseded")) == superseded
    promise.assert_kept(database, expected)
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pairsearch_jobs SET state=%(state)s::VARCHAR, claims=",
        "SELECT studies.study_id",
        "INSERT INTO pairsearch_runs",
    ],
    ids=["claiming", "making its trial", "storing its result"],
)
def test_a_worker_frozen_in_a_transaction_holds_up_nobody_for_long(
    postgresql_url: str, tmp_path: Path, expected: list[tuple[object, ...]], statement: str
) -> None:
    """As a virtual machine that is paused: it still has its connection, and the locks of its transaction."""
    file = promise.create(tmp_path, postgresql_url)
    frozen = promise.start(
        tmp_path / "frozen",
        postgresql_url,
        file,
        *("--lease", "1"),
        prepare=partial(breaking.frozen_in_a_transaction, statement),
    )
    promise.wait_until_stopped(frozen)
    other = promise.work(tmp_path / "other", postgresql_url, file, "--lease", "1")
    assert (other.code, other.err) == (0, "")
    assert "worker ends: 12 finished" in other.out
    promise.go_on(frozen)
    ended = programs.ended(frozen, tmp_path / "frozen")
    assert ended.code == 0, ended.err
    database = open_database(postgresql_url)
    promise.assert_kept(database, expected)
    database.close()
