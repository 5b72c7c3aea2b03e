"""Files that are written completely or not at all: each is written under another name and renamed at the end."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pairsearch.search.common.errors import InputError, WorkError

# Characters of a file's name that are in the name of the file that becomes it: names are limited to 255 bytes.
LONGEST_BEGINNING = 40


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path`, or replaces the file there, when the block ends.

    Where the block raises, nothing is written and an existing file stays as it was. A program that is killed leaves
    nothing but a hidden `.part` file, whose name has the beginning of the other in it.

    Raises:
        InputError: the folder is missing or not writable, or `path` is a folder.
        WorkError: writing failed, for example because the disk is full.
    """
    part = path.with_name(f".{path.name[:LONGEST_BEGINNING]}.{secrets.token_hex(8)}.part")
    try:
        # Not `tempfile`: only the owner may read its files.
        file = part.open("xb")
    except OSError as error:
        raise InputError(f"cannot write to folder {path.parent}: {_reason(error)}") from None
    try:
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if path.is_dir():
                raise InputError(f"cannot write {path}: it is a folder")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        room = ": free some room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
        raise WorkError(f"cannot write {path}: {_reason(error)}{room}") from None


def working_directory() -> Path:
    """Return the working directory; the root of the file system where it was removed, as nothing can be in it."""
    try:
        return Path.cwd()
    except OSError:
        return Path(os.sep)


def usable_folder(path: Path) -> Path:
    """Return `path` if a file can be written there, or if `made_folder` can make it; raises InputError else."""
    folder = path if path.exists() else path.absolute().parent
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise InputError(f"cannot write to {folder}: {what}")
    try:
        # Permissions do not tell: a file system may be full or read-only, or a folder be no place for files.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise InputError(f"cannot write to folder {folder}: {_reason(error)}") from None
    return path


def shared_folder(path: str | Path | None) -> Path | None:
    """Return the absolute path of a folder that workers share, None for None.

    Raises:
        InputError: see `a_folder` and `usable_folder`.
    """
    return None if path is None else usable_folder(a_folder(path)).absolute()


def a_folder(path: str | Path) -> Path:
    """Return a path that names a folder; raises InputError where it is empty, as that of a variable that is not set."""
    if path == "":
        raise InputError("expected a folder, got an empty path: give . for the working directory")
    return Path(path)


def made_folder(path: Path) -> Path:
    """Make the folder where it does not exist, and return it; raises InputError where it cannot be made."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder {path}: {_reason(error)}") from None
    return path


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
