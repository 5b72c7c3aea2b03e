"""Translates the errors of the database drivers; no other module knows their codes."""

from __future__ import annotations

import re
import sqlite3

from sqlalchemy.exc import DataError, DBAPIError

from pairsearch.search.common.errors import (
    DamagedError,
    DatabaseAwayError,
    DiskFullError,
    InputError,
    PairsearchError,
    StorageError,
)
from pairsearch.search.common.redaction import conceal

# SQLSTATE classes and codes after which the same call may succeed: connection, resources, deadlock or serialisation,
# shutdown, statement or lock timeout, an idle transaction that was ended, input and output of the server (PostgreSQL
# documentation, appendix A).
PASSING = ("08", "53", "40", "57P", "57014", "55P03", "25P03", "58")
DAMAGED = ("XX001", "XX002")
# Codes for which a retry is useless: bad user or password, no such database, no privilege. The rest of class 42 (an
# unknown table or column) is a bug of this program and is not translated.
REFUSED = ("28", "3D", "42501")
_TURNED_AWAY = re.compile(
    r"FATAL: .*(password authentication failed|does not exist|no pg_hba\.conf entry|not permitted to log in)"
    r"|no password supplied"
)
# Codes for a letter that the database's encoding lacks.
LACKING = ("22021", "22P05")
CHECKED = "23514"
DISK_FULL = "53100"
READ_ONLY = "25006"
# Codes that follow when someone else deletes tables or rows, or changes Optuna's tables: no such table, no such column,
# no row that a foreign key refers to.
DELETED = ("42P01", "42703", "23503")
SQLITE_DELETED = ("no such table", "no such column")


def deleted_meanwhile(error: DBAPIError) -> bool:
    """Whether the error says that a table, a column, or the row that a foreign key refers to, was deleted."""
    state = getattr(error.orig, "sqlstate", None)
    return state in DELETED or (
        isinstance(error.orig, sqlite3.Error)
        and str(error.orig).startswith(("no such table", "no such column"))
    )


def translation(error: DBAPIError, label: str) -> PairsearchError | None:
    """Translate a driver's error into one for users; None if it is a bug of this program.

    The label is the database's URL without its password.
    """
    cause = error.orig
    lines = str(cause).strip().splitlines()
    message = lines[0] if lines else type(cause).__name__
    message = conceal(message)
    # For example an integer above 64 bits, a text with a NUL, or a letter that the encoding lacks.
    if isinstance(cause, OverflowError) or isinstance(error, DataError) or _is_refused(cause):
        return InputError(f"database {label} cannot store what was given: {message}{_advice(cause)}")
    if isinstance(cause, sqlite3.OperationalError) and message.startswith("Could not decode"):
        return DamagedError(f"database {label} is damaged: {message!a}: restore it or use another database")
    if isinstance(cause, sqlite3.Error):
        return _sqlite(getattr(cause, "sqlite_errorname", ""), message, label)
    state = getattr(cause, "sqlstate", None) or ""
    # psycopg raises this before it connects.
    if not state and message.startswith("invalid connection option"):
        return StorageError(f"storage URL {label}: {message}")
    # Errors of the driver itself, where a connection is refused or closed, have no SQLSTATE.
    broken = error.connection_invalidated or (
        not state and type(cause).__name__ in ("OperationalError", "InterfaceError", "ConnectionTimeout")
    )
    return _postgresql(state, message, label, broken=broken)


def _is_refused(cause: BaseException | None) -> bool:
    """Whether a check of a table, or the type of a column of a strict one, refused a value."""
    message = str(cause)
    return getattr(cause, "sqlstate", None) == CHECKED or (
        isinstance(cause, sqlite3.IntegrityError) and message.startswith(("CHECK constraint", "cannot store"))
    )


def _advice(cause: BaseException | None) -> str:
    lacking = getattr(cause, "sqlstate", None) in LACKING
    return ": use a database with the encoding UTF8" if lacking else ""


def _sqlite(code: str, message: str, label: str) -> PairsearchError | None:
    full = DiskFullError(f"database {label}: the disk is full: make room and start again")
    known: dict[str, PairsearchError] = {
        "SQLITE_NOTADB": StorageError(f"{label} is no SQLite database: name another file"),
        "SQLITE_CORRUPT": StorageError(
            f"{label} is a damaged SQLite database: restore it or name another file"
        ),
        "SQLITE_FULL": full,
        # A file size limit or a quota ends in this code.
        "SQLITE_IOERR_WRITE": full,
        "SQLITE_READONLY": StorageError(f"database {label} is read-only: make it writable or name another"),
        "SQLITE_CANTOPEN": StorageError(
            f"database {label} cannot be opened: does its folder exist, writable?"
        ),
        "SQLITE_BUSY": DatabaseAwayError(f"database {label}: {message}"),
        "SQLITE_LOCKED": DatabaseAwayError(f"database {label}: {message}"),
        "SQLITE_IOERR": DatabaseAwayError(f"database {label}: {message}"),
    }
    # Names of extended codes begin with that of the primary code (SQLITE_READONLY_DIRECTORY), so the longest match is
    # the most specific.
    for name in sorted(known, key=len, reverse=True):
        if code.startswith(name):
            return known[name]
    return None


def _postgresql(state: str, message: str, label: str, *, broken: bool) -> PairsearchError | None:
    full = DiskFullError(f"database {label}: the disk is full: make room and start again")
    read_only = StorageError(f"database {label} is read-only: name a user and database that may write")
    damaged = StorageError(f"database {label} is damaged: {message}")
    refused = StorageError(f"database {label}: {message}")
    known = {DISK_FULL: full, READ_ONLY: read_only}
    known |= dict.fromkeys(DAMAGED, damaged) | dict.fromkeys(REFUSED, refused)
    for code, meaning in known.items():
        if state.startswith(code):
            return meaning
    # Errors while connecting have no SQLSTATE.
    if not state and _TURNED_AWAY.search(message):
        return StorageError(f"database {label} is not reachable: {message}")
    if broken or state.startswith(PASSING):
        return DatabaseAwayError(f"database {label} is not reachable: {message}")
    return None
