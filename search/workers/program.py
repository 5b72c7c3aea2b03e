"""Starts further processes of this program from the same installation, whatever the working directory contains."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

MAIN = str(Path(__file__).parents[2] / "__main__.py")
"""What runs this program; it loads the package that it belongs to."""
# Bytes at the end of what a process has printed that are read.
TAIL_BYTES = 64 * 1024
# Characters of its last line that a message shows.
SHOWN = 1000


def python() -> list[str]:
    """Return the words that start Python as it runs here.

    It would look for modules in the working directory first, where the user may have a `random.py` or `models.py`. `-P`
    prevents that.
    """
    return [sys.executable, "-I" if sys.flags.isolated else "-P"]


def command(*arguments: str) -> list[str]:
    """Return the command line of another process of this program: `__main__.py` loads the package that it is in."""
    return [*python(), MAIN, *arguments]


def environment() -> dict[str, str]:
    """Return the environment of another process of this program.

    It lacks the entries of PYTHONPATH that stand for the working directory: empty entries (an unset variable leaves
    one), relative paths, and the directory itself.
    """
    here = Path(os.curdir)
    kept = [
        entry
        for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if Path(entry).is_absolute() and not _same(Path(entry), here)
    ]
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return others | ({"PYTHONPATH": os.pathsep.join(kept)} if kept else {})


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return False


def tail(log: IO[bytes]) -> bytes:
    """Return the end of a file to which a process prints."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
    return log.read(TAIL_BYTES)


def last_line(log: IO[bytes]) -> str:
    """Return the last line that a process has printed to a file, or its end; empty if there is none."""
    lines = tail(log).decode("utf-8", "replace").strip().splitlines()
    return lines[-1][-SHOWN:] if lines else ""


def ending(who: str, code: int, log: IO[bytes]) -> str:
    """Describe how a process ended, by its exit code, negative for a signal, and the last line that it printed."""
    how, line = f"killed by signal {-code}" if code < 0 else f"exit code {code}", last_line(log)
    return f"{who} ended ({how}){f': {line}' if line else ''}"
