"""Stops a process cleanly on signals, and when its parent process ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def _asks_to_end() -> list[signal.Signals]:
    """Return SIGTERM, and SIGHUP (the terminal was closed) unless it is ignored, as under `nohup`."""
    numbers = [signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


@contextmanager
def signals(stopping: threading.Event) -> Iterator[list[int]]:
    """Set `stopping` on SIGTERM, SIGHUP or SIGINT inside the block; yield the list of signals received.

    SIGHUP stays ignored if it was.
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
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP inside the block, as Ctrl-C does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _asks_to_end()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_parent(stopping: threading.Event) -> None:
    """Set `stopping` when standard input ends, which is a pipe whose other end only the parent process holds.

    The system closes that end as soon as the parent ends, however it ends. Signals could be missed, and process ids
    mistaken.
    """

    def watch() -> None:
        try:
            while os.read(0, 1024):
                pass
        except OSError:
            pass  # standard input is closed already
        stopping.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()
