"""Exit codes, and the errors that the command line turns into one line and one of them.

    PairsearchError                 exit code
    ├── InputError                  2    something given cannot be used; nothing was changed
    │   ├── StorageError            2    the database cannot be opened or is not ours
    │   │   └── NoStudiesError      2    there is none yet
    │   ├── StudyError              2    an unknown study, or one that the database holds differently
    │   └── DamagedError            2    a value in the database that cannot be there
    └── WorkError                   1    the work was possible, and failed
        ├── DatabaseAwayError       1    the database did not answer; workers wait for it before they give up
        └── DiskFullError           1    the database has no room left

`studies.errors.DefinitionError`, which knows nothing of this package, counts as an input error. Errors of SQLAlchemy
and of the database drivers are translated in `search.database.driver_errors` alone.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line returns to the shell."""

    DONE = 0
    """The command did what it says. A worker also ends so when SIGTERM or SIGHUP stopped it and its configuration is
    handed back."""
    WORK_FAILED = 1
    """The work was possible and failed: a configuration failed, the database stayed unavailable, the disk is
    full."""
    BAD_INPUT = 2
    """Something given cannot be used. One line says what (after the usage, where an option is mistyped), and nothing
    was changed."""
    INTERRUPTED = 130
    """Ctrl-C, and for `run` and `reproduce` SIGTERM or SIGHUP too. What was finished is stored, and the same command
    goes on from there."""
    OUTPUT_CLOSED = 141
    """Whoever read the output had enough, as `head` has after its lines. The program ends at once and says nothing."""


class PairsearchError(Exception):
    """An error for people: one line that says what was given, what was expected and what to do."""

    exit_code = ExitCode.WORK_FAILED


class InputError(PairsearchError):
    """Something given cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class StorageError(InputError):
    """The database cannot be opened, or does not hold what is expected."""


class NoStudiesError(StorageError):
    """There is no database yet, or one without our tables."""


class StudyError(InputError):
    """An unknown study, or one that differs from what the database holds."""


class DamagedError(InputError):
    """The database holds a value that cannot be there."""


class WorkError(PairsearchError):
    """The work itself failed."""


class DatabaseAwayError(WorkError):
    """The database did not answer, or broke off; the same call may succeed later."""


class DiskFullError(WorkError):
    """The database has no room left to write."""
