"""Finds the database URL in the environment, or in a file that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

from pairsearch.search.common.errors import StorageError

VARIABLE = "PAIRSEARCH_STORAGE"
"""URL of the database if `--storage` is not given: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE`. An
`@` inside the password is written `%40`."""
FILE_VARIABLE = "PAIRSEARCH_STORAGE_FILE"
"""A file with that URL in one line, as Docker and Kubernetes provide secrets. Only one of the two may be set."""
DEFAULT_STORAGE = "sqlite:///pairsearch.db"
# Bytes, more than any URL needs, so that a device or a wrong file is not read to its end.
LARGEST_FILE = 8192


def environment_storage() -> str:
    """Return the database URL of the environment, by default a SQLite file in the working directory."""
    value, file = os.environ.get(VARIABLE), os.environ.get(FILE_VARIABLE)
    if value and file:
        raise StorageError(f"{VARIABLE} and {FILE_VARIABLE} are both set: expected one of them")
    return read_storage_file(Path(file)) if file else value or DEFAULT_STORAGE


def read_storage_file(path: Path) -> str:
    """Read the database URL from a file, which may end in a newline.

    No message repeats its content, which may be secret.
    """

    def refused(why: str) -> StorageError:
        return StorageError(
            f"{FILE_VARIABLE} names {str(path)!r}, which {why}: expected one line with a database URL"
        )

    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise refused(f"is larger than {LARGEST_FILE} bytes")
        text = content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise refused("is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise refused(f"cannot be read ({reason or error})") from None
    if not text.strip():
        raise refused("is empty")
    if not text.isprintable():
        raise refused("has several lines or control characters")
    return text
