"""Describes an exception of a problem in one line, wherever it was raised."""

from __future__ import annotations

import traceback

from pairsearch.search.common.redaction import conceal
from pairsearch.studies.errors import in_one_line
from pairsearch.studies.problem import Impossible


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


class TimeLimitError(Exception):
    """A run takes longer than the time limit of its study. The message is one line."""


def traceback_of(error: Exception) -> str | None:
    """Return the traceback of an exception as text, None where there is none."""
    if isinstance(error, RunError):
        return None if error.traceback is None else _storable(error.traceback)
    return conceal(_storable("".join(traceback.format_exception(error))))


def failure(error: BaseException) -> str:
    """Describe an exception in one line, wherever it was raised."""
    return str(error) if isinstance(error, RunError | TimeLimitError) else _storable(in_one_line(error))


def _storable(text: str) -> str:
    """Return a text that UTF-8 can hold: names of files may have come as bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode()
