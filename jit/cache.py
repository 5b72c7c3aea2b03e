"""Numba's cache of compiled kernels on disk: which folder may be trusted, and what becomes of a damaged file.

Numba keeps kernels as pickles, and loading a pickle can run any code: whoever can write to the folder can run code as
the user who trains. A folder is trusted where only that user and the administrator can write to it and to all folders
above it. A folder beside the kernels' source is trusted as far as the source is, since changing either runs code.

A damaged file is compiled anew. Numba itself raises what unpickling raises (`EOFError` for an empty file) or what
writing raises (a full disk), so one bad file would keep every process from training. It would also run damaged machine
code that unpickles well.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import stat
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.serialize import dumps

log = logging.getLogger(__name__)


def trusted(folder: Path, source: Path) -> bool:
    """Whether only this user and the administrator can have written to `folder`.

    Only POSIX owners and modes are looked at, not access control lists. On Windows every folder is trusted, as Numba's
    own choice there lies in the user's profile.
    """
    if os.name != "posix":
        return True
    folder, source = folder.absolute(), source.absolute()
    try:
        if folder.parent == source:
            return _writers(folder) <= _writers(source)
        kept = [folder, *folder.iterdir()]
        own = {("user", 0), ("user", os.getuid())}
        # In a folder with the sticky bit, such as /tmp, nobody can replace what another user owns.
        return all(_writers(path) <= own for path in kept) and all(
            _writers(path) <= own or _sticky(path) for path in folder.resolve().parents
        )
    except OSError:
        return False


def _writers(path: Path) -> set[tuple[str, int]]:
    """Who can write to a path: its owner, who can change the mode, a group with further members, everybody."""
    status = path.lstat()
    found = {("user", status.st_uid)}
    if stat.S_ISLNK(status.st_mode):
        # The mode of a link says nothing about where it leads.
        return found | {("everybody", 0)}
    if status.st_mode & stat.S_IWGRP and not _private(status.st_gid):
        found.add(("group", status.st_gid))
    if status.st_mode & stat.S_IWOTH:
        found.add(("everybody", 0))
    return found


def _sticky(path: Path) -> bool:
    status = path.lstat()
    return bool(status.st_mode & stat.S_ISVTX) and status.st_uid in (0, os.getuid())


def _private(group: int) -> bool:
    """Whether a group has no other member: many systems give each user such a group, with the right to write."""
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415

    try:
        user = pwd.getpwuid(os.getuid())
        return user.pw_gid == group and set(grp.getgrgid(group).gr_mem) <= {user.pw_name}
    except KeyError:
        return False


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
        return pickle.loads(payload)  # noqa: S301 - only from a trusted folder


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
