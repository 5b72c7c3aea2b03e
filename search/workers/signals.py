"""What tells a process to stop: signals, and the end of the process that started it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def _asks_to_end() -> list[signal.Signals]:
    """SIGTERM, and SIGHUP (the terminal is gone) unless it is ignored, as `nohup` has it."""
    found = [signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


@contextmanager
def signals(stopping: threading.Event) -> Iterator[list[int]]:
    """Set `stopping` on SIGTERM, SIGHUP and SIGINT inside the block; yields the list of signals that came.

    SIGHUP stays ignored where it is.
    """
    caught: list[int] = []

    def handle(number: int, _: object) -> None:
        caught.append(number)
        stopping.set()

    before = {number: signal.signal(number, handle) for number in (*_asks_to_end(), signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do inside the block what Ctrl-C does: raise KeyboardInterrupt."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _asks_to_end()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_parent(stopping: threading.Event) -> None:
    """Set `stopping` when standard input ends: a pipe whose other end only the process that started this one holds.

    The system closes that end however the other process dies, and at once; no signal and no process id is involved, so
    that nothing can be missed or mistaken.
    """

    def watch() -> None:
        try:
            while os.read(0, 1024):
                pass
        except OSError:
            pass  # it was closed before: nobody holds the other end
        stopping.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()
