"""What can be wrong with a study before it is trained, and with what a problem reports.

ValueError
├── DefinitionError      a definition that cannot be read or is not valid
│   └── ProblemError     its problem cannot be loaded, or not with these settings, data or parameters
└── ReportError          `report` was given what the problem has not declared, or what is no number
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DefinitionError(ValueError):
    """A definition is unreadable or invalid; the message is one line that names the file and the field."""


class ProblemError(DefinitionError):
    """A problem cannot be loaded or used; the message is one line."""


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
