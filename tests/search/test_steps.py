"""Commands that look say what they do once it takes a while, and nothing where it does not."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from pairsearch.search.cli import steps
from pairsearch.search.cli.progress import LINE_SECONDS
from pairsearch.search.cli.steps import Steps


def test_a_log_gets_a_line_now_and_then() -> None:
    now = [0.0]
    screen = Console(file=io.StringIO(), width=200)
    with Steps(screen, clock=lambda: now[0]) as tell:
        for second in range(int(2.5 * LINE_SECONDS)):
            now[0] = float(second)
            tell(f"judging: {second}%")
    written = screen.file.getvalue()  # type: ignore[attr-defined]
    assert written == "judging: 10%\njudging: 20%\n"


def shown_on_a_terminal(*, long: bool) -> str:
    """What a terminal shows of a step that ends before, or only after, it is shown."""
    screen = Console(file=io.StringIO(), width=60, force_terminal=True, _environ={"TERM": "xterm"})
    shown = threading.Event()
    show = Steps._show

    class Watched(Steps):
        def _show(self) -> None:
            show(self)
            shown.set()

    with Watched(screen) as tell:
        tell("reading it")
        assert shown.wait(60) if long else not shown.is_set()
    return str(screen.file.getvalue())  # type: ignore[attr-defined]


def test_a_terminal_shows_the_step_past_two_seconds() -> None:
    assert steps.SILENT_SECONDS == 2.0
    assert "reading it" in shown_on_a_terminal(long=True)


def test_a_terminal_shows_nothing_of_what_is_done_at_once() -> None:
    assert shown_on_a_terminal(long=False) == ""
