"""Reads and downloads MNIST: the four raw files of a torchvision root, which are verified at each reading."""

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
"""Seconds that a mirror may stay silent before it counts as failed; torchvision itself would wait for ever."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """The size in bytes and the MD5 in hexadecimal that an extracted file must have."""

    size: int
    md5: str


# torchvision's own table has the MD5s of the compressed files; these are of the extracted ones.
RAW_FILES: dict[str, RawFile] = {
    "train-images-idx3-ubyte": RawFile(47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": RawFile(60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": RawFile(7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": RawFile(10_008, "27ae3e4e09519cfbb04c329615203637"),
}

AGAIN = "delete it to have it downloaded again"
# Exceptions that the readers raise for a damaged archive or file.
FAULTS = (OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile)

# Bytes before the images and before the labels: a magic number and the shape, four bytes for each number.
IMAGES_HEADER, LABELS_HEADER = 16, 8
SIDE = 28


def read(root: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Verify and read the MNIST files under `root`; each file is read once.

    Args:
        root: a torchvision root, the folder that holds `MNIST/raw`.

    Returns:
        training images (60000, 28, 28) uint8 and labels (60000,) int64, then 10,000 test images and labels.

    Raises:
        MissingDataError: a file is absent.
        CorruptDataError: a file is truncated, unreadable, or has a wrong checksum.
    """
    train_images, train_labels, test_images, test_labels = (_content(root, name) for name in RAW_FILES)
    # PyTorch is slow to import: it comes after the verification, so that bad files are refused at once.
    import torch  # noqa: PLC0415

    def images(content: Bytes) -> Tensor:
        return torch.from_numpy(content[IMAGES_HEADER:].reshape(-1, SIDE, SIDE))

    def labels(content: Bytes) -> Tensor:
        return torch.from_numpy(content[LABELS_HEADER:].astype(np.int64))

    return images(train_images), labels(train_labels), images(test_images), labels(test_labels)


def verify(root: Path) -> None:
    """Verify the sizes and MD5s of the four raw files under `root`; raises as `read`."""
    for name in RAW_FILES:
        _content(root, name)


def _content(root: Path, name: str) -> Bytes:
    """Read a raw file and verify its size and its MD5."""
    path, expected = _raw_folder(root) / name, RAW_FILES[name]
    content = np.empty(expected.size, np.uint8)
    try:
        # A file that was fetched by hand is compressed. It is unpacked into memory, as the folder may be read-only.
        packed = path.with_name(f"{name}.gz")
        path = packed if packed.exists() and not path.exists() else path
        with gzip.open(path) if path == packed else path.open("rb") as file:
            size = file.readinto(content.data) + len(file.read(1))
            if path != packed:
                size = path.stat().st_size
    except (EOFError, zlib.error) as error:
        raise CorruptDataError(f"{path}: damaged ({error}); {AGAIN}") from error
    except FileNotFoundError:
        raise MissingDataError(f"{path}: not there; it should be one of MNIST's four raw files") from None
    except OSError as error:
        raise CorruptDataError(f"{path}: unreadable ({error.strerror or error})") from error
    if size != expected.size:
        fault = "truncated" if size < expected.size else "too long"
        raise CorruptDataError(f"{path}: {fault}, {size} of {expected.size} bytes; {AGAIN}")
    md5 = hashlib.md5(content.data, usedforsecurity=False).hexdigest()
    if md5 != expected.md5:
        raise CorruptDataError(f"{path}: wrong checksum, MD5 {md5} where MNIST's is {expected.md5}; {AGAIN}")
    return content


def missing(root: Path) -> list[str]:
    """Return the names of the raw files that `root` has neither extracted nor compressed; no file is verified."""
    folder = _raw_folder(root)
    try:
        return [
            name for name in RAW_FILES if not any((folder / f"{name}{end}").exists() for end in ("", ".gz"))
        ]
    except OSError:  # a folder that may not be searched: nothing in it can be used
        return list(RAW_FILES)


def download(root: Path) -> bool:
    """Download the missing files of MNIST into `root`, with torchvision's progress bar on standard error.

    Returns:
        whether this call downloaded, as `fetch_once` returns it.

    Raises:
        DownloadError: no mirror delivered, or `root` cannot be written.
    """

    def fetch(staging: Path) -> None:
        # torchvision takes two seconds and 150 MB to import: only a download needs it.
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
    """Download the missing files of a data set into a torchvision root, in one process at a time.

    The data set is fetched into a staging folder. When all of its files are verified there, the missing ones are
    renamed into place, so that a file in place is always whole; files that were there stay. A lock in `root` makes
    other processes wait. A download that fails leaves neither the lock nor new folders behind.

    Args:
        root: the torchvision root.
        title: the data set's name for people.
        name: its name in the names of the lock and the staging folder.
        folder: returns the folder of its files under a root.
        missing: returns the names of the files that are absent.
        fetch: downloads the data set into an empty root and verifies it.
        instead: what the user can do without a download, for the message.

    Returns:
        whether this call downloaded: False where another process had done so before the lock was free.

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
                # Remove the lock while it is held: a process that waits for it notices and makes a new one.
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
        # `rmdir` removes only those that are still empty.
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
    # The caller holds the lock, so what is in the staging folder was left by a process that was killed.
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
    """Give sockets that are opened in the block a timeout: torchvision sets none, so the default has to change."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _raw_folder(root: Path) -> Path:
    return root / "MNIST" / "raw"
