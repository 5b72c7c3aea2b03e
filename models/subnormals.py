"""Treats subnormal numbers as zeros while models train.

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

    The former mode is then put back, also after an exception; if only operands or only results were flushed before,
    neither is afterwards. On a processor that cannot flush (`supported`) nothing changes.
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
