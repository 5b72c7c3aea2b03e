"""What SIGTERM and SIGINT do to a command while it works."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signals(stopping: threading.Event) -> Iterator[list[int]]:
    """Set `stopping` on SIGTERM and SIGINT inside the block; yields the list of signals that came."""
    caught: list[int] = []

    def handle(number: int, _: object) -> None:
        caught.append(number)
        stopping.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM do inside the block what Ctrl-C does: raise KeyboardInterrupt."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
