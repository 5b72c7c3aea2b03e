"""Opens databases, runs transactions in them, checks their schema version and translates their errors.

Whatever SQLAlchemy or a driver raises about a database leaves this module as an error of `search.common.errors`, with
passwords masked.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Text,
    bindparam,
    cast,
    create_engine,
    event,
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

from pairsearch.search.common.errors import DamagedError, DatabaseAwayError, NoStudiesError, StorageError
from pairsearch.search.database.column_types import WrongValueError
from pairsearch.search.database.driver_errors import translation
from pairsearch.search.database.tables import SCHEMA_VERSION, metadata, schema
from pairsearch.search.database.transactions import (
    READING,
    SNAPSHOT,
    begin_postgresql,
    begin_sqlite,
    prepare_postgresql,
    prepare_sqlite,
)
from pairsearch.search.database.urls import SQLITE, absolute, mask, parse_url

# How long a SQLite connection waits for the write lock. Writes take milliseconds; the limit allows for a slow disk.
BUSY_SECONDS = 60
CONNECT_SECONDS = 10
LOCK_PAUSE = 0.1
# The first with strict tables.
OLDEST_SQLITE = (3, 37)
# Key of the advisory lock; other programs on the same PostgreSQL database are unlikely to use the same number.
CREATION_LOCK = 0x7061697273


class Database:
    """One database, SQLite or PostgreSQL, with a small pool of connections; safe to use from several threads.

    Attributes:
        url: the URL with its password, and with the absolute path of SQLite's file; never print it.
        label: the URL for messages, as it was given, its password masked.
    """

    def __init__(self, url: str | URL) -> None:
        given = parse_url(url) if isinstance(url, str) else url
        self.url = absolute(given)
        self.label = mask(given)
        self.is_sqlite = self.url.get_backend_name() == SQLITE
        if self.is_sqlite and sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StorageError(
                f"database {self.label} needs SQLite 3.37 or newer, and this Python has {sqlite3.sqlite_version}: "
                "use PostgreSQL, or a Python with a newer SQLite"
            )
        self._inode: int | None = None
        self.engine: Engine = create_engine(self.url, **self.engine_options(overflow=0))
        event.listen(self.engine, "connect", prepare_sqlite if self.is_sqlite else prepare_postgresql)
        event.listen(self.engine, "begin", begin_sqlite if self.is_sqlite else begin_postgresql)

    def engine_options(self, overflow: int) -> dict[str, Any]:
        """Return the options of `create_engine` for one pooled connection, and `overflow` more when they are needed."""
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
                # For every encoding of the database: the server converts, and SQL_ASCII keeps bytes as they are.
                "client_encoding": "utf8",
                # A server whose machine or network vanished is noticed within a minute.
                "keepalives_idle": 20,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 60_000,
                # PgBouncer passes connections between clients, which breaks prepared statements. They made no
                # difference to the time of a trial.
                "prepare_threshold": None,
            },
        }

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database, else None."""
        return Path((self.url.database or "").removeprefix("file:")) if self.is_sqlite else None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write: it commits at the end of the block and rolls back on an exception."""
        self._check_file()
        with self.translated(), self.engine.begin() as connection:
            self._check_file(opened=True)
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads, and takes no write lock on SQLite."""
        self._check_file()
        with self.translated(), self.engine.connect() as connection:
            yield connection.execution_options(**{READING: True})

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a transaction as `read` does, whose statements all see the database at the same moment."""
        with self.read() as connection:
            # Every transaction of SQLite is one.
            yield connection.execution_options(**{SNAPSHOT: True})

    def _check_file(self, *, opened: bool = False) -> None:
        """Raise if SQLite's file was removed or replaced: writes would go to a deleted file.

        Once a connection is `opened` the file exists, and its inode can be stored.
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
            # The file may come back, with a folder that was moved or a disk that was unmounted; so workers retry.
            raise DatabaseAwayError(
                f"database {self.label} was removed or replaced while it was in use: put the file back where it was"
            )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate the errors of SQLAlchemy and the drivers that the block raises.

        Errors that are bugs of this program (a missing column, a key that is there twice) pass as they are.

        Raises:
            DatabaseAwayError, DiskFullError, DamagedError, StorageError: what they say of themselves.
            InputError: the database cannot store a value, or refuses it.
            KeyboardInterrupt: Ctrl-C in the block, of which only the error of a driver that it broke off was left.
        """
        before = sys.exc_info()[1]
        try:
            yield
        except PoolTimeoutError:
            raise DatabaseAwayError(f"database {self.label}: no free connection") from None
        except DBAPIError as error:
            if _interrupted(error, before):
                raise KeyboardInterrupt from None
            raise translation(error, self.label) or error from None
        except (WrongValueError, UnicodeDecodeError) as error:
            if isinstance(error, WrongValueError):
                what = error.line(error.where or self._row(error))
            else:
                what = f"it holds text that is no UTF-8, {error.object[:40]!a}"
            raise DamagedError(
                f"database {self.label} is damaged: {what}: restore it or use another database"
            ) from None

    def _row(self, error: WrongValueError) -> str:
        """Return the primary key and the name of the row that contains a wrong value, for a message."""
        table = metadata.tables[error.table]
        named = [column for column in table.columns if column.primary_key or column.name in ("key", "name")]
        # NullType reads them without checks, since they may be damaged too.
        plain = [type_coerce(column, NullType()) for column in named]
        value = bindparam("wrong", error.value, type_=NullType())
        wrong = select(*plain).where(type_coerce(table.c[error.column], NullType()) == value)
        with self.engine.connect() as connection:
            found = connection.execution_options(**{READING: True}).execute(wrong).first()
        parts = zip(named, found or (), strict=False)
        return ", ".join(f"{column.name}={value!a}" for column, value in parts)

    @contextmanager
    def creation_lock(self) -> Iterator[None]:
        """Lock the creation of tables and studies, so that one process at a time creates them."""
        if (file := self.file) is not None:
            # filelock imports asyncio, which would slow the start of commands that create nothing.
            from filelock import FileLock  # noqa: PLC0415

            # FileLock would create the folder, even one whose name was mistyped.
            self.check_folder()
            try:
                with FileLock(f"{file}.lock"):
                    yield
            except OSError as error:
                raise StorageError(
                    f"database {self.label} cannot be opened: {error.strerror or error}: "
                    "does its folder exist, writable?"
                ) from None
            return
        # The lock belongs to a transaction, so it needs a connection of its own beside the one that does the work. A
        # lock of the session would not do: PgBouncer may pass the session on to another client, with its locks. The
        # lock is tried repeatedly, because a transaction that waits would keep one of PgBouncer's few connections.
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

    def check_folder(self, *, writable: bool = False) -> None:
        """Check that the folder of a SQLite file exists, and is writable; raises StorageError."""
        if self.file is None:
            return
        folder = self.file.parent
        if not folder.is_dir():
            raise StorageError(f"database {self.label} cannot be opened: there is no folder {folder}")
        if writable and not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"database {self.label} cannot be opened: {folder} is not writable")

    def schema_version(self) -> int | None:
        """Return the version of our tables in this database, None if there are none."""
        with self.read() as connection:
            if not inspect(connection).has_table(schema.name):
                return None
            return connection.execute(select(schema.c.version)).scalar_one_or_none()

    def check_storable(self, *texts: str) -> None:
        """Check that the database's encoding has all letters of some texts, before anything is written."""
        with self.read() as connection:
            for value in texts:
                connection.execute(select(cast(bindparam("value", value), Text)))

    def create_tables(self) -> None:
        """Create the missing tables; the caller holds `creation_lock`."""
        with self.write() as connection:
            metadata.create_all(connection)
            if connection.execute(select(schema.c.version)).first() is None:
                connection.execute(insert(schema).values(id=1, version=SCHEMA_VERSION))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _interrupted(error: BaseException, before: BaseException | None) -> bool:
    """Whether Ctrl-C came before an error, and after the exception that was being handled before."""
    known: BaseException | None = error
    while known not in (None, before):
        if isinstance(known, KeyboardInterrupt):
            return True
        known = known.__context__
    return False


def open_database(url: str | Database, *, create: bool = False, waiting: bool = False) -> Database:
    """Open a database and check its schema version.

    Args:
        url: a URL that `parse_url` accepts, or a database that was made of one.
        create: whether to create missing tables, and SQLite's file; otherwise they are an error.
        waiting: whether an unreachable database raises `DatabaseAwayError`, for a caller that retries.

    Raises:
        NoStudiesError: there is no database or it lacks our tables, and `create` is false.
        StorageError: it cannot be used, is unreachable and `waiting` is false, or is of another schema version.
    """
    database = Database(url) if isinstance(url, str) else url
    # Connecting to a missing SQLite file would create it.
    is_there = database.file is None or database.file.exists()
    try:
        if not create and not is_there:
            raise NoStudiesError(f"no database at {database.file}: `pairsearch create` makes one")
        version = database.schema_version() if is_there else None
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
            age, advice = "older", "`pairsearch upgrade` takes it there with all its results"
            if version > SCHEMA_VERSION:
                age, advice = "newer", "upgrade pairsearch"
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
    """Open the database of a URL; None if there is none yet. Creates nothing; raises what `open_database` raises."""
    try:
        return open_database(url)
    except NoStudiesError:
        return None
