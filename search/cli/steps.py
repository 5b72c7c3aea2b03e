"""Says what a command that only looks is doing, once that takes longer than people wait without asking."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.text import Text

from pairsearch.search.cli.progress import LINE_SECONDS
from pairsearch.search.evaluation.evaluating import Watch

# Past so many seconds a terminal shows it.
SILENT_SECONDS = 2.0


class Steps:
    """Shows the step that is being done: in place on a terminal, in a log as a line now and then.

    Args:
        console: where to; `is_interactive` decides the form.
        clock: seconds that only go forward.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self._printed = clock()
        # Of plain characters, as not every terminal has others.
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
        """What is being done from now on."""
        if self._status is not None:
            self._status.update(step)
        elif self.clock() - self._printed >= LINE_SECONDS:
            self._printed = self.clock()
            self.console.print(step, highlight=False, soft_wrap=True)


def watch_on(console: Console) -> Watch:
    """Shows what is being evaluated, in place where the console is a terminal."""

    @contextmanager
    def watch(label: str) -> Iterator[Callable[[str], None]]:
        with console.status(Text(f"{label}: starting")) as status:
            yield lambda line: status.update(Text(line))

    return watch
