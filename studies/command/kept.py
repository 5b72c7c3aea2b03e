"""The folder `{checkpoint}`: it is filled from a run's checkpoint, and its files are kept in the next one."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SETTLED_SECONDS = 0.2
"""How long no file may have changed before they are read: they may be in the middle of being written."""
SHARE = 10.0
"""Storing files may take one part in so many of the time."""

Stamp = frozenset[tuple[str, int, int]]


class Kept:
    """The files of a folder, as they were last whole.

    Attributes:
        files: contents by names below the folder.
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Write the files of an earlier checkpoint; raises a ValueError where a name leads out of the folder."""
        self._folder = folder
        folder.mkdir()
        for name, content in files.items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"checkpoint: {name!r} is no name of a file in it")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.files = dict(files)
        self._read = self._seen = self._stamp()
        self._changed = self._next = time.monotonic()

    def changed(self) -> bool:
        """Read the files if they have changed, and not in the last moments; return whether they were read."""
        now, stamp = time.monotonic(), self._stamp()
        if stamp != self._seen:
            self._seen, self._changed = stamp, now
        if stamp == self._read or now - self._changed < SETTLED_SECONDS or now < self._next:
            return False
        return self.read()

    def read(self) -> bool:
        """Read the files, unless they change meanwhile; return whether they were read."""
        before = self._stamp()
        try:
            files = {name: (self._folder / name).read_bytes() for name, _, _ in before}
        except OSError:
            return False
        if not files or self._stamp() != before:
            return False
        self.files, self._read = files, before
        return True

    def took(self, seconds: float) -> None:
        """Note how long it took to store them."""
        self._next = time.monotonic() + SHARE * seconds

    def _stamp(self) -> Stamp:
        """Return names, sizes and times of the files."""
        paths = (Path(folder, name) for folder, _, names in os.walk(self._folder) for name in names)
        found = set()
        for path in paths:
            with suppress(OSError):  # the program may remove it at any time
                if path.is_file():
                    about = path.stat()
                    found.add((path.relative_to(self._folder).as_posix(), about.st_size, about.st_mtime_ns))
        return frozenset(found)
