"""Describes an exception of a problem in one line, wherever it was raised."""

from __future__ import annotations

import traceback
from pathlib import Path

from pairsearch.search.common.redaction import conceal
from pairsearch.studies.problem import Impossible

# The folder of this package; files elsewhere are the user's or a library's.
OURS = Path(__file__).parents[2]


class RunError(Exception):
    """A run failed in a process of its own. The message is the line that describes it.

    Args:
        traceback: the text of the exception's traceback; None where the process died.
    """

    def __init__(self, message: str, traceback: str | None) -> None:
        super().__init__(message)
        self.traceback = traceback


class ImpossibleRunError(RunError, Impossible):
    """A run that its problem has found impossible, in a process of its own."""


def traceback_of(error: Exception) -> str | None:
    """Return the traceback of an exception as text, None where there is none."""
    if isinstance(error, RunError):
        return None if error.traceback is None else _storable(error.traceback)
    return conceal(_storable("".join(traceback.format_exception(error))))


def failure(error: BaseException) -> str:
    """Describe an exception in one line, with the last line of the user's own file that led to it."""
    if isinstance(error, RunError):
        return str(error)
    try:
        lines = str(error).strip().splitlines() or ["no reason given"]
    except Exception:
        lines = ["its message cannot be made"]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    # If a library raised it, the user's last line before the library is the one to show.
    own = [
        frame for frame in frames if not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)
    ]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return _storable(f"{type(error).__name__}: {lines[0]}{where}")


def _storable(text: str) -> str:
    """Return a text that UTF-8 can hold: names of files may have come as bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(OURS)
