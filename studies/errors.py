"""What can be wrong with a study before it is trained, and with what a problem reports.

ValueError
├── DefinitionError      a definition that cannot be read or is not valid
│   └── ProblemError     its problem cannot be loaded, or not with these settings, data or parameters
│       └── CodeError    the problem's own code raised something else
└── ReportError          `report` was given what the problem has not declared, or what is no number
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class DefinitionError(ValueError):
    """A definition is unreadable or invalid; the message is one line that names the file and the field."""


class ProblemError(DefinitionError):
    """A problem cannot be loaded or used; the message is one line."""


class CodeError(ProblemError):
    """A user's own code raised an exception, the cause of this one; the message is one line.

    Args:
        traceback: of the user's exception, in full.
    """

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


@contextmanager
def own_code(what: str) -> Iterator[None]:
    """Turn what a user's code raises while it is loaded or asked into an error that says whose it is.

    Raises:
        CodeError: `sys.exit`, which would end a command as if all were done, counts as an exception.
    """
    try:
        yield
    except DefinitionError:
        raise
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise CodeError(
            f"{what}: {type(error).__name__}: {lines[0]}", "".join(traceback.format_exception(error))
        ) from error


class ReportError(ValueError):
    """A problem reported figures that are not its own; the message is one line."""


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Turn `sys.exit` in a user's code, which would end a command as if all were done, into an exception."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"sys.exit({error.code!r}) was called").with_traceback(
            error.__traceback__
        ) from None
