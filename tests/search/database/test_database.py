"""Opening databases: which URLs are understood, which databases are refused and why, and what is never shown."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import psycopg
import pytest
import tiny
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from pairsearch.search.common.errors import DatabaseAwayError, ExitCode, StorageError
from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.tables import SCHEMA_VERSION
from pairsearch.search.database.urls import parse_url


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no url", "malformed"),
        ("", "malformed"),
        ("postgresql://user:open-sesame@host:port/db", "malformed"),
        ("mysql://host/db", "names database 'mysql'"),
        ("postgresql+asyncpg://host/db", "names driver 'postgresql\\+asyncpg'"),
        ("sqlite://", "names no file"),
        ("sqlite://host/file.db", "names no file"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(given: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as caught:
        parse_url(given)
    assert "open-sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:open-sesame@host/db",
        "postgresql://ann@host/db?password=open-sesame",
        "postgresql+psycopg://ann:open-sesame@/db?host=/tmp&sslpassword=open-sesame",
    ],
)
def test_a_label_shows_no_password(url: str) -> None:
    database = Database(url)
    assert "open-sesame" not in database.label
    assert "ann" in database.label
    database.close()


def test_a_database_is_made_only_where_that_was_asked_for(database_url: str) -> None:
    with pytest.raises(StorageError, match="`pairsearch create` makes"):
        open_database(database_url)
    open_database(database_url, create=True).close()
    opened = open_database(database_url)
    assert opened.schema_version() == SCHEMA_VERSION
    opened.close()


def test_looking_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no database at"):
        open_database(f"sqlite:///{tmp_path / 'absent.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "message"),
    [(SCHEMA_VERSION + 1, "newer than .* upgrade pairsearch"), (0, "older than .* `pairsearch upgrade`")],
)
@pytest.mark.parametrize("create", [False, True])
def test_another_schema_version_is_refused(
    database: Database, database_url: str, version: int, message: str, create: bool
) -> None:
    with database.write() as connection:
        connection.execute(text("update pairsearch_schema set version = :version"), {"version": version})
    with pytest.raises(StorageError, match=f"has schema version {version}, {message}"):
        open_database(database_url, create=create)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Dear diary, " * 100)
    before = file.read_bytes()
    for create in (False, True):
        with pytest.raises(StorageError, match="is no SQLite database"):
            open_database(f"sqlite:///{file}", create=create)
    assert file.read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no folder"):
        open_database(f"sqlite:///{tmp_path / 'absent' / 'study.db'}", create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_told_from_one_that_is_no_database(sqlite_url: str, tmp_path: Path) -> None:
    open_database(sqlite_url, create=True).close()
    file = tmp_path / "study.db"
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(bytes(content))
    with pytest.raises(StorageError, match="damaged SQLite database"):
        open_database(sqlite_url)


def test_a_database_that_may_only_be_read_can_be_looked_at_and_refuses_writing(
    sqlite_url: str, tmp_path: Path
) -> None:
    open_database(sqlite_url, create=True).close()
    # File permissions do not bind root; SQLite's own way of opening does.
    opened = open_database(f"sqlite:///file:{tmp_path / 'study.db'}?mode=ro&uri=true")
    assert tiny.rows(opened, "configurations") == []
    with pytest.raises(StorageError, match="is read-only"), opened.write() as connection:
        connection.execute(text("delete from pairsearch_schema"))
    opened.close()


def test_a_postgresql_database_that_may_only_be_read_is_told_so(postgresql_url: str) -> None:
    open_database(postgresql_url, create=True).close()
    # What a standby, or a user with this setting, gives.
    reader = open_database(f"{postgresql_url}&options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(StorageError, match="is read-only"), reader.write() as connection:
        connection.execute(text("delete from pairsearch_schema"))
    reader.close()


@pytest.mark.parametrize(
    "where",
    ["127.0.0.1:1/db", "/db?host=/no/such/folder", "no-such-host.invalid/db"],
    ids=["port", "socket", "host"],
)
def test_a_server_that_does_not_answer_is_unreachable(where: str) -> None:
    with pytest.raises(StorageError, match="is not reachable") as caught:
        open_database(f"postgresql://ann:open-sesame@{where}")
    assert "open-sesame" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_a_database_that_the_server_does_not_have_is_named(postgresql_url: str) -> None:
    other = postgresql_url.replace("/test_", "/absent_")
    with pytest.raises(StorageError, match=r'"absent_\d+" does not exist') as caught:
        open_database(other)
    assert "open-sesame" not in str(caught.value)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_was_cut_is_replaced(database: Database) -> None:
    with pytest.raises(DatabaseAwayError), database.write() as connection:
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
    assert database.schema_version() == SCHEMA_VERSION


def test_ctrl_c_is_not_lost_in_an_error_of_the_driver_that_it_broke_off(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg raises one of its own where Ctrl-C comes while SQLAlchemy asks whether a connection still answers."""

    def broken_off(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise (sqlite3.ProgrammingError if database.is_sqlite else psycopg.ProgrammingError)("busy")

    with database.read():
        pass
    monkeypatch.setattr(database.engine.dialect, "do_execute", broken_off)
    with pytest.raises(KeyboardInterrupt), database.read() as connection:
        connection.execute(text("select 1"))
    monkeypatch.undo()

    def cleaning_up() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            with database.read() as connection:
                connection.execute(text("select nothing"))

    # An error of what is done because of an earlier Ctrl-C stays one.
    with pytest.raises(OperationalError if database.is_sqlite else ProgrammingError):
        cleaning_up()


def test_the_clock_is_the_database_s_in_seconds_since_1970(database: Database) -> None:
    before = time.time()
    with database.read() as connection:
        read = connection.execute(select(now())).scalar_one()
    assert before - 1 <= read <= time.time() + 1


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def half_way() -> None:
        with database.write() as connection:
            connection.execute(text("update pairsearch_schema set version = 77"))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        half_way()
    assert tiny.rows(database, "schema", "version") == [(SCHEMA_VERSION,)]


def test_sqlite_is_in_wal_mode(sqlite_url: str, tmp_path: Path) -> None:
    open_database(sqlite_url, create=True).close()
    connection = sqlite3.connect(tmp_path / "study.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [("statement_timeout", "statement timeout"), ("lock_timeout", "lock timeout")],
)
def test_what_took_the_server_too_long_may_be_asked_again(
    postgresql_url: str, name: str, message: str
) -> None:
    database = open_database(postgresql_url, create=True)
    other = Database(postgresql_url)

    def lock_within_50_ms() -> None:
        with database.write() as connection:
            connection.execute(text(f"set local {name} = '50ms'"))
            connection.execute(text("lock table pairsearch_studies"))

    with other.write() as holder:
        holder.execute(text("lock table pairsearch_studies"))
        with pytest.raises(DatabaseAwayError, match=message):
            lock_within_50_ms()
    other.close()
    database.close()


def test_a_transaction_that_idles_while_it_may_hold_locks_is_ended_by_the_server(postgresql_url: str) -> None:
    database = open_database(postgresql_url, create=True)
    asked = text("select current_setting('idle_in_transaction_session_timeout')")
    with database.write() as connection:
        assert connection.execute(asked).scalar_one() == "15s"
    with database.read() as connection:
        assert connection.execute(asked).scalar_one() == "0"
    database.close()


def test_a_sqlite_without_strict_tables_is_refused(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StorageError, match=r"needs SQLite 3\.37 or newer, and this Python has 3\."):
        open_database(sqlite_url, create=True)
