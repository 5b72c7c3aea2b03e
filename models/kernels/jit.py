"""Numba's decorator as every kernel uses it, with types that a checker can follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

Floats = npt.NDArray[np.float32]  # Flat: parameters, gradients, activations.
Positions = npt.NDArray[np.int32]  # Flat: places of maxima, offsets.
Integers = npt.NDArray[np.int64]  # Labels, orders, tables.
Sums = npt.NDArray[np.float64]  # Losses added over an epoch.


def compiled(function: Function) -> Function:
    """Compiled at its first call, without the GIL. No fast-math: every sum keeps its order, NaN stays NaN.

    The NumPy error model lets divisions vectorise, because they need no check for zero.
    """
    return cast(Function, njit(error_model="numpy", nogil=True)(function))


def compiled_and_cached(function: Function) -> Function:
    """As `compiled`, and kept on disk, beside the source or (where that is read-only) in the user's cache.

    `NUMBA_CACHE_DIR` names another place. Where nothing can be written, every process compiles for itself.
    """
    try:
        return cast(Function, njit(error_model="numpy", nogil=True, cache=True)(function))
    except RuntimeError:  # Numba found no place for a cache.
        return compiled(function)
