"""Fixes the conditions under which PyTorch's operations give the same bits for the same job on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pairsearch.models.subnormals import flushed


@contextmanager
def fixed() -> Iterator[None]:
    """Let PyTorch run in one thread, which flushes subnormals, and put the former settings back at the end.

    Another number of threads would divide sums differently, and each thread has its own mode for subnormals. The number
    of threads is set for the whole process and the mode for the calling thread, in which backward passes on the CPU
    run too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with flushed():
            yield
    finally:
        torch.set_num_threads(before)
