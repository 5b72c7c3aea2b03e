"""Keeps thread pools at one thread a process, so that N workers use N cores and no more.

BLAS, OpenMP and Numba read these variables once, when they are first imported: `limit` runs before that. The
training core itself spreads its models over threads where it is told to (`models.fused.train`).
"""

from __future__ import annotations

import os

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def limit() -> None:
    """Set every pool of this process, and of those that it starts, to one thread."""
    for name in VARIABLES:
        os.environ[name] = "1"
