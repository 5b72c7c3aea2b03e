"""Numba's cache of compiled kernels, in which a damaged file is compiled anew instead of being an error.

Numba itself raises what unpickling raises (`EOFError` for an empty file) or what writing raises (a full disk), so one
bad file would keep every process from training. It would also run damaged machine code that unpickles well.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.serialize import dumps

log = logging.getLogger(__name__)


class _CheckedFile(IndexDataCacheFile):
    """A cache file that keeps a key and a checksum with the machine code, and verifies both when it is loaded.

    The key is needed because processes that save at the same time can use one file name for different keys.
    """

    def save(self, key: Any, data: Any) -> None:
        payload = dumps(data)
        super().save(key, (key, hashlib.sha256(payload).digest(), payload))

    def load(self, key: Any) -> Any:
        found = super().load(key)
        if found is None:
            return None
        kept, checksum, payload = found
        if kept != key or hashlib.sha256(payload).digest() != checksum:
            raise ValueError("its content is not what was written")
        return pickle.loads(payload)  # noqa: S301 - only from a trusted folder (jit.cachefolder)


class CheckedCache(FunctionCache):
    """The cache of one function, which logs that a file cannot be read or written and goes on without it."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        of_numba = self._cache_file
        self._cache_file = _CheckedFile(
            of_numba._cache_path, of_numba._index_name.removesuffix(".nbi"), of_numba._source_stamp
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function of a signature, or None where it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle can raise any error
            self._complain("are damaged, and are compiled anew", error)
        try:
            # A damaged index would keep the new code from being saved.
            self.flush()
        except Exception as error:
            self._complain("cannot be replaced", error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled function; a failure is only logged."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # such as a full disk, a deleted folder or a damaged index
            self._complain("cannot be kept, and every process compiles them for itself", error)

    def _complain(self, what: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        log.warning("the compiled kernels in %s %s (%s)", self.cache_path, what, reason)
