"""A terminal, log or pipe to print tables, lines and progress on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from pairsearch.search.cli.streams import output, plain, print_json
from pairsearch.search.common.errors import ExitCode
from pairsearch.search.common.redaction import printable
from pairsearch.studies.checks import Check


def console(*, error: bool = False, quiet: bool = False) -> Console:
    """Return a console on standard output, or on standard error because the former is for JSON.

    It prints texts from a database that others may write to: markup is not interpreted, and control characters are
    escaped.
    """
    stream = sys.stderr if error else output()
    encoding = getattr(stream, "encoding", None) or "utf-8"

    def shown(text: str) -> str:
        return plain(printable(text, "\n"), encoding)

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - passes the error that Rich has caught on to `Boundary`

        def render_str(self, text: str, **options: Any) -> Text:
            # Escaping comes before Rich measures the text.
            return super().render_str(shown(text), **options)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                # Rich's own control codes, which move the cursor, are marked as such.
                yield segment if segment.control else Segment(shown(segment.text), segment.style)

    # A log or a pipe has no width, so it gets one at which tables fit.
    width = None if stream.isatty() or "COLUMNS" in os.environ else 160
    return Screen(file=stream, stderr=error, width=width, quiet=quiet, markup=False, emoji=False)


def print_lines(screen: Console, lines: Iterable[str]) -> None:
    """Print each line as it is: neither folded nor highlighted."""
    for line in lines:
        screen.print(line, markup=False, highlight=False, soft_wrap=True)


def show_checks(checks: Iterable[Check], *, as_json: bool, wrong: str = "FAIL") -> None:
    """Print each check as soon as it is done, or all of them as JSON; exit with WORK_FAILED where one failed."""
    marks = {None: "    ", True: "ok  ", False: wrong}
    shown = []
    for check in checks:
        shown.append(check)
        if not as_json:
            print_lines(console(), [f"{marks[check.good]} {check.name}: {check.finding}"])
    if as_json:
        print_json([{"check": check.name, "good": check.good, "finding": check.finding} for check in shown])
    if any(check.good is False for check in shown):
        raise typer.Exit(ExitCode.WORK_FAILED)
