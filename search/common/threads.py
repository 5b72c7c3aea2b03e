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

# The memory allocator in pyarrow, which scikit-learn imports, has a thread that frees memory in the background. Workers
# are forked from a process without further threads.
ALLOCATOR = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


def limit() -> None:
    """Limit every thread pool of this process and of its child processes to one thread."""
    for name in VARIABLES:
        os.environ[name] = "1"
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)
