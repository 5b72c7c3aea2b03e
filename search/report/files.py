"""Where a report goes: its folder checked before the work, its files written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from search.errors import InputError, WorkError

PAGE = "pairsearch-report.html"
IMAGES = "pairsearch-report-images"


def check_folder(folder: Path) -> None:
    """Refuse a folder that nothing can be written to.

    Raises:
        InputError: it is missing, not a folder, or not writable.
    """
    if not folder.is_dir():
        raise InputError(f"--out {folder}: there is no such folder: make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: this user may not write there: name another folder")


def make_folder(folder: Path) -> None:
    """Make a folder, where it is not there yet, in one that `check_folder` passed."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise WorkError(f"{folder} cannot be made: {error.strerror or error}") from None


def write(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it: a reader never sees half of it.

    Raises:
        InputError: a folder of that name is in the way, or the file system refuses to write.
        WorkError: the disk is full or fails.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: remove it or name another --out")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            with draft.open("xb") as file:
                file.write(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except PermissionError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}: name another --out") from None
    except OSError as error:
        raise WorkError(f"{path} cannot be written: {error.strerror or error}") from None
