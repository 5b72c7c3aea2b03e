"""Fixtures of the tests with users' own problems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project


@pytest.fixture(autouse=True)
def server_long_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let leases run out at once, although the tests' server has started only just now."""
    monkeypatch.setattr("pairsearch.search.ledger.unfinished.RETURN_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with processes of their own are forked from this process, as from a worker, unless a test says otherwise.

    Threads of the tests' own processes wait for nothing that a run needs, and a program takes a second to start.
    """
    monkeypatch.setattr("pairsearch.search.workers.nursery.forkable", lambda: True)


@pytest.fixture(params=["sqlite", "postgresql"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """An empty folder of a user's, with each kind of database in turn."""
    made = Project(tmp_path, request.getfixturevalue(f"{request.param}_url"))
    yield made
    made.close()


@pytest.fixture
def on_sqlite(tmp_path: Path, sqlite_url: str) -> Iterator[Project]:
    """An empty folder of a user's with SQLite, where the kind of database does not matter."""
    made = Project(tmp_path, sqlite_url)
    yield made
    made.close()
