"""Prints lines and JSON on standard output and standard error, in any encoding, and when they are closed or full.

Characters that an encoding lacks are replaced by plain ones. If standard output cannot be written to, the command ends
with an error of one line; if its reader has closed it, as in `pairsearch best wsal | head -1`, silently. If standard
error cannot be written to, its messages are dropped. While a command runs, standard output is the command's own
(`reserve`). Tables and live progress, which need Rich, are printed by `search.cli.terminal`.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import typer

from pairsearch.search.common.errors import ExitCode, WorkError
from pairsearch.search.common.redaction import conceal, printable

HANDLER = "pairsearch.plain"
PLAIN = {
    "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "±": "+-", "≤": "<=", "≥": ">=", "→": "->", "·": "*",
    "•": "*", "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " ", "√": "sqrt ", "█": "#",
}  # fmt: skip


class OutputError(WorkError):
    """Standard output cannot be written to."""


def print_json(value: Any) -> None:
    """Print JSON for programs, in plain ASCII."""
    _write(json.dumps(value, indent=2))


def say(line: str, *, error: bool = False) -> None:
    """Print a line with control characters escaped, to standard error if `error`."""
    _write(printable(line), error=error)


def teller(*, error: bool = False, quiet: bool = False) -> Callable[[str], None]:
    """Return a function that prints lines of progress as `say` does, or not at all if `quiet`."""
    return (lambda _: None) if quiet else partial(say, error=error)


def say_error(line: str) -> None:
    """Print an error as one line, with passwords masked and control characters escaped."""
    say(f"error: {conceal(line)}", error=True)


def _write(line: str, *, error: bool = False) -> None:
    # Not `typer.echo`, which would write UTF-8 to a stream of another encoding.
    print(line, file=sys.stderr if error else output(), flush=True)


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
        _to_nowhere(self)
        if self is not sys.stderr:
            raise OutputError(
                f"standard output cannot be written to ({error.strerror}): what it lacks is lost"
            )


def _to_nowhere(stream: TextIO) -> None:
    """Drop what a stream still buffers, which Python would try to write again at its end, and all later output."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def ends_with_its_reader() -> Iterator[None]:
    """Translate a write to a closed pipe inside the block to its exit code.

    Raises:
        typer.Exit: standard output or standard error is closed; the exit code is OUTPUT_CLOSED.
        BrokenPipeError: another pipe is closed.
    """
    try:
        yield
    except BrokenPipeError:
        closed = [stream for stream in (output(), sys.stderr) if _has_no_reader(stream)]
        if not closed:
            raise
        for stream in closed:
            _to_nowhere(stream)
        raise typer.Exit(ExitCode.OUTPUT_CLOSED) from None


def _has_no_reader(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    # `poll` always reports errors and hang-ups, even if no event is registered.
    return bool(poll.poll(0))


_output: list[TextIO] = []


def output() -> TextIO:
    """Return the stream for what a command prints: standard output, also once it is reserved."""
    return _output[0] if _output else sys.stdout


def reserve() -> None:
    """Keep standard output for what the command prints by `output`, for the rest of the process.

    Whatever else is written to it goes to standard error: a problem, its libraries, C code among them, and processes
    that they start may print, and must not end up in the middle of JSON. Nothing is undone at the end, as C code may
    keep what it prints until then. A stream that another program has put in the place of Python's stays.
    """
    stream = sys.stdout
    if _output or not isinstance(stream, _Stream) or stream.fileno() != 1:
        return
    stream.flush()
    buffer = io.BufferedWriter(io.FileIO(os.dup(1), "w"))
    kept = _Stream(buffer, encoding=stream.encoding, errors=HANDLER, line_buffering=stream.line_buffering)
    # The former stream is held too, since it would close its descriptor at its end.
    _output.extend([kept, stream])
    os.dup2(sys.stderr.fileno(), 1)
    sys.stdout = sys.stderr
    sys.__stdout__ = sys.__stderr__  # type: ignore[misc] # final only to the type checker


def abandon() -> None:
    """Have a forked process not hold the standard output of the first one."""
    if _output:
        _to_nowhere(_output[0])


def install() -> None:
    """Replace Python's standard streams; a stream that another program has replaced already stays."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - it lives as long as the process
        elif type(stream) is io.TextIOWrapper:
            encoding, lines = stream.encoding, stream.line_buffering
            made = _Stream(stream.detach(), encoding=encoding, errors=HANDLER, line_buffering=lines)
            setattr(sys, name, made)
            setattr(sys, f"__{name}__", made)


codecs.register_error(HANDLER, _substitute)
