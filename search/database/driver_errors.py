"""Translates the errors of the database drivers; no other module knows their codes."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

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
_TURNED_AWAY = re.compile(
    r"FATAL: .*(password authentication failed|does not exist|no pg_hba\.conf entry|not permitted to log in)"
    r"|no password supplied"
)
# Codes for a letter that the database's encoding lacks.
LACKING = ("22021", "22P05")
CHECKED = "23514"
# Codes that follow when someone else deletes tables or rows, or changes Optuna's tables: no such table, no such column,
# no row that a foreign key refers to.
DELETED = ("42P01", "42703", "23503")
SQLITE_DELETED = ("no such table", "no such column")
Meaning = tuple[type[PairsearchError], str]
FULL: Meaning = (DiskFullError, "database {label}: the disk is full: make room and start again")
BUSY: Meaning = (DatabaseAwayError, "database {label}: {message}")
SQLITE: Mapping[str, Meaning] = {
    "SQLITE_NOTADB": (StorageError, "{label} is no SQLite database: name another file"),
    "SQLITE_CORRUPT": (StorageError, "{label} is a damaged SQLite database: restore it or name another file"),
    "SQLITE_FULL": FULL,
    # A file size limit or a quota ends in this code.
    "SQLITE_IOERR_WRITE": FULL,
    "SQLITE_READONLY": (StorageError, "database {label} is read-only: make it writable or name another"),
    "SQLITE_CANTOPEN": (StorageError, "database {label} cannot be opened: does its folder exist, writable?"),
    "SQLITE_BUSY": BUSY,
    "SQLITE_LOCKED": BUSY,
    "SQLITE_IOERR": BUSY,
}
"""What the beginnings of SQLite's codes mean; those of extended codes are primary codes."""
DAMAGED: Meaning = (StorageError, "database {label} is damaged: {message}")
REFUSED: Meaning = (StorageError, "database {label}: {message}")
POSTGRESQL: Mapping[str, Meaning] = {
    "53100": FULL,
    "25006": (StorageError, "database {label} is read-only: name a user and database that may write"),
    "XX001": DAMAGED,
    "XX002": DAMAGED,
    # A retry is useless for a bad user or password, no such database, no privilege. The rest of class 42 (an unknown
    # table or column) is a bug of this program and is not translated.
    "28": REFUSED,
    "3D": REFUSED,
    "42501": REFUSED,
}
"""What the beginnings of SQLSTATE codes mean."""


def deleted_meanwhile(error: DBAPIError) -> bool:
    """Whether the error says that a table, a column, or the row that a foreign key refers to, was deleted."""
    if isinstance(error.orig, sqlite3.Error):
        return str(error.orig).startswith(SQLITE_DELETED)
    return getattr(error.orig, "sqlstate", None) in DELETED


def translation(error: DBAPIError, label: str) -> PairsearchError | None:
    """Translate a driver's error into one for users; None if it is a bug of this program.

    The label is the database's URL without its password.
    """
    cause = error.orig
    lines = str(cause).strip().splitlines()
    message = conceal(lines[0] if lines else type(cause).__name__)
    # For example an integer above 64 bits, a text with a NUL, or a letter that the encoding lacks.
    if isinstance(cause, OverflowError) or isinstance(error, DataError) or _is_refused(cause):
        lacking = getattr(cause, "sqlstate", None) in LACKING
        advice = ": use a database with the encoding UTF8" if lacking else ""
        return InputError(f"database {label} cannot store what was given: {message}{advice}")
    if isinstance(cause, sqlite3.OperationalError) and message.startswith("Could not decode"):
        return DamagedError(f"database {label} is damaged: {message!a}: restore it or use another database")
    if isinstance(cause, sqlite3.Error):
        return _known(getattr(cause, "sqlite_errorname", ""), message, label, SQLITE)
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
    return getattr(cause, "sqlstate", None) == CHECKED or (
        isinstance(cause, sqlite3.IntegrityError)
        and str(cause).startswith(("CHECK constraint", "cannot store"))
    )


def _known(code: str, message: str, label: str, meanings: Mapping[str, Meaning]) -> PairsearchError | None:
    """Return the error that a code means; the longest beginning of it is the most specific."""
    beginnings = [beginning for beginning in meanings if code.startswith(beginning)]
    if not beginnings:
        return None
    kind, text = meanings[max(beginnings, key=len)]
    return kind(text.format(label=label, message=message))


def _postgresql(state: str, message: str, label: str, *, broken: bool) -> PairsearchError | None:
    if (known := _known(state, message, label, POSTGRESQL)) is not None:
        return known
    # Errors while connecting have no SQLSTATE.
    if not state and _TURNED_AWAY.search(message):
        return StorageError(f"database {label} is not reachable: {message}")
    if broken or state.startswith(PASSING):
        return DatabaseAwayError(f"database {label} is not reachable: {message}")
    return None
