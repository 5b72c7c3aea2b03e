"""Errors of a study that cannot be trained, and of a problem that reports something it has not declared."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The folder of this package; files elsewhere are the user's or a library's.
OURS = Path(__file__).parents[1]


class DefinitionError(ValueError):
    """A definition cannot be read or is not valid. The message is one line that names the file and the field."""


class ProblemError(DefinitionError):
    """A problem cannot be loaded, or refuses its settings, data or parameters. The message is one line."""


class CodeError(ProblemError):
    """A user's own code raised an exception, which is the cause of this one. The message is one line."""

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


def first_line(error: BaseException) -> str:
    """Describe an exception by its type and the first line of its message."""
    try:
        lines = str(error).strip().splitlines() or ["no reason given"]
    except Exception:
        lines = ["its message cannot be made"]
    return f"{type(error).__name__}: {lines[0]}"


def in_one_line(error: BaseException) -> str:
    """Describe an exception in one line, with the last line of the user's own file that led to it."""
    # If a library raised it, the user's last line before the library is the one to show.
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        libraries = {"site-packages", "dist-packages"} & set(path.parts)
        if not libraries and not path.is_relative_to(OURS) and path.is_file():
            return f"{first_line(error)} ({path.name}, line {frame.lineno})"
    return first_line(error)


@contextmanager
def own_code(what: str) -> Iterator[None]:
    """Turn exceptions of a user's code, but for a `DefinitionError`, into a `CodeError` that says which part it was.

    So does `sys.exit`, which would otherwise end the command as if it had succeeded.
    """
    try:
        yield
    except DefinitionError:
        raise
    except (Exception, SystemExit) as error:
        raise CodeError(f"{what}: {first_line(error)}", "".join(traceback.format_exception(error))) from error


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
