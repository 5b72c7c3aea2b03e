"""Fixtures of the fault tests: a server that may be hurt, and the figures that nobody disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import promise
import pytest
from server import Server, running

from pairsearch.search.database.connection import Database, open_database

_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server of this folder's own; a test leaves it running."""
    with running() as own:
        yield own


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """The figures of the study, computed by one worker in peace."""
    return promise.undisturbed(tmp_path_factory.mktemp("peace") / "alone")


@pytest.fixture(scope="session")
def at_leisure(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """The same of the study of a user's own problem: of each point, three folds with two figures."""
    found = promise.undisturbed(tmp_path_factory.mktemp("own") / "alone", promise.create_own, rest=0)
    assert (len(found), len({key for key, *_ in found})) == (promise.OWN_POINTS * 3 * 2, promise.OWN_POINTS)
    return found


@pytest.fixture(scope="session")
def hardy_file(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the study, which is in the database `hardy`, to be copied."""
    return promise.create(tmp_path_factory.mktemp("hardy"), server.create_database("hardy"))


@pytest.fixture
def server_url(server: Server, request: pytest.FixtureRequest) -> str:
    """A fresh database on the server that may be hurt, with the study where the test wants it."""
    with_study = "hardy" in request.fixturenames
    if with_study:
        request.getfixturevalue("hardy_file")
    return server.create_database(f"faults_{next(_numbers)}", "hardy" if with_study else "template1")


@pytest.fixture
def hardy(server_url: str, hardy_file: Path) -> Iterator[tuple[Database, Path]]:
    """The study in that database, and its file."""
    database = open_database(server_url)
    yield database, hardy_file
    database.close()
