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
