"""MNIST's relatives on disk: sets of torchvision's that have its shape and ten classes.

Of each, a torchvision root holds four compressed files as their authors publish them. Those of Fashion-MNIST, KMNIST
and QMNIST have known MD5s. EMNIST comes as one archive, which has one; of its four files the checksums that gzip keeps
are held against their content.
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

AGAIN = "delete it to have it downloaded again"
Array = npt.NDArray[np.uint8 | np.int32]
# Element types of the IDX format, by the third byte of a file.
TYPES = {8: ">u1", 12: ">i4"}


@dataclass(frozen=True, slots=True)
class Relative:
    """One set: its name for people, torchvision's class, which names the folder, and its files.

    The files are training images and labels, then test images and labels: name and MD5, empty where none is published.
    """

    title: str
    dataset: str
    files: tuple[tuple[str, str], tuple[str, str], tuple[str, str], tuple[str, str]]
    upright: bool = True
    """Whether images are stored row by row; EMNIST's are by column."""

    def folder(self, root: Path) -> Path:
        """Where its files are under a torchvision root."""
        return root / self.dataset / "raw"


def _files(
    name: str, *sums: str
) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str], tuple[str, str]]:
    one, two, three, four = sums
    return (
        (f"{name}train-images-idx3-ubyte.gz", one),
        (f"{name}train-labels-idx1-ubyte.gz", two),
        (f"{name}t10k-images-idx3-ubyte.gz", three),
        (f"{name}t10k-labels-idx1-ubyte.gz", four),
    )


RELATIVES: dict[str, Relative] = {
    "fashion-mnist": Relative(
        "Fashion-MNIST",
        "FashionMNIST",
        _files(
            "",
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
            "",
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ),
    "emnist-digits": Relative(
        "EMNIST digits",
        "EMNIST",
        (
            ("emnist-digits-train-images-idx3-ubyte.gz", ""),
            ("emnist-digits-train-labels-idx1-ubyte.gz", ""),
            ("emnist-digits-test-images-idx3-ubyte.gz", ""),
            ("emnist-digits-test-labels-idx1-ubyte.gz", ""),
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
"""The sets by the names that `data.sources` gives them; the MD5s are torchvision's."""


def read(root: Path, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Verify and read the files of a set under `root`; the bytes that are used are those that were verified.

    Returns:
        training images (N, 28, 28) uint8 and labels (N,) int64, then those for testing.

    Raises:
        MissingDataError: a file is not there.
        CorruptDataError: a file is truncated, unreadable, or has a wrong checksum.
    """
    chosen = RELATIVES[name]
    arrays = _arrays(chosen, root)
    # After the verification: files that are refused need not wait for PyTorch.
    import torch  # noqa: PLC0415

    def images(array: Array) -> Tensor:
        # Copied, as PyTorch takes no array that may not be written to.
        return torch.from_numpy((array if chosen.upright else array.transpose(0, 2, 1)).copy())

    def labels(array: Array) -> Tensor:
        # QMNIST says more of each image than its class, which comes first.
        return torch.from_numpy((array if array.ndim == 1 else array[:, 0]).astype(np.int64))

    train_images, train_labels, test_images, test_labels = arrays
    return images(train_images), labels(train_labels), images(test_images), labels(test_labels)


def missing(root: Path, name: str) -> list[str]:
    """Names of the files of a set that are not under `root`, whatever the state of the others."""
    chosen = RELATIVES[name]
    try:
        return [file for file, _ in chosen.files if not (chosen.folder(root) / file).exists()]
    except OSError:  # a folder that may not be searched: nothing in it can be used
        return [file for file, _ in chosen.files]


def download(root: Path, name: str) -> bool:
    """Fetch what is missing of a set into `root`, as `mnist.download` does it; what it returns and raises."""
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
    """Let torchvision fetch a set into an empty root, held to its MD5s."""
    # It takes two seconds and 150 MB: for a download alone.
    import torchvision  # noqa: PLC0415

    dataset = getattr(torchvision.datasets, chosen.dataset)
    if chosen.dataset == "QMNIST":
        for what in ("train", "test"):
            dataset(staging, what=what, download=True)
    elif chosen.dataset == "EMNIST":
        # torchvision would unpack all six splits of the archive, which take two gigabytes.
        folder = chosen.folder(staging)
        torchvision.datasets.utils.download_url(dataset.url, str(folder), "gzip.zip", dataset.md5)
        with zipfile.ZipFile(folder / "gzip.zip") as archive:
            for file, _ in chosen.files:
                (folder / file).write_bytes(archive.read(f"gzip/{file}"))
    else:
        dataset(staging, download=True)


def _arrays(chosen: Relative, root: Path) -> list[Array]:
    """The four arrays of a set, verified."""
    folder = chosen.folder(root)
    return [
        _array(chosen, folder / file, md5, (3,) if place % 2 == 0 else (1, 2))
        for place, (file, md5) in enumerate(chosen.files)
    ]


def _array(chosen: Relative, path: Path, md5: str, dimensions: tuple[int, ...]) -> Array:
    """The array in a compressed file of the IDX format, of the MD5 and of a number of dimensions that it must have."""
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
            f"{path}: wrong checksum, MD5 {found} where that of {chosen.title} is {md5}; {AGAIN}"
        )
    try:
        content = gzip.decompress(packed)
    except (EOFError, OSError, zlib.error) as error:
        raise CorruptDataError(f"{path}: damaged ({error}); {AGAIN}") from error
    try:
        # Two zero bytes, the type, the number of dimensions; the length of each; the values.
        values = 4 + 4 * content[3]
        shape = np.frombuffer(content, ">u4", content[3], 4).tolist()
        array: Array = np.frombuffer(content, TYPES[content[2]], math.prod(shape), values).reshape(shape)
    except (IndexError, KeyError, ValueError):
        array, values = np.empty(0, np.uint8), 0
    if array.ndim not in dimensions or len(content) != values + array.nbytes:
        raise CorruptDataError(f"{path}: not a file of {chosen.title}, in the IDX format; {AGAIN}")
    return array
