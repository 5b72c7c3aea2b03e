"""Reads and downloads MNIST's relatives: data sets of torchvision's with the same shape and ten classes.

A torchvision root holds four compressed files of each, as the authors publish them. The files of Fashion-MNIST, KMNIST
and QMNIST are verified by their published MD5s. EMNIST is published as one archive: its MD5 is verified on download,
and its four files later by the checksums that gzip keeps in them.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pairsearch.data import mnist
from pairsearch.data.errors import CorruptDataError, MissingDataError

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[np.uint8 | np.int32]
# The third byte of an IDX file gives the type of its elements.
TYPES = {8: ">u1", 12: ">i4"}


@dataclass(frozen=True, slots=True)
class Relative:
    """One data set.

    Args:
        title: its name for people.
        dataset: the name of torchvision's class, and of the folder under a root.
        files: names and MD5s of training images, training labels, test images and test labels; the MD5 is empty where
            none is published.
    """

    title: str
    dataset: str
    files: tuple[tuple[str, str], ...]
    upright: bool = True
    """Whether images are stored row by row; EMNIST stores them column by column."""

    def folder(self, root: Path) -> Path:
        """Return the folder of the files under a torchvision root."""
        return root / self.dataset / "raw"


def _files(*sums: str) -> tuple[tuple[str, str], ...]:
    """Return MNIST's own names, compressed, with the MD5s of a relative's files."""
    return tuple((f"{name}.gz", md5) for name, md5 in zip(mnist.RAW_FILES, sums, strict=True))


RELATIVES: dict[str, Relative] = {
    "fashion-mnist": Relative(
        "Fashion-MNIST",
        "FashionMNIST",
        _files(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "kmnist": Relative(
        "KMNIST",
        "KMNIST",
        _files(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ),
    "emnist-digits": Relative(
        "EMNIST digits",
        "EMNIST",
        tuple(
            (f"emnist-digits-{part}-ubyte.gz", "")
            for part in ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
        ),
        upright=False,
    ),
    "qmnist": Relative(
        "QMNIST",
        "QMNIST",
        (
            ("qmnist-train-images-idx3-ubyte.gz", "ed72d4157d28c017586c42bc6afe6370"),
            ("qmnist-train-labels-idx2-int.gz", "0058f8dd561b90ffdd0f734c6a30e5e4"),
            ("qmnist-test-images-idx3-ubyte.gz", "1394631089c404de565df7b7aeaf9412"),
            ("qmnist-test-labels-idx2-int.gz", "5b5b05890a5e13444e108efe57b788aa"),
        ),
    ),
}
"""The data sets by their names in `data.sources`; the MD5s are torchvision's."""


def read(root: Path, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Verify and read the files of a data set under `root`; each file is read once.

    Returns:
        training images (N, 28, 28) uint8 and labels (N,) int64, then test images and labels.

    Raises:
        MissingDataError: a file is absent.
        CorruptDataError: a file is truncated, unreadable, or has a wrong checksum.
    """
    chosen = RELATIVES[name]
    arrays = _arrays(chosen, root)
    # PyTorch is slow to import: it comes after the verification, so that bad files are refused at once.
    import torch  # noqa: PLC0415

    def images(array: Array) -> Tensor:
        # The array is read-only, which PyTorch does not take: copy it.
        return torch.from_numpy((array if chosen.upright else array.transpose(0, 2, 1)).copy())

    def labels(array: Array) -> Tensor:
        # QMNIST has several labels for each image; the class is the first.
        return torch.from_numpy((array if array.ndim == 1 else array[:, 0]).astype(np.int64))

    train_images, train_labels, test_images, test_labels = arrays
    return images(train_images), labels(train_labels), images(test_images), labels(test_labels)


def missing(root: Path, name: str) -> list[str]:
    """Return the names of the data set's files that are absent under `root`; those that are there are not verified."""
    chosen = RELATIVES[name]
    try:
        return [file for file, _ in chosen.files if not (chosen.folder(root) / file).exists()]
    except OSError:  # a folder that may not be searched: nothing in it can be used
        return [file for file, _ in chosen.files]


def download(root: Path, name: str) -> bool:
    """Download the missing files of a data set into `root`; returns and raises as `mnist.download`."""
    chosen = RELATIVES[name]

    def fetch(staging: Path) -> None:
        folder = chosen.folder(staging)
        folder.mkdir(parents=True)
        _fetch(chosen, staging)
        _arrays(chosen, staging)

    return mnist.fetch_once(
        root,
        title=chosen.title,
        name=name,
        folder=chosen.folder,
        missing=lambda: missing(root, name),
        fetch=fetch,
        instead=f"put {', '.join(file for file, _ in chosen.files)} into {chosen.folder(root)}",
    )


def _fetch(chosen: Relative, staging: Path) -> None:
    """Let torchvision download a data set into an empty root and verify its MD5s."""
    # torchvision takes two seconds and 150 MB to import: only a download needs it.
    import torchvision  # noqa: PLC0415

    dataset = getattr(torchvision.datasets, chosen.dataset)
    if chosen.dataset == "QMNIST":
        for what in ("train", "test"):
            dataset(staging, what=what, download=True)
    elif chosen.dataset == "EMNIST":
        # torchvision would unpack all six splits of the archive, which are two gigabytes.
        folder = chosen.folder(staging)
        torchvision.datasets.utils.download_url(dataset.url, str(folder), "gzip.zip", dataset.md5)
        with zipfile.ZipFile(folder / "gzip.zip") as archive:
            for file, _ in chosen.files:
                (folder / file).write_bytes(archive.read(f"gzip/{file}"))
    else:
        dataset(staging, download=True)


def _arrays(chosen: Relative, root: Path) -> list[Array]:
    """Verify and read the four arrays of a data set."""
    folder = chosen.folder(root)
    return [
        _array(chosen, folder / file, md5, (3,) if place % 2 == 0 else (1, 2))
        for place, (file, md5) in enumerate(chosen.files)
    ]


def _array(chosen: Relative, path: Path, md5: str, dimensions: tuple[int, ...]) -> Array:
    """Read the array in a compressed IDX file, and verify its MD5 and its number of dimensions."""
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        raise MissingDataError(
            f"{path}: not there; it should be one of the four files of {chosen.title}"
        ) from None
    except OSError as error:
        raise CorruptDataError(f"{path}: unreadable ({error.strerror or error})") from error
    found = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    if md5 and found != md5:
        raise CorruptDataError(
            f"{path}: wrong checksum, MD5 {found} where that of {chosen.title} is {md5}; {mnist.AGAIN}"
        )
    try:
        content = gzip.decompress(packed)
    except (EOFError, OSError, zlib.error) as error:
        raise CorruptDataError(f"{path}: damaged ({error}); {mnist.AGAIN}") from error
    try:
        # The format: two zero bytes, the type, the number of dimensions, the length of each dimension, the values.
        values = 4 + 4 * content[3]
        shape = np.frombuffer(content, ">u4", content[3], 4).tolist()
        array: Array = np.frombuffer(content, TYPES[content[2]], math.prod(shape), values).reshape(shape)
    except (IndexError, KeyError, ValueError):
        array, values = np.empty(0, np.uint8), 0
    if array.ndim not in dimensions or len(content) != values + array.nbytes:
        raise CorruptDataError(f"{path}: not a file of {chosen.title}, in the IDX format; {mnist.AGAIN}")
    return array
