"""Numba's cache of compiled kernels, made safe to fail: what is damaged or foreign is compiled anew.

By itself Numba raises what unpickling raises (an empty file: `EOFError`), or what writing does (a full disk), so that
one bad file keeps every process from training; and it runs machine code that was damaged in a way that a pickle does
not notice.
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
    """Keeps the key and a checksum with the machine code, and gives only code that has both.

    Processes that save at the same time can take the same file name for different keys: hence the key.
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
    """The cache of one function: a file that cannot be used is a miss, and one that cannot be written is left out."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        of_numba = self._cache_file
        self._cache_file = _CheckedFile(
            of_numba._cache_path, of_numba._index_name.removesuffix(".nbi"), of_numba._source_stamp
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function of a signature, None where it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # damaged pickles raise errors of any kind
            self._complain("are damaged, and are compiled anew", error)
        try:
            # A damaged index would keep the new code from being saved.
            self.flush()
        except Exception as error:
            self._complain("cannot be replaced", error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, where that can be done."""
        try:
            super().save_overload(sig, data)
        except (
            Exception
        ) as error:  # a full disk, a folder that went away, an index that another process damaged
            self._complain("cannot be kept, and every process compiles them for itself", error)

    def _complain(self, what: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        log.warning("the compiled kernels in %s %s (%s)", self.cache_path, what, reason)
