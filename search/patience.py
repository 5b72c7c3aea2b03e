"""Waiting, with backoff, for a database that is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from search.errors import DatabaseAwayError

# How long a worker waits, with its finished result in hand.
PATIENCE_SECONDS = 300.0

Answer = TypeVar("Answer")


def patiently(call: Callable[[], Answer], seconds: float) -> Answer:
    """Call until the database answers.

    The wait between two calls doubles up to ten seconds, with up to a second of chance, so that a crowd of workers
    does not come back at once.

    Raises:
        DatabaseAwayError: it stayed away for longer than `seconds`.
    """
    for attempt in Retrying(
        retry=retry_if_exception_type(DatabaseAwayError),
        stop=stop_after_delay(seconds),
        wait=wait_exponential(multiplier=0.2, max=10) + wait_random(0, 1),
        reraise=True,
    ):
        with attempt:
            return call()
    raise AssertionError("tenacity returns or raises")
