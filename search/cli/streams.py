"""Makes standard output and standard error work in any encoding, and when they are closed or full.

Characters that an encoding lacks are replaced by plain ones. If standard output cannot be written to, the command ends
with an error of one line. If standard error cannot be written to, its messages are dropped.
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
    """Replace characters that an encoding lacks by plain ones."""
    if encoding.lower().startswith("utf"):
        return text
    return text.encode(encoding, HANDLER).decode(encoding)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(letter: str) -> str:
    if "\u2500" <= letter <= "\u257f" or "\u2800" <= letter <= "\u28ff":  # characters of frames and spinners
        return "-"
    return PLAIN.get(letter, ascii(letter)[1:-1])


class _Stream(io.TextIOWrapper):
    """A standard stream that raises one of our errors on its first failure, and drops all later output."""

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
    """Replace Python's standard streams; a stream that another program has replaced already stays."""
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
