"""Fixtures of the engines' tests: every engine, the real one behind it started once for each process of tests."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import pytest
from gathered import BEHIND, EXECUTORS, PASSWORD, THERE, MakeEngine, Started

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.engines.executor import Executed


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Starts what is behind an engine when it is first asked for, and ends it with the session."""
    with ExitStack() as stack:

        @cache
        def start(name: str) -> MakeEngine:
            if name in EXECUTORS:
                return stack.enter_context(_pool(name))
            made = importlib.import_module(BEHIND[name])
            return stack.enter_context(made.engine(tmp_path_factory.mktemp(name)))

        yield start


@contextmanager
def _pool(name: str) -> Iterator[MakeEngine]:
    processes = get_context("forkserver")
    pool = ThreadPoolExecutor(4) if name == "threads" else ProcessPoolExecutor(4, processes)
    with pool:
        yield lambda: Executed(pool)


@pytest.fixture(params=[*THERE, *EXECUTORS])
def make_engine(request: pytest.FixtureRequest, started: Started) -> MakeEngine:
    """Makes each engine in turn."""
    return started(request.param)


@pytest.fixture
def configuration(started: Started) -> Path:
    """The configuration of a Slurm that runs."""
    address = started("slurm")().address
    assert address is not None
    return Path(address)


@pytest.fixture
def storage(tmp_path: Path, postgresql_url: str) -> Path:
    """A file with the URL of a PostgreSQL database, which its owner alone reads."""
    assert PASSWORD in postgresql_url
    file = tmp_path / "storage"
    file.touch(mode=0o600)
    file.write_text(postgresql_url, encoding="utf-8")
    return file


@pytest.fixture
def database(storage: Path) -> Iterator[Database]:
    """That database, opened."""
    opened = open_database(storage.read_text(encoding="utf-8"), create=True)
    yield opened
    opened.close()


@pytest.fixture
def postgresql_url(postgresql_url: str) -> str:
    """The URL with a password that is in no other test process."""
    return postgresql_url.replace("open-sesame", PASSWORD)
