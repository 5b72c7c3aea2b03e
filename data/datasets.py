"""Reads and downloads MNIST and its relatives: data sets of torchvision's with the same shape and ten classes.

A torchvision root holds four IDX files of each, which are verified at each reading. MNIST's are extracted, and verified
by their sizes and MD5s. Those of its relatives are compressed, as the authors publish them, and verified by their
published MD5s. EMNIST is published as one archive: its MD5 is verified on download, and its four files later by the
checksums that gzip keeps in them.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import socket
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from pairsearch.data.errors import CorruptDataError, MissingDataError

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[np.uint8 | np.int32]
# The third byte of an IDX file gives the type of its elements.
TYPES = {8: ">u1", 12: ">i4"}

STALL_SECONDS = 20.0
"""Seconds that a mirror may stay silent before it counts as failed; torchvision itself would wait for ever."""

AGAIN = "delete it to have it downloaded again"
# Exceptions that the readers raise for a damaged archive or file.
FAULTS = (OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class File:
    """One file of a data set.

    Args:
        name: its name in the data set's folder.
        md5: its MD5 in hexadecimal; empty where none is published.
        extracted: whether it is kept extracted, and the MD5 is that of the extracted file. One that was fetched by hand
            may then be there compressed, with `.gz` after its name.
    """

    name: str
    md5: str = ""
    extracted: bool = False

    def path(self, folder: Path) -> Path:
        path = folder / self.name
        packed = path.with_name(f"{self.name}.gz")
        return packed if self.extracted and packed.exists() and not path.exists() else path


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set.

    Args:
        title: its name for people.
        torchvision: the name of torchvision's class, and of the folder under a root.
        files: training images, training labels, test images and test labels.
        upright: whether images are stored row by row; EMNIST stores them column by column.
    """

    title: str
    torchvision: str
    files: tuple[File, ...]
    upright: bool = True

    def folder(self, root: Path) -> Path:
        return root / self.torchvision / "raw"


# torchvision's own table has the MD5s of MNIST's compressed files; these are of the extracted ones.
_MNIST = (
    File("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", extracted=True),
    File("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", extracted=True),
    File("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", extracted=True),
    File("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", extracted=True),
)


def _named_alike(*sums: str) -> tuple[File, ...]:
    """Return files that have MNIST's names and are compressed."""
    return tuple(File(f"{file.name}.gz", md5) for file, md5 in zip(_MNIST, sums, strict=True))


DATASETS: dict[str, Dataset] = {
    "mnist": Dataset("MNIST", "MNIST", _MNIST),
    "fashion-mnist": Dataset("Fashion-MNIST", "FashionMNIST", _named_alike(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
    )),
    "kmnist": Dataset("KMNIST", "KMNIST", _named_alike(
        "bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134",
    )),
    "emnist-digits": Dataset("EMNIST digits", "EMNIST", tuple(
        File(f"emnist-digits-{part}-ubyte.gz")
        for part in ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    ), upright=False),
    "qmnist": Dataset("QMNIST", "QMNIST", (
        File("qmnist-train-images-idx3-ubyte.gz", "ed72d4157d28c017586c42bc6afe6370"),
        File("qmnist-train-labels-idx2-int.gz", "0058f8dd561b90ffdd0f734c6a30e5e4"),
        File("qmnist-test-images-idx3-ubyte.gz", "1394631089c404de565df7b7aeaf9412"),
        File("qmnist-test-labels-idx2-int.gz", "5b5b05890a5e13444e108efe57b788aa"),
    )),
}  # fmt: skip
"""The data sets by their names in `data.sources`; the MD5s of the relatives are torchvision's."""


def read(root: Path, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Verify and read the files of a data set under `root`; each file is read once.

    Returns:
        training images (N, 28, 28) uint8 and labels (N,) int64, then test images and labels.

    Raises:
        MissingDataError: a file is absent.
        CorruptDataError: a file is truncated, unreadable, or has a wrong checksum.
    """
    chosen = DATASETS[name]
    arrays = _arrays(chosen, root)
    # PyTorch is slow to import: it comes after the verification, so that bad files are refused at once.
    import torch  # noqa: PLC0415

    def images(array: Array) -> Tensor:
        return torch.from_numpy(array if chosen.upright else array.transpose(0, 2, 1).copy())

    def labels(array: Array) -> Tensor:
        # QMNIST has several labels for each image; the class is the first.
        return torch.from_numpy((array if array.ndim == 1 else array[:, 0]).astype(np.int64))

    return images(arrays[0]), labels(arrays[1]), images(arrays[2]), labels(arrays[3])


def missing(root: Path, name: str) -> list[str]:
    """Return the names of the data set's files that are absent under `root`; those that are there are not verified."""
    chosen = DATASETS[name]
    try:
        return [file.name for file in chosen.files if not file.path(chosen.folder(root)).exists()]
    except OSError:  # a folder that may not be searched: nothing in it can be used
        return [file.name for file in chosen.files]


def download(root: Path, name: str) -> bool:
    """Download the missing files of a data set into a torchvision root, in one process at a time.

    The data set is fetched into a staging folder, with torchvision's progress bar on standard error. When all of its
    files are verified there, the missing ones are renamed into place, so that a file in place is always whole; files
    that were there stay. A lock in `root` makes other processes wait. A download that fails leaves neither the lock nor
    new folders behind.

    Returns:
        False where another process had downloaded them before the lock was free.

    Raises:
        MissingDataError: no mirror delivered, or `root` cannot be written.
    """
    chosen = DATASETS[name]
    made = [path for path in (root, *root.parents) if not path.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = root / f".{name}.lock"
        with FileLock(lock):
            try:
                absent = missing(root, name)
                if absent:
                    _stage(chosen, root, root / f".{name}-download", absent)
                return bool(absent)
            except BaseException:
                # Remove the lock while it is held: a process that waits for it notices and makes a new one.
                with suppress(OSError):
                    lock.unlink()
                raise
    except (CorruptDataError, MissingDataError, HTTPException, RuntimeError, *FAULTS) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        files = ", ".join(file.name for file in chosen.files)
        raise MissingDataError(
            f"{chosen.title} could not be downloaded to {root} ({reason}); check the network and the folder, or put "
            f"{files} into {chosen.folder(root)}, or use the digits source"
        ) from error
    finally:
        # `rmdir` removes only those that are still empty.
        for path in made:
            with suppress(OSError):
                path.rmdir()


def _stage(chosen: Dataset, root: Path, staging: Path, absent: list[str]) -> None:
    # The caller holds the lock, so what is in the staging folder was left by a process that was killed.
    shutil.rmtree(staging, ignore_errors=True)
    folder, staged = chosen.folder(root), chosen.folder(staging)
    # torchvision gives its sockets no timeout, so the default has to change.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        staged.mkdir(parents=True)
        _fetch(chosen, staging)
        _arrays(chosen, staging)
        folder.mkdir(parents=True, exist_ok=True)
        for name in absent:
            (staged / name).replace(folder / name)
    finally:
        socket.setdefaulttimeout(before)
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(chosen: Dataset, staging: Path) -> None:
    """Let torchvision download a data set into a root without its files, and verify its MD5s."""
    # torchvision takes two seconds and 150 MB to import: only a download needs it.
    import torchvision  # noqa: PLC0415

    dataset = getattr(torchvision.datasets, chosen.torchvision)
    if chosen.torchvision == "QMNIST":
        for what in ("train", "test"):
            dataset(staging, what=what, download=True)
    elif chosen.torchvision == "EMNIST":
        # torchvision would unpack all six splits of the archive, which are two gigabytes.
        folder = chosen.folder(staging)
        torchvision.datasets.utils.download_url(dataset.url, str(folder), "gzip.zip", dataset.md5)
        with zipfile.ZipFile(folder / "gzip.zip") as archive:
            for file in chosen.files:
                (folder / file.name).write_bytes(archive.read(f"gzip/{file.name}"))
    else:
        dataset(staging, download=True)


def _arrays(chosen: Dataset, root: Path) -> list[Array]:
    """Verify and read the four arrays of a data set."""
    return [
        _array(chosen, file, file.path(chosen.folder(root)), (3,) if place % 2 == 0 else (1, 2))
        for place, file in enumerate(chosen.files)
    ]


def _array(chosen: Dataset, file: File, path: Path, dimensions: tuple[int, ...]) -> Array:
    """Read the array in an IDX file, and verify its size, its MD5 and its number of dimensions."""
    try:
        # Unlike `bytes` it can be written to, as PyTorch wants it.
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise MissingDataError(
            f"{path}: not there; it should be one of the four files of {chosen.title}"
        ) from None
    except OSError as error:
        raise CorruptDataError(f"{path}: unreadable ({error.strerror or error})") from error
    published = content
    if path.suffix == ".gz":
        try:
            content = np.frombuffer(bytearray(gzip.decompress(content.data)), np.uint8)
        except (EOFError, OSError, zlib.error) as error:
            raise CorruptDataError(f"{path}: damaged ({error}); {AGAIN}") from error
    md5 = hashlib.md5((content if file.extracted else published).data, usedforsecurity=False).hexdigest()
    if file.md5 and md5 != file.md5:
        raise CorruptDataError(
            f"{path}: wrong checksum, MD5 {md5} of {len(content)} bytes where {chosen.title}'s is {file.md5}; {AGAIN}"
        )
    try:
        # The format: two zero bytes, the type, the number of dimensions, the length of each dimension, the values.
        values = 4 + 4 * int(content[3])
        shape = content[4:values].view(">u4").tolist()
        array: Array = content[values:].view(TYPES[content[2]]).reshape(shape)
    except (IndexError, KeyError, ValueError):
        array = content[:0]
    if array.ndim not in dimensions or not array.size:
        raise CorruptDataError(f"{path}: not a file of {chosen.title}, in the IDX format; {AGAIN}")
    return array
