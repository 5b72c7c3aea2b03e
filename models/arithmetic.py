"""The conditions under which PyTorch's own operations train on the CPU, so that the same job gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pairsearch.models.subnormals import flushed


@contextmanager
def fixed() -> Iterator[None]:
    """One PyTorch thread, which flushes subnormals, until the end; then the settings that were there before.

    More threads would split sums otherwise, and each has a mode of its own for subnormals. The number of threads is
    the whole process's, the mode the calling thread's; backward passes on the CPU run in the calling thread too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with flushed():
            yield
    finally:
        torch.set_num_threads(before)
