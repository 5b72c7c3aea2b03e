"""Fixtures of the data tests."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture
def open_sockets_forgiven() -> Iterator[None]:
    """Collect garbage after a failed download: torchvision keeps the HTTP error with its socket open.

    The socket would otherwise be collected, with a ResourceWarning, in the middle of this test or an unrelated one.
    """
    gc.disable()
    try:
        yield
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    finally:
        gc.enable()
