"""Commands that look say what they do once it takes a while, and nothing where it does not."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console
from rich.status import Status

from pairsearch.search.cli.progress import LINE_SECONDS, SILENT_SECONDS, steps


def test_a_log_gets_a_line_now_and_then() -> None:
    now = [0.0]
    screen = Console(file=io.StringIO(), width=200)
    with steps(screen, clock=lambda: now[0]) as tell:
        for second in range(int(2.5 * LINE_SECONDS)):
            now[0] = float(second)
            tell(f"judging: {second}%")
    written = screen.file.getvalue()  # type: ignore[attr-defined]
    assert written == "judging: 10%\njudging: 20%\n"


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, *, long: bool) -> str:
    """What a terminal shows of a step that ends before, or only after, it is shown."""
    screen = Console(file=io.StringIO(), width=60, force_terminal=True, _environ={"TERM": "xterm"})
    shown = threading.Event()
    start = Status.start

    def watched(status: Status) -> None:
        start(status)
        shown.set()

    monkeypatch.setattr(Status, "start", watched)
    with steps(screen) as tell:
        tell("reading it")
        assert shown.wait(60) if long else not shown.is_set()
    return str(screen.file.getvalue())  # type: ignore[attr-defined]


def test_a_terminal_shows_the_step_past_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SILENT_SECONDS == 2.0
    assert "reading it" in shown_on_a_terminal(monkeypatch, long=True)


def test_a_terminal_shows_nothing_of_what_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown_on_a_terminal(monkeypatch, long=False) == ""
