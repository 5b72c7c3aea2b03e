"""Errors of a study that cannot be trained, and of a problem that reports something it has not declared."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class DefinitionError(ValueError):
    """A definition cannot be read or is not valid. The message is one line that names the file and the field."""


class ProblemError(DefinitionError):
    """A problem cannot be loaded, or refuses its settings, data or parameters. The message is one line."""


class CodeError(ProblemError):
    """A user's own code raised an exception, which is the cause of this one. The message is one line.

    Args:
        traceback: the full traceback of the user's exception, as text.
    """

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


@contextmanager
def own_code(what: str) -> Iterator[None]:
    """Turn exceptions of a user's code into a `CodeError` that says which part of it raised them.

    Raises:
        CodeError: the code raised anything but a `DefinitionError`, or called `sys.exit`, which would otherwise end
            the command as if it had succeeded.
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
    """A problem reported an epoch or a figure that it may not report. The message is one line."""


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Turn `sys.exit` in a user's code into a `RuntimeError`: it would end the command as if it had succeeded."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"sys.exit({error.code!r}) was called").with_traceback(
            error.__traceback__
        ) from None
