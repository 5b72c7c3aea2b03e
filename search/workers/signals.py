"""Stops a process cleanly on signals, and when its parent process ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Written to the pipe of signals to end its reader; no signal has this number.
END = b"\0"


def _asks_to_end() -> list[signal.Signals]:
    """Return SIGTERM, and SIGHUP (the terminal was closed) unless it is ignored, as under `nohup`."""
    numbers = [signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


@contextmanager
def signals(stopping: threading.Event) -> Iterator[list[int]]:
    """Set `stopping` on SIGTERM, SIGHUP or SIGINT inside the block; yield the list of signals received.

    SIGHUP stays ignored if it was. The signals are read from Python's wake-up descriptor, so that they are seen also
    where a problem has put a handler of its own in place of ours; one that ignores a signal, or gives it back to the
    system, still has its way.
    """
    caught: list[int] = []
    wanted = (*_asks_to_end(), signal.SIGINT)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        numbers = b""
        while END not in numbers:
            numbers = os.read(reading, 1024)
            if mine := [number for number in numbers if number in wanted]:
                caught.extend(mine)
                stopping.set()

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    before = {number: signal.signal(number, _noted) for number in wanted}
    descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield caught
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        # Not by closing the pipe: processes that a problem has forked may hold it open.
        os.write(writing, END)
        watcher.join()
        os.close(reading)
        os.close(writing)


def _noted(number: int, _: object) -> None:
    """Do nothing: Python writes only those signals to the wake-up descriptor that have a handler."""


def _release() -> None:
    """Give a forked process of a problem its signals back, or `terminate` of `multiprocessing` would not end it."""
    ours = [number for number in (*_asks_to_end(), signal.SIGINT) if signal.getsignal(number) is _noted]
    for number in ours:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if ours:
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_release)


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
