"""MNIST on disk: the four raw files of a torchvision root, verified before reading, downloaded if absent."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from pairsearch.data.errors import CorruptDataError, DownloadError, MissingDataError

if TYPE_CHECKING:
    from torch import Tensor

Bytes = npt.NDArray[np.uint8]

STALL_SECONDS = 20.0
"""How long a mirror may stay silent before it counts as failed (torchvision itself would wait for ever)."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """What one extracted file must be: its size in bytes and its MD5 in hexadecimal."""

    size: int
    md5: str


# The MD5 of the extracted files; torchvision's own table has those of the compressed ones.
RAW_FILES: dict[str, RawFile] = {
    "train-images-idx3-ubyte": RawFile(47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": RawFile(60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": RawFile(7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": RawFile(10_008, "27ae3e4e09519cfbb04c329615203637"),
}

# What a damaged archive or file makes the readers raise.
FAULTS = (OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile)

# What precedes the bytes of images and of labels: a magic number and the shape, four bytes each.
IMAGES_HEADER, LABELS_HEADER = 16, 8
SIDE = 28


def read(root: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Verify and read the MNIST files under `root`.

    The bytes that are used are the ones that were verified: each file is read once.

    Args:
        root: a torchvision root, the folder that holds `MNIST/raw`.

    Returns:
        training images (60000, 28, 28) uint8 and labels (60000,) int64, then 10,000 of each for testing.

    Raises:
        MissingDataError: a file is not there.
        CorruptDataError: a file is truncated, unreadable, or has a wrong checksum.
    """
    train_images, train_labels, test_images, test_labels = (_content(root, name) for name in RAW_FILES)
    # After the verification: files that are refused need not wait for PyTorch.
    import torch  # noqa: PLC0415

    def images(content: Bytes) -> Tensor:
        return torch.from_numpy(content[IMAGES_HEADER:].reshape(-1, SIDE, SIDE))

    def labels(content: Bytes) -> Tensor:
        return torch.from_numpy(content[LABELS_HEADER:].astype(np.int64))

    return images(train_images), labels(train_labels), images(test_images), labels(test_labels)


def verify(root: Path) -> None:
    """Hold the four raw files under `root` against their sizes and MD5; errors as for `read`."""
    for name in RAW_FILES:
        _content(root, name)


def _content(root: Path, name: str) -> Bytes:
    """The bytes of a raw file, of the size and the MD5 that they must have."""
    path, expected = _raw_folder(root) / name, RAW_FILES[name]
    content = np.empty(expected.size, np.uint8)
    try:
        # What was fetched by hand is compressed; it is unpacked into memory, as the folder may be read-only.
        packed = path.with_name(f"{name}.gz")
        path = packed if packed.exists() and not path.exists() else path
        with gzip.open(path) if path == packed else path.open("rb") as file:
            size = file.readinto(content.data) + len(file.read(1))
            if path != packed:
                size = path.stat().st_size
    except (EOFError, zlib.error) as error:
        raise CorruptDataError(f"{path}: damaged ({error}); delete it to have it downloaded again") from error
    except FileNotFoundError:
        raise MissingDataError(f"{path}: not there; it should be one of MNIST's four raw files") from None
    except OSError as error:
        raise CorruptDataError(f"{path}: unreadable ({error.strerror or error})") from error
    again = "delete it to have it downloaded again"
    if size != expected.size:
        fault = "truncated" if size < expected.size else "too long"
        raise CorruptDataError(f"{path}: {fault}, {size} of {expected.size} bytes; {again}")
    md5 = hashlib.md5(content.data, usedforsecurity=False).hexdigest()
    if md5 != expected.md5:
        raise CorruptDataError(f"{path}: wrong checksum, MD5 {md5} where MNIST's is {expected.md5}; {again}")
    return content


def missing(root: Path) -> list[str]:
    """Names of the raw files that are not under `root`, compressed or not, whatever the state of the others."""
    folder = _raw_folder(root)
    try:
        return [
            name for name in RAW_FILES if not any((folder / f"{name}{end}").exists() for end in ("", ".gz"))
        ]
    except OSError:  # a folder that may not be searched: nothing in it can be used
        return list(RAW_FILES)


def download(root: Path) -> bool:
    """Fetch what is missing of MNIST into `root`, with torchvision's progress bar on standard error (`fetch_once`).

    Returns:
        whether this call downloaded.

    Raises:
        DownloadError: no mirror delivered, or `root` cannot be written.
    """

    def fetch(staging: Path) -> None:
        # It brings detection models and a compiler with it, two seconds and 150 MB: for a download alone.
        import torchvision  # noqa: PLC0415

        torchvision.datasets.MNIST(staging, download=True)
        verify(staging)

    return fetch_once(
        root,
        title="MNIST",
        name="mnist",
        folder=_raw_folder,
        missing=lambda: missing(root),
        fetch=fetch,
        instead=f"put the four raw files into {_raw_folder(root)}",
    )


def fetch_once(
    root: Path,
    *,
    title: str,
    name: str,
    folder: Callable[[Path], Path],
    missing: Callable[[], list[str]],
    fetch: Callable[[Path], None],
    instead: str,
) -> bool:
    """Put what is missing of a data set into a torchvision root.

    It is fetched into a staging folder beside the set's own; only when all files pass their verification there are they
    renamed into place, so a file in place is always whole. Files that were there already stay. By a lock in `root`, one
    process downloads while the others wait for it. A download that fails leaves nothing behind, neither the lock nor
    folders made for it.

    Args:
        root: the torchvision root.
        title, name: of the set, for people and for the files' names.
        folder: where its files are under a root.
        missing: names of the files that are not there.
        fetch: fetches the set into an empty root and verifies it.
        instead: what to do where nothing can be downloaded.

    Returns:
        whether this call downloaded: False where nothing was missing once the lock was held.

    Raises:
        DownloadError: no mirror delivered, or `root` cannot be written.
    """
    made = [path for path in (root, *root.parents) if not path.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = root / f".{name}.lock"
        with FileLock(lock):
            try:
                absent = missing()
                if absent:
                    _stage(root, root / f".{name}-download", absent, folder, fetch)
                return bool(absent)
            except BaseException:
                # While it is held: who waits for it sees that the file is gone, and makes a new one.
                with suppress(OSError):
                    lock.unlink()
                raise
    except (CorruptDataError, MissingDataError, HTTPException, RuntimeError, *FAULTS) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(
            f"{title} could not be downloaded to {root} ({reason}); check the network and the folder, or {instead}, "
            "or use the digits source"
        ) from error
    finally:
        # What is empty was made in vain; `rmdir` leaves the others alone.
        for path in made:
            with suppress(OSError):
                path.rmdir()


def _stage(
    root: Path,
    staging: Path,
    absent: list[str],
    folder: Callable[[Path], Path],
    fetch: Callable[[Path], None],
) -> None:
    # Whoever holds the lock may clear it: what is here was left by a process that was killed.
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with _stall_timeout(STALL_SECONDS):
            fetch(staging)
        folder(root).mkdir(parents=True, exist_ok=True)
        for name in absent:
            (folder(staging) / name).replace(folder(root) / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _stall_timeout(seconds: float) -> Iterator[None]:
    """Give sockets opened inside a timeout: torchvision passes none on, so the default is the only handle."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _raw_folder(root: Path) -> Path:
    return root / "MNIST" / "raw"
