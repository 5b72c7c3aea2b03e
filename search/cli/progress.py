"""Shows what a command is doing: in place on a terminal, as plain lines in a log.

Which of the two it is, the console's `is_interactive` says; it is false for a log, a pipe and a dumb terminal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from pairsearch.search.cli.tables import progress_lines, progress_table
from pairsearch.search.cli.terminal import print_lines
from pairsearch.search.results.progress import Progress

# Seconds between two lines of progress in a log.
LINE_SECONDS = 10.0
# Seconds after which a terminal shows the current step of a command that only reads.
SILENT_SECONDS = 2.0


class SearchProgress:
    """Shows the progress of studies, with the rate of this run and the time left at that rate."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self._start = clock()
        self._ended_before: float | None = None
        self._printed = float("-inf")
        self._lines: list[str] = []
        # It has no thread of its own: workers are forked from this process.
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_interactive else None
        )

    def __enter__(self) -> SearchProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def rate(self, progresses: Sequence[Progress]) -> float | None:
        """Return configurations per second since the first update; None until one of this run, or a fold, is done."""
        ended = sum(progress.ended for progress in progresses)
        if self._ended_before is None:
            self._ended_before, self._start = ended, self.clock()
        gained, elapsed = ended - self._ended_before, self.clock() - self._start
        return gained / elapsed if gained > 0 and elapsed > 0 else None

    def update(self, progresses: Sequence[Progress], last: bool = False) -> None:
        """Show new progress; in a log only changed lines, and at most every `LINE_SECONDS` unless it is the last."""
        rate = self.rate(progresses)
        if self._live is not None:
            self._live.update(progress_table(progresses, rate or 0.0), refresh=True)
            return
        now = self.clock()
        if not last and now - self._printed < LINE_SECONDS:
            return
        self._printed = now
        lines = progress_lines(progresses, rate)
        before = self._lines or [""] * len(lines)
        print_lines(self.console, [line for line, other in zip(lines, before, strict=True) if line != other])
        self._lines = lines


@contextmanager
def steps(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[str], None]]:
    """Yield what shows the current step of a command that only reads, once it takes longer than a moment."""
    if not console.is_interactive:
        printed = clock()

        def tell(step: str) -> None:
            nonlocal printed
            if clock() - printed >= LINE_SECONDS:
                printed = clock()
                print_lines(console, [step])

        yield tell
        return
    # A spinner of ASCII characters works on every terminal.
    status = console.status("", spinner="line")
    timer = threading.Timer(SILENT_SECONDS, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield status.update
    finally:
        timer.cancel()
        timer.join()
        status.stop()
