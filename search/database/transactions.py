"""How connections are prepared and transactions begin, in SQLite and in PostgreSQL."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Connection

# The execution option of SQLAlchemy that marks transactions which only read.
READING = "pairsearch_read"


def limit_transaction(connection: Connection) -> None:
    """Limit how long a PostgreSQL transaction may idle or wait for a lock (SQLAlchemy's `begin` event).

    A process that freezes, or whose machine is lost, in the middle of a transaction keeps locks that others wait for.
    PostgreSQL ends such a transaction after 15 s; ours write a few rows and need far less. The limits are settings of
    the transaction, because PgBouncer passes connections on. Transactions that only read get no limit: they lock nobody
    out, and the caller may be slow to process their rows.
    """
    if connection.get_execution_options().get(READING, False):
        return
    connection.exec_driver_sql(
        "select set_config('idle_in_transaction_session_timeout', '15s', true), "
        "set_config('lock_timeout', '20s', true)"
    )


def prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """Prepare a new SQLite connection of ours (SQLAlchemy's `connect` event)."""
    # `begin_sqlite` sends BEGIN. The driver would start a writing transaction as a reading one, which fails without
    # waiting when another process has written in between.
    connection.isolation_level = None
    tune_sqlite(connection, record)
    connection.execute("PRAGMA foreign_keys = ON")


def tune_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """Set the journal mode of a new SQLite connection (SQLAlchemy's `connect` event).

    In WAL mode readers and the writer do not block each other, and `synchronous = NORMAL` cannot damage the database.
    A power cut may undo the last transactions; their configurations are then trained again.
    """
    cursor = connection.cursor()
    try:
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        # A read-only database keeps its mode.
        if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_READONLY"):
            raise
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def begin_sqlite(connection: Connection) -> None:
    """Begin a transaction of SQLite, which takes the write lock unless it only reads (SQLAlchemy's `begin` event)."""
    reading = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
