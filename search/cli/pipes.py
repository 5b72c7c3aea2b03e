"""A reader that has enough, as in `pairsearch best wsal | head -1`: the program ends at once and says nothing."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

from pairsearch.search.errors import ExitCode


@contextmanager
def ends_with_its_reader() -> Iterator[None]:
    """Turn a write to a closed pipe, of standard output or error, into the exit code for it.

    Raises:
        BrokenPipeError: it was another pipe.
    """
    try:
        yield
    except BrokenPipeError:
        closed = [stream for stream in (sys.stdout, sys.stderr) if _has_no_reader(stream)]
        if not closed:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in closed:
            # What could not be written is still held: Python writes it once more when it ends, and complains.
            os.dup2(nowhere, stream.fileno())
        raise typer.Exit(ExitCode.OUTPUT_CLOSED) from None


def _has_no_reader(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    # The operating system tells of errors and hang-ups unasked.
    return bool(poll.poll(0))
