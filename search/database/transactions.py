"""How connections are prepared and transactions begin, in SQLite and in PostgreSQL."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

if TYPE_CHECKING:
    import psycopg

# The execution options of SQLAlchemy that mark transactions which only read, and those that see one moment.
READING = "pairsearch_read"
SNAPSHOT = "pairsearch_snapshot"


def prepare_postgresql(connection: psycopg.Connection[Any], record: object) -> None:
    """Prepare a new PostgreSQL connection (SQLAlchemy's `connect` event): `begin_postgresql` sends BEGIN."""
    connection.autocommit = True


def begin_postgresql(connection: Connection) -> None:
    """Begin a transaction of PostgreSQL, in one message to the server (SQLAlchemy's `begin` event).

    A process that freezes, or whose machine is lost, in the middle of a transaction keeps locks that others wait for.
    PostgreSQL ends such a transaction after 15 s, and one that waits for a lock after 20; ours write a few rows and
    need far less. The limits are settings of the transaction, because PgBouncer passes connections on. Transactions
    that only read get no limit: they lock nobody out, and the caller may be slow to process their rows.
    """
    options = connection.get_execution_options()
    if options.get(SNAPSHOT, False):
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    elif options.get(READING, False):
        connection.exec_driver_sql("BEGIN")
    else:
        connection.exec_driver_sql(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '15s'; SET LOCAL lock_timeout = '20s'"
        )


def prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """Prepare a new SQLite connection of ours (SQLAlchemy's `connect` event).

    In WAL mode readers and the writer do not block each other, and `synchronous = NORMAL` cannot damage the database.
    A power cut may undo the last transactions; their configurations are then trained again.
    """
    # `begin_sqlite` sends BEGIN. The driver would start a writing transaction as a reading one, which fails without
    # waiting when another process has written in between.
    connection.isolation_level = None
    try:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        # A read-only database keeps its mode.
        if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_READONLY"):
            raise
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def begin_sqlite(connection: Connection) -> None:
    """Begin a transaction of SQLite, which takes the write lock unless it only reads (SQLAlchemy's `begin` event)."""
    reading = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
