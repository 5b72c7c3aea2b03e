"""Repeats calls, with backoff, while the database is unavailable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential, wait_random

from pairsearch.search.common.errors import DatabaseAwayError

# Seconds: the first pause between two calls, the longest pause, and the largest random addition to it.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
CHANCE = 1.0
# How long a process retries after it was asked to stop: less than the time after which it would be killed.
STOPPING_SECONDS = 10.0

Returned = TypeVar("Returned")


def patiently(
    call: Callable[[], Returned],
    seconds: float,
    stopping: threading.Event | None = None,
    stopping_seconds: float = STOPPING_SECONDS,
) -> Returned:
    """Call until the database answers, and return what the call returns.

    The pause between two calls doubles up to ten seconds, and up to one random second is added, so that many workers
    do not return at the same moment.

    Args:
        call: is repeated for so many `seconds` when it raises `DatabaseAwayError`, which then passes.
        stopping: once this event is set, `stopping_seconds` limit the time too.
    """
    stop = stopping or threading.Event()

    def enough(state: RetryCallState) -> bool:
        waited = state.seconds_since_start or 0.0
        return waited >= (min(seconds, stopping_seconds) if stop.is_set() else seconds)

    def rest(pause: float) -> None:
        # Once the event is set, waiting for it would return at once and calls would follow without a pause.
        if stop.is_set():
            time.sleep(min(pause, 1.0))
        else:
            stop.wait(pause)

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
