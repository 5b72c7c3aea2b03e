"""Fixes how floats are computed while models train: PyTorch in one thread, and subnormal numbers as zeros.

Many processors stall for a hundred cycles at each instruction that meets a subnormal, a number below 2^-126 in size
(float32). Weight decay takes the weights of a dead unit there, and they stay.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# A literal would be read as zero in a thread that flushes: make the number from its bits.
_SUBNORMAL: float = struct.unpack("=d", struct.pack("=Q", 1))[0]


@contextmanager
def flushed() -> Iterator[None]:
    """Flush subnormals to zero, as operands and as results, in the calling thread until the end of the block.

    The former mode is then put back; if only operands or only results were flushed before, neither is afterwards. On a
    processor that cannot flush (`supported`) nothing changes.
    """
    before = flushing()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def supported() -> bool:
    """Whether subnormals can be flushed to zero on this processor."""
    with flushed():
        return flushing()


def flushing() -> bool:
    """Whether the calling thread flushes subnormals, both as operands and as results.

    PyTorch sets the mode but cannot be asked for it. Python's floats show it, as they depend on the same register.
    """
    result = struct.pack("=d", sys.float_info.min * 0.5)
    return _SUBNORMAL == 0.0 and result == bytes(8)


@contextmanager
def fixed() -> Iterator[None]:
    """Let PyTorch run in one thread, which flushes subnormals, and put the former settings back at the end.

    So its operations give the same bits for the same job on the CPU: another number of threads would divide sums
    differently, and each thread has its own mode for subnormals. The number of threads is set for the whole process and
    the mode for the calling thread, in which backward passes on the CPU run too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with flushed():
            yield
    finally:
        torch.set_num_threads(before)
