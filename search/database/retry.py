"""Waiting, with backoff, for a database that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential, wait_random

from pairsearch.search.errors import DatabaseAwayError

# How long a worker waits, with its finished result in hand.
PATIENCE_SECONDS = 300.0
# Seconds: the first wait between two calls, the longest, and what chance adds at most.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
CHANCE = 1.0
# How long one waits that was told to stop: below the time after which what stops it would kill it.
STOPPING_SECONDS = 10.0

Answer = TypeVar("Answer")


def patiently(
    call: Callable[[], Answer],
    seconds: float,
    stopping: threading.Event | None = None,
    stopping_seconds: float | None = None,
) -> Answer:
    """Call until the database answers.

    The wait between two calls doubles up to ten seconds, with up to a second of chance, so that a crowd of workers
    does not come back at once.

    Args:
        stopping: once it is set, `stopping_seconds` are the longest wait; None for `STOPPING_SECONDS`.

    Raises:
        DatabaseAwayError: it stayed away for longer than `seconds`.
    """
    told = stopping or threading.Event()
    at_the_end = STOPPING_SECONDS if stopping_seconds is None else stopping_seconds

    def enough(state: RetryCallState) -> bool:
        waited = state.seconds_since_start or 0.0
        return waited >= (min(seconds, at_the_end) if told.is_set() else seconds)

    def rest(pause: float) -> None:
        # Told to stop, it still gives the database a moment between two calls.
        if told.is_set():
            time.sleep(min(pause, 1.0))
        else:
            told.wait(pause)

    for attempt in Retrying(
        retry=retry_if_exception_type(DatabaseAwayError),
        stop=enough,
        sleep=rest,
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE) + wait_random(0, CHANCE),
        reraise=True,
    ):
        with attempt:
            return call()
    raise AssertionError("tenacity returns or raises")
