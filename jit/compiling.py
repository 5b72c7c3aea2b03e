"""The decorators with which every kernel is compiled by Numba, typed so that mypy sees the functions behind them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba import njit

from pairsearch.jit.cache import CheckedCache, trusted

Function = TypeVar("Function", bound=Callable[..., Any])

Floats = npt.NDArray[np.float32]  # one-dimensional: parameters, gradients, activations
Positions = npt.NDArray[np.int32]  # one-dimensional: positions of maxima, offsets
Integers = npt.NDArray[np.int64]  # labels, orders, tables
Sums = npt.NDArray[np.float64]  # losses, summed over an epoch


def compiled(function: Function) -> Function:
    """Compile a function at its first call; it runs without the GIL.

    Fast-math is off, so that every sum keeps its order and NaN stays NaN. The NumPy error model lets divisions
    vectorise, because they need no check for zero.
    """
    return cast(Function, njit(error_model="numpy", nogil=True)(function))


def compiled_and_cached(function: Function) -> Function:
    """Compile a function as `compiled` does, and cache it on disk: beside the source or, if read-only, for the user.

    `NUMBA_CACHE_DIR` names another folder. Every process compiles for itself where no folder can be written, and, with
    a warning, where other users can write to it (`jit.cache`). A damaged file is compiled anew.

    Raises:
        RuntimeError: NUMBA_DISABLE_JIT is set; the kernels cannot run as plain Python.
    """
    settings: Any = numba.config
    if settings.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set: the compiled kernels need Numba's compiler: unset it")
    try:
        dispatcher: Any = njit(error_model="numpy", nogil=True, cache=True)(function)
    except RuntimeError:  # Numba found no folder for a cache
        return compiled(function)
    # The cache is replaced in time: nothing is read from it before the first call.
    folder = Path(dispatcher._cache.cache_path)
    if trusted(folder, Path(__file__).parent):
        dispatcher._cache = CheckedCache(function)
        return cast(Function, dispatcher)
    warnings.warn(
        f"the compiled kernels in {folder} are not used, for other users can write there: "
        "let NUMBA_CACHE_DIR name a folder of yours with mode 0700",
        RuntimeWarning,
        stacklevel=2,
    )
    return compiled(function)
