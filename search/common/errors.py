"""Errors for users, and the exit codes of the command line.

The command line prints an error of this tree as one line and ends with its exit code, which subclasses inherit.

`pairsearch.Error` is `PairsearchError`. `studies.errors.DefinitionError` stands outside this tree, because `studies`
does not import `search`; the command line treats it as an `InputError`. Errors of SQLAlchemy and of the database
drivers are translated in `search.database.driver_errors` and nowhere else.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    """The command did what it says. A worker also ends with 0 after SIGTERM or SIGHUP, once its configuration is handed
    back."""
    WORK_FAILED = 1
    """The work was possible but failed: a configuration failed, the database was unavailable, or the disk is full."""
    BAD_INPUT = 2
    """An argument, an option or a file cannot be used. One line says why (after the usage, if an option is mistyped),
    and nothing was changed."""
    INTERRUPTED = 130
    """Ctrl-C interrupted the command, or for `run` and `reproduce` SIGTERM or SIGHUP. Finished work is stored, and the
    same command goes on from there."""
    OUTPUT_CLOSED = 141
    """The reader of the output has closed it, as `head` does after its lines. The program ends at once and prints
    nothing."""


class PairsearchError(Exception):
    """Base class of the errors that are meant for users.

    The message is one line that says what was given, what was expected and what to do.
    """

    exit_code = ExitCode.WORK_FAILED


class InputError(PairsearchError):
    """An argument, an option or a file cannot be used; nothing was changed."""

    exit_code = ExitCode.BAD_INPUT


class StorageError(InputError):
    """The database cannot be opened, or does not contain what is expected."""


class NoStudiesError(StorageError):
    """There is no database yet, or it has no tables of pairsearch."""


class StudyError(InputError):
    """The study is unknown, or differs from the one in the database."""


class DamagedError(InputError):
    """The database contains a value that pairsearch cannot have written."""


class WorkError(PairsearchError):
    """The work was possible but failed."""


class DatabaseAwayError(WorkError):
    """The database did not answer, or closed the connection; the same call may succeed later."""


class DiskFullError(WorkError):
    """The database's disk is full."""
