"""Shows what a command that only reads is doing, once it takes longer than a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console

from pairsearch.search.cli.progress import LINE_SECONDS
from pairsearch.search.cli.terminal import print_lines

# Seconds after which a terminal shows the current step.
SILENT_SECONDS = 2.0


class Steps:
    """Shows the current step of a command: in place on a terminal, as occasional lines in a log.

    Args:
        console: where to print; its `is_interactive` decides the form.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self._printed = clock()
        # A spinner of ASCII characters works on every terminal.
        self._status = console.status("", spinner="line") if console.is_interactive else None
        self._timer = threading.Timer(SILENT_SECONDS, self._show)
        self._timer.daemon = True

    def _show(self) -> None:
        if self._status is not None:
            self._status.start()

    def __enter__(self) -> Callable[[str], None]:
        if self._status is not None:
            self._timer.start()
        return self.tell

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._timer.cancel()
            self._timer.join()
            self._status.stop()

    def tell(self, step: str) -> None:
        """Show a new step."""
        if self._status is not None:
            self._status.update(step)
        elif self.clock() - self._printed >= LINE_SECONDS:
            self._printed = self.clock()
            print_lines(self.console, [step])
