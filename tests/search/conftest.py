"""Fixtures of the service's tests: an opened database, a study in it, its ledger, mirror and workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import tiny

from pairsearch.data.sources import Source
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.configurations import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.storage import TrialStorage
from pairsearch.search.mirror.trials import Mirror, open_storage
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.worker import Worker

MakeStudy = Callable[..., StoredStudy]
MakeWorker = Callable[..., Worker]


@pytest.fixture(autouse=True)
def server_long_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases run out at once, although the tests' server was started a moment ago."""
    monkeypatch.setattr("pairsearch.search.ledger.configurations.RETURN_SECONDS", 0.0)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with our tables."""
    opened = open_database(database_url, create=True)
    yield opened
    opened.close()


@pytest.fixture
def storage(database: Database) -> Iterator[TrialStorage]:
    """Optuna's storage in the same database."""
    opened = open_storage(database)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.fixture
def make_study(database: Database, storage: TrialStorage, digits_source: Source) -> MakeStudy:
    """Creates the tiny study with some fields of its definition replaced."""

    def make(**changes: object) -> StoredStudy:
        return create_study(database, tiny.loaded(source=digits_source, **changes), storage).study

    return make


@pytest.fixture
def study(make_study: MakeStudy) -> StoredStudy:
    """The tiny study: eight configurations, all pending."""
    return make_study()


@pytest.fixture
def ledger(database: Database, study: StoredStudy) -> Ledger:
    """The ledger of the tiny study."""
    return Ledger(database, study.id)


@pytest.fixture
def mirror(database: Database, storage: TrialStorage, study: StoredStudy, ledger: Ledger) -> Mirror:
    """Optuna's view of the tiny study."""
    return Mirror(database, storage, study, ledger)


@pytest.fixture
def make_worker(database: Database, storage: TrialStorage, request: pytest.FixtureRequest) -> MakeWorker:
    """Makes a worker of a study, the tiny one unless another is given."""

    def make(objective: tiny.Answering, study: StoredStudy | None = None, **options: object) -> Worker:
        chosen = study or request.getfixturevalue("study")
        settings: dict[str, object] = {"stopping": threading.Event(), "patience": 0.0} | options
        return Worker(database, storage, chosen, objective, **settings)

    return make
