"""What the errors of the database drivers mean for people: the one place that knows their codes."""

from __future__ import annotations

import re
import sqlite3

from sqlalchemy.exc import DataError, DBAPIError

from pairsearch.search.errors import (
    DamagedError,
    DatabaseAwayError,
    DiskFullError,
    InputError,
    PairsearchError,
    StorageError,
)
from pairsearch.search.redaction import conceal

# SQLSTATE classes after which the same call may succeed: connection, resources, deadlock or serialisation, shutdown,
# a statement or a lock that took too long, an idle transaction that was ended, the server's own input and output
# (PostgreSQL documentation, appendix A).
PASSING = ("08", "53", "40", "57P", "57014", "55P03", "25P03", "58")
DAMAGED = ("XX001", "XX002")
# Refused for good: bad user or password, no such database, no right to do it. 42 also holds our own mistakes
# (an unknown table or column), which stay what they are.
REFUSED = ("28", "3D", "42501")
_TURNED_AWAY = re.compile(
    r"FATAL: .*(password authentication failed|does not exist|no pg_hba\.conf entry|not permitted to log in)"
    r"|no password supplied"
)
# A letter that the database's encoding lacks.
LACKING = ("22021", "22P05")
DISK_FULL = "53100"
READ_ONLY = "25006"


# What a program meets whose tables or rows others deleted: no such table, or no row that a key refers to.
DELETED = ("42P01", "23503")


def deleted_meanwhile(error: DBAPIError) -> bool:
    """Whether a table, or what a new row belongs to, is not there."""
    state = getattr(error.orig, "sqlstate", None)
    return state in DELETED or (isinstance(error.orig, sqlite3.Error) and "no such table" in str(error.orig))


def translation(error: DBAPIError, label: str) -> PairsearchError | None:
    """Our error for what a driver raised, None where it is a mistake of this program.

    Args:
        label: the URL for people, without its password.
    """
    cause = error.orig
    lines = str(cause).strip().splitlines()
    message = lines[0] if lines else type(cause).__name__
    message = conceal(message)
    # An integer above 64 bits, a text with a NUL, a letter that the encoding lacks.
    if isinstance(cause, OverflowError) or isinstance(error, DataError):
        return InputError(f"database {label} cannot store what was given: {message}{_advice(cause)}")
    if isinstance(cause, sqlite3.OperationalError) and message.startswith("Could not decode"):
        return DamagedError(f"database {label} is damaged: {message!a}: restore it or use another database")
    if isinstance(cause, sqlite3.Error):
        return _sqlite(getattr(cause, "sqlite_errorname", ""), message, label)
    state = getattr(cause, "sqlstate", None) or ""
    # From psycopg, before it connects.
    if not state and message.startswith("invalid connection option"):
        return StorageError(f"storage URL {label}: {message}")
    # The driver's own errors, on a connection that was refused or broke off, carry no state.
    broken = error.connection_invalidated or (
        not state and type(cause).__name__ in ("OperationalError", "InterfaceError", "ConnectionTimeout")
    )
    return _postgresql(state, message, label, broken=broken)


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
        # What a file size limit or a quota gives.
        "SQLITE_IOERR_WRITE": full,
        "SQLITE_READONLY": StorageError(f"database {label} is read-only: make it writable or name another"),
        "SQLITE_CANTOPEN": StorageError(
            f"database {label} cannot be opened: does its folder exist, writable?"
        ),
        "SQLITE_BUSY": DatabaseAwayError(f"database {label}: {message}"),
        "SQLITE_LOCKED": DatabaseAwayError(f"database {label}: {message}"),
        "SQLITE_IOERR": DatabaseAwayError(f"database {label}: {message}"),
    }
    # Extended codes are named after their primary one: SQLITE_READONLY_DIRECTORY. The longest match says most.
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
    # Errors at the connect come without a code.
    if not state and _TURNED_AWAY.search(message):
        return StorageError(f"database {label} is not reachable: {message}")
    if broken or state.startswith(PASSING):
        return DatabaseAwayError(f"database {label} is not reachable: {message}")
    return None
