"""Limits thread pools to one thread for each process, so that N workers use no more than N cores.

BLAS, OpenMP and Numba read these variables once, when they are first imported, so `limit` has to run before that.
The training core starts threads of its own where its caller asks for them (`models.fused.train`).
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
    """Limit every thread pool of this process and of its child processes to one thread."""
    for name in VARIABLES:
        os.environ[name] = "1"
