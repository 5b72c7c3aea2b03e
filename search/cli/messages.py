"""Prints lines and JSON. Tables and live progress, which need Rich, are printed by `search.cli.terminal`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from pairsearch.search.cli.streams import output
from pairsearch.search.common.redaction import conceal, printable


def print_json(value: Any) -> None:
    """Print JSON for programs, in plain ASCII."""
    _write(json.dumps(value, indent=2))


def say(line: str) -> None:
    """Print a line with control characters escaped."""
    _write(printable(line))


def teller(*, error: bool = False, quiet: bool = False) -> Callable[[str], None]:
    """Return a function that prints lines of progress: to standard error if `error`, not at all if `quiet`."""

    def tell(line: str) -> None:
        if not quiet:
            _write(printable(line), error=error)

    return tell


def say_error(line: str) -> None:
    """Print an error as one line, with passwords masked and control characters escaped."""
    _write(f"error: {printable(conceal(line))}", error=True)


def _write(line: str, *, error: bool = False) -> None:
    # Not `typer.echo`, which would write UTF-8 to a stream of another encoding.
    print(line, file=sys.stderr if error else output(), flush=True)
