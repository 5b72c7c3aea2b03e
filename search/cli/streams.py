"""Standard output and standard error that take what the program says: in any encoding, closed, or full.

What an encoding lacks is shown in plain characters. A standard output that cannot be written to ends a command with
one line; of a standard error that cannot be written to nobody could be told.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

from pairsearch.search.errors import WorkError

HANDLER = "pairsearch.plain"
PLAIN = {
    "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "±": "+-", "≤": "<=", "≥": ">=", "→": "->", "·": "*",
    "•": "*", "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " ", "√": "sqrt ", "█": "#",
}  # fmt: skip


class OutputError(WorkError):
    """Standard output cannot be written to."""


def plain(text: str, encoding: str) -> str:
    """The text with plain characters in place of those that the encoding lacks."""
    if encoding.lower().startswith("utf"):
        return text
    return text.encode(encoding, HANDLER).decode(encoding)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(letter: str) -> str:
    if (
        "\u2500" <= letter <= "\u257f" or "\u2800" <= letter <= "\u28ff"
    ):  # what frames and spinners are drawn with
        return "-"
    return PLAIN.get(letter, ascii(letter)[1:-1])


class _Stream(io.TextIOWrapper):
    """A standard stream whose failure is one of our errors, once; what follows goes nowhere."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if self.fileno() == 1:
            raise OutputError(
                f"standard output cannot be written to ({error.strerror}): what it lacks is lost"
            )


def install() -> None:
    """Put such streams in the place of Python's own; one that another program put there stays as it is."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - it lives as long as the process
        elif type(stream) is io.TextIOWrapper:
            encoding, lines = stream.encoding, stream.line_buffering
            setattr(
                sys, name, _Stream(stream.detach(), encoding=encoding, errors=HANDLER, line_buffering=lines)
            )


codecs.register_error(HANDLER, _substitute)
