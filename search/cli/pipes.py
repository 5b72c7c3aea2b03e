"""Ends the program silently when the reader of its output has closed the pipe: `pairsearch best wsal | head -1`."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

from pairsearch.search.cli import streams
from pairsearch.search.common.errors import ExitCode


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
        closed = [stream for stream in (streams.output(), sys.stderr) if _has_no_reader(stream)]
        if not closed:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in closed:
            # The unwritten output is still buffered. Python would try to write it again at its end, and print an error.
            os.dup2(nowhere, stream.fileno())
        raise typer.Exit(ExitCode.OUTPUT_CLOSED) from None


def _has_no_reader(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    # `poll` always reports errors and hang-ups, even if no event is registered.
    return bool(poll.poll(0))
