"""Owns how subnormal numbers are treated while training: as zeros.

Below 2^-126 in size (float32) they stop many processors for a hundred cycles at each instruction that touches one,
and the weights of a unit that died sink there under weight decay and stay.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Made from its bits, because a literal is read as zero in a thread that flushes.
_SUBNORMAL: float = struct.unpack("=d", struct.pack("=Q", 1))[0]


@contextmanager
def flushed() -> Iterator[None]:
    """Flushes subnormals to zero, as operands and as results, in the calling thread until the end.

    The mode that was there before is then put back, also after an exception; where only one half of it was on, both
    are off afterwards. Where the processor cannot flush (`supported`) nothing changes.
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
    """Whether the calling thread flushes subnormals, as operands and as results.

    PyTorch sets the mode but does not tell it. Python's floats show it, as their arithmetic reads the same register.
    """
    result = struct.pack("=d", sys.float_info.min * 0.5)
    return _SUBNORMAL == 0.0 and result == bytes(8)
