"""Opens a database URL: engine, transactions, schema version; translates its errors.

Everything that SQLAlchemy or a driver raises about a database leaves this module as a `StorageError` or a
`DatabaseAwayError`, with passwords masked.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    Insert,
    Table,
    Text,
    bindparam,
    cast,
    column,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    type_coerce,
)
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.types import NullType

from pairsearch.search.database.column_types import WrongValueError
from pairsearch.search.database.driver_errors import translation
from pairsearch.search.database.tables import SCHEMA_VERSION, metadata, schema
from pairsearch.search.database.urls import POSTGRESQL, SQLITE, mask, parse_url
from pairsearch.search.errors import DamagedError, DatabaseAwayError, NoStudiesError, StorageError

# How long a SQLite connection waits for another's write lock. Writes take milliseconds; this is for a slow disk.
BUSY_SECONDS = 60
CONNECT_SECONDS = 10
LOCK_PAUSE = 0.1
# Marks the transactions that only read (SQLAlchemy's execution options).
READING = "pairsearch_read"
# Any number that other programs on the same PostgreSQL database will hardly use as an advisory lock.
CREATION_LOCK = 0x7061697273


class Database:
    """One database, seen through a small pool of connections; safe to use from several threads.

    Attributes:
        url: with the password; never print it.
        label: the URL for people, its password masked.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = parse_url(url) if isinstance(url, str) else url
        self.label = mask(self.url)
        self.is_sqlite = self.url.get_backend_name() == SQLITE
        self._inode: int | None = None
        self.engine: Engine = create_engine(self.url, **self.engine_options(overflow=0))
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "begin", limit_transaction)

    def engine_options(self, overflow: int) -> dict[str, Any]:
        """Options of `create_engine` for this database: one pooled connection, and `overflow` more at need."""
        if self.is_sqlite:
            return {"connect_args": {"timeout": BUSY_SECONDS}}
        return {
            "pool_size": 1,
            "max_overflow": overflow,
            "pool_pre_ping": True,
            "pool_recycle": 1800,
            "connect_args": {
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "pairsearch",
                # Whatever the database is in: the server converts, and SQL_ASCII keeps the bytes as they are.
                "client_encoding": "utf8",
                # A server whose machine or network vanished is noticed within a minute.
                "keepalives_idle": 20,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 60_000,
                # Prepared statements belong to a connection, which PgBouncer hands from one to the other; they made
                # no difference to what a trial costs.
                "prepare_threshold": None,
            },
        }

    @property
    def file(self) -> Path | None:
        """SQLite's file, else None."""
        if not self.is_sqlite:
            return None
        return Path((self.url.database or "").removeprefix("file:"))

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: commits at the end of the block, rolls back on an exception.

        Raises:
            DatabaseAwayError, DiskFullError, StorageError: translated, see `translated`.
        """
        self._check_file()
        with self.translated(), self.engine.begin() as connection:
            self._check_file(opened=True)
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and on SQLite takes no write lock. Raises as `write` does."""
        self._check_file()
        with self.translated(), self.engine.connect() as connection:
            yield connection.execution_options(**{READING: True})

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """As `read`, and every statement sees the database of one moment, whatever workers do meanwhile."""
        with self.read() as connection:
            if not self.is_sqlite:  # whose transactions see one moment anyway
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def _check_file(self, *, opened: bool = False) -> None:
        """Raise where SQLite's file was removed or replaced: writes would go to a file that nobody can find.

        Args:
            opened: a connection is open, so that the file is there and is the one to remember.
        """
        file = self.file
        if file is None or not (opened or self._inode):
            return
        try:
            inode = file.stat().st_ino
        except OSError:
            inode = 0
        if opened and self._inode is None:
            self._inode = inode
        elif inode != self._inode:
            # It may come back: a folder that was moved, a disk that was taken away.
            raise DatabaseAwayError(
                f"database {self.label} was removed or replaced while it was in use: put the file back where it was"
            )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the errors of SQLAlchemy and the drivers inside the block into ours.

        Errors of our own making (a missing column, a broken constraint) are not caught: they are bugs.
        """
        try:
            yield
        except PoolTimeoutError:
            raise DatabaseAwayError(f"database {self.label}: no free connection") from None
        except DBAPIError as error:
            raise translation(error, self.label) or error from None
        except WrongValueError as error:
            raise DamagedError(
                f"database {self.label} is damaged: {error.line(error.where or self._row(error))}: "
                "restore it or use another database"
            ) from None
        except UnicodeDecodeError as error:
            raise DamagedError(
                f"database {self.label} is damaged: it holds text that is no UTF-8, {error.object[:40]!a}: "
                "restore it or use another database"
            ) from None

    def _row(self, error: WrongValueError) -> str:
        """The row that a wrong value is in, by its key and its name for people."""
        table = metadata.tables[error.table]
        named = [column for column in table.columns if column.primary_key or column.name in ("key", "name")]
        # As they are: these may be damaged too.
        plain = [type_coerce(column, NullType()) for column in named]
        wrong = type_coerce(table.c[error.column], NullType()) == bindparam(
            "wrong", error.value, type_=NullType()
        )
        with self.engine.connect() as connection:
            found = (
                connection.execution_options(**{READING: True}).execute(select(*plain).where(wrong)).first()
            )
        parts = zip(named, found or (), strict=False)
        return ", ".join(f"{column.name}={value!a}" for column, value in parts)

    @contextmanager
    def creation_lock(self) -> Iterator[None]:
        """Held by one process at a time while tables or studies are first created."""
        if (file := self.file) is not None:
            # It imports asyncio, which commands that create nothing need not wait for.
            from filelock import FileLock  # noqa: PLC0415

            # FileLock would make a folder whose name was mistyped.
            if not file.absolute().parent.is_dir():
                raise StorageError(
                    f"database {self.label} cannot be opened: there is no folder {file.parent}"
                )
            try:
                with FileLock(f"{file}.lock"):
                    yield
            except OSError as error:
                raise StorageError(
                    f"database {self.label} cannot be opened: {error.strerror or error}: "
                    "does its folder exist, writable?"
                ) from None
            return
        # A second engine: the lock lives as long as its transaction, beside the pooled one that does the work. Of
        # the transaction, for PgBouncer may hand the connection on, with the locks that it has as a session; and
        # asked for again and again, for who waits inside a transaction keeps one of PgBouncer's few connections.
        engine = create_engine(self.url, **self.engine_options(overflow=0))
        try:
            with self.translated():
                while True:
                    with engine.begin() as connection:
                        if connection.execute(
                            text("select pg_try_advisory_xact_lock(:key)"), {"key": CREATION_LOCK}
                        ).scalar_one():
                            yield
                            return
                    time.sleep(LOCK_PAUSE)
        finally:
            engine.dispose()

    def schema_version(self) -> int | None:
        """The version of our tables in this database, None where there are none. Raises as `read` does."""
        with self.read() as connection:
            if not inspect(connection).has_table(schema.name):
                return None
            found = connection.execute(select(schema.c.version)).scalar_one_or_none()
        if found is not None and not isinstance(found, int):
            raise StorageError(f"database {self.label} is damaged: its schema version is {found!a}")
        return found

    def check_storable(self, *texts: str) -> None:
        """Refuse texts with letters that the database's encoding lacks, before anything is written.

        Raises:
            InputError: saying so.
        """
        with self.read() as connection:
            for given in texts:
                connection.execute(select(cast(bindparam("given", given), Text)))

    def create_tables(self) -> None:
        """Create our tables where they are missing; the caller holds `creation_lock`."""
        with self.write() as connection:
            metadata.create_all(connection)
            if connection.execute(select(schema.c.version)).first() is None:
                connection.execute(insert(schema).values(id=1, version=SCHEMA_VERSION))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that name the same columns, in the connection's transaction.

    PostgreSQL gets them in one statement, as one array for each column, instead of one statement for each row.
    """
    if connection.dialect.name == POSTGRESQL:
        connection.execute(_insert_arrays(table, list(rows[0])), _arrays(rows))
    else:
        connection.execute(insert(table), rows)


def insert_numbered(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, object]], by: Column[Any]
) -> dict[Any, int]:
    """As `insert_many`; the new ids by what stands in a column in which the rows differ."""
    if connection.dialect.name == POSTGRESQL:
        statement = _insert_arrays(table, list(rows[0])).returning(by, table.c.id)
        return dict(connection.execute(statement, _arrays(rows)).all())
    statement = insert(table).returning(by, table.c.id)
    return dict(connection.execute(statement, rows).all())


def _insert_arrays(table: Table, names: Sequence[str]) -> Insert:
    arrays = [bindparam(name, type_=ARRAY(table.c[name].type)) for name in names]
    source = func.unnest(*arrays).table_valued(*map(column, names)).render_derived()
    return insert(table).from_select(names, select(*source.c))


def _arrays(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def limit_transaction(connection: Connection) -> None:
    """Let a PostgreSQL transaction neither idle nor wait for a lock without end (SQLAlchemy's `begin` event).

    A process that is frozen, or whose machine is gone, in the middle of a transaction keeps the locks that others wait
    for. PostgreSQL ends it after 15 s: ours have nothing to do but to write a few rows, and hold no lock for longer.
    Settings of the transaction, not of the connection, which PgBouncer hands on. One that only reads locks nobody
    out, and may take its time over what it has read.
    """
    if connection.get_execution_options().get(READING, False):
        return
    connection.exec_driver_sql(
        "select set_config('idle_in_transaction_session_timeout', '15s', true), "
        "set_config('lock_timeout', '20s', true)"
    )


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # We say BEGIN ourselves, below: the driver's own way starts writing transactions as reading ones, which
    # then fail at once, without waiting, when another has written in between.
    connection.isolation_level = None
    tune_sqlite(connection, record)
    connection.execute("PRAGMA foreign_keys = ON")


def tune_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """Settings of every SQLite connection (SQLAlchemy's `connect` event).

    In WAL mode readers and the writer do not block each other, and `synchronous = NORMAL` cannot damage the
    database; a power cut may take back the last transactions, whose configurations are then trained again.
    """
    cursor = connection.cursor()
    try:
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        # A database that only can be read keeps the mode it has.
        if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_READONLY"):
            raise
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def open_database(url: str, *, create: bool = False, waiting: bool = False) -> Database:
    """Open a database and check its schema version.

    Args:
        url: see `parse_url`.
        create: make the tables (and SQLite's file) where they are missing; otherwise that is an error.
        waiting: the caller waits for a database that is away: that is then a `DatabaseAwayError`.

    Raises:
        StorageError: malformed, unreachable, read-only where writing is needed, no database, without our tables,
            or of another schema version.
    """
    database = Database(url)
    try:
        if not create and not _there(database):
            raise NoStudiesError(f"no database at {database.file}: `pairsearch create` makes one")
        version = database.schema_version() if not create or _there(database) else None
        if version is None and create:
            with database.creation_lock():
                version = database.schema_version()
                if version is None:
                    database.create_tables()
                    version = SCHEMA_VERSION
        if version is None:
            raise NoStudiesError(
                f"database {database.label} holds no studies yet: `pairsearch create` makes them"
            )
        if version != SCHEMA_VERSION:
            age, advice = (
                ("newer", "upgrade pairsearch")
                if version > SCHEMA_VERSION
                else (
                    "older",
                    "name another database; `pairsearch export` of the version that made it keeps its results",
                )
            )
            raise StorageError(
                f"database {database.label} has schema version {version}, {age} than this program's "
                f"{SCHEMA_VERSION}: {advice}"
            )
    except DatabaseAwayError as error:
        database.close()
        if waiting:
            raise
        raise StorageError(str(error)) from None
    except (StorageError, SQLAlchemyError):
        database.close()
        raise
    return database


def find_database(url: str) -> Database | None:
    """The database of a URL, None where there is none yet; nothing is made. Raises as `open_database` does."""
    try:
        return open_database(url)
    except NoStudiesError:
        return None


def check_creatable(url: str) -> None:
    """Refuse the URL of a SQLite file whose folder is not there or cannot be written to.

    Raises:
        StorageError: saying which.
    """
    database = Database(url)
    try:
        file = database.file
        if file is not None and not (folder := file.absolute().parent).is_dir():
            raise StorageError(f"database {database.label} cannot be opened: there is no folder {folder}")
        if file is not None and not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"database {database.label} cannot be opened: {folder} is not writable")
    finally:
        database.close()


def _there(database: Database) -> bool:
    """Whether there is a database to look at; SQLite would make the file."""
    return database.file is None or database.file.exists()
