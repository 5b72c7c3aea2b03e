"""Stops a process cleanly on signals, and when its parent process ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Written to the pipe of signals to end its reader; no signal has this number.
END = b"\0"


def _asks_to_end() -> list[signal.Signals]:
    """Return SIGTERM, and SIGHUP (the terminal was closed) unless it is ignored, as under `nohup`."""
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


class _Watch:
    """Sees signals in two ways, since a problem may take either: by handlers, and by Python's wake-up descriptor.

    Python writes the number of each signal that has a handler to the descriptor, whoever handles it.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self.stopping = stopping
        self.wanted = (*_asks_to_end(), signal.SIGINT)
        self.caught: set[int] = set()
        self.training = False
        self._interrupts = 0
        self._others = -1
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._thread = threading.Thread(target=self._read, name="signals", daemon=True)
        self._thread.start()
        self._handlers = {number: signal.signal(number, self.handle) for number in self.wanted}
        self._descriptor = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def handle(self, number: int, _: object) -> None:
        """Note a signal; a second Ctrl-C ends a training that waits for ever, for processes that got the first one."""
        self._note([number])
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1 and self.training:
            raise KeyboardInterrupt

    def _note(self, numbers: list[int]) -> None:
        self.caught.update(numbers)
        self.stopping.set()

    def _read(self) -> None:
        numbers = b""
        while END not in numbers:
            numbers = os.read(self._reading, 1024)
            with suppress(OSError):  # there may be none, or it is closed by now
                os.write(self._others, numbers)
            if mine := [number for number in numbers if number in self.wanted]:
                self._note(mine)

    def put_back(self) -> None:
        """Put handlers and descriptor back that a problem has removed; what it has put in their place is served too."""
        for number in self.wanted:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self.handle)
        others = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        if others != self._writing:
            self._others = others

    def release(self) -> None:
        """Give a forked process its signals back, or `terminate` of `multiprocessing` would not end it."""
        for number in self.wanted:
            if signal.getsignal(number) == self.handle:
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default)
        others = signal.set_wakeup_fd(-1)
        if others not in (-1, self._writing):
            signal.set_wakeup_fd(others)

    def close(self) -> None:
        signal.set_wakeup_fd(self._descriptor)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        # Not by closing the pipe: processes that a problem has forked may hold it open.
        os.write(self._writing, END)
        self._thread.join()
        os.close(self._reading)
        os.close(self._writing)


_watches: list[_Watch] = []


@contextmanager
def signals(stopping: threading.Event) -> Iterator[set[int]]:
    """Set `stopping` on SIGTERM, SIGHUP or SIGINT inside the block; yield the set of signals received.

    SIGHUP stays ignored if it was. A problem may take these signals for itself; only where it ignores one it has its
    way.
    """
    watch = _Watch(stopping)
    _watches.append(watch)
    try:
        yield watch.caught
    finally:
        _watches.remove(watch)
        watch.close()


@contextmanager
def in_training() -> Iterator[None]:
    """Let a second Ctrl-C raise KeyboardInterrupt inside the block."""
    for watch in _watches:
        watch.training = True
    try:
        yield
    finally:
        for watch in _watches:
            watch.training = False


def put_back() -> None:
    """Put back what a problem has changed about signals, if this is the main thread, which alone may do so."""
    if threading.current_thread() is threading.main_thread():
        for watch in _watches:
            watch.put_back()


def _release() -> None:
    for watch in _watches:
        watch.release()
    _watches.clear()


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
