"""Numba's decorator as every kernel uses it, with types that a checker can follow."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba import njit

from pairsearch.jit.cachefolder import trusted
from pairsearch.jit.checkedcache import CheckedCache

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

    `NUMBA_CACHE_DIR` names another place. Where nothing can be written, every process compiles for itself; also,
    with a warning, where other users can write, for what is kept there is code (`jit.cachefolder`). What
    is damaged there is compiled anew (`jit.checkedcache`).

    Raises:
        RuntimeError: NUMBA_DISABLE_JIT is set, without whose compiler these kernels cannot run.
    """
    settings: Any = numba.config
    if settings.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set: the compiled kernels need Numba's compiler: unset it")
    try:
        dispatcher: Any = njit(error_model="numpy", nogil=True, cache=True)(function)
    except RuntimeError:  # Numba found no place for a cache.
        return compiled(function)
    # Nothing is read from it before the first call.
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
