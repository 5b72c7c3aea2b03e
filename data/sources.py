"""Where images come from: a `Source` of labelled digits, split once into training and test images.

PyTorch and scikit-learn are slow to import: functions import them when they need them, so that bad input is refused at
once.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import platformdirs

from pairsearch.data import datasets
from pairsearch.data.errors import CorruptDataError, DataError, MissingDataError
from pairsearch.data.splits import hold_out

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
Split = Literal["train", "test"]
ROLES = ("train_images", "train_labels", "test_images", "test_labels")

KINDS = ("mnist", "digits", *(name for name in datasets.DATASETS if name != "mnist"))
"""The sources that have names, beside files of arrays."""
ARRAYS = ".npz"
"""Suffix of a file of arrays."""

DIGITS_TEST_IMAGES = 500
DIGITS_SPLIT_SEED = 0
ARRAYS_SPLIT_SEED = 0
ARRAYS_TEST_SHARE = 5
"""One image in so many becomes a test image where a file of arrays has no split of its own."""


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled grey images of the digits 0 to 9, or of ten other classes, in a training and a test split.

    Args:
        name: one of `KINDS`, or the name of a file of arrays; messages show it.
        train_images: (N, 28, 28) or (N, 14, 14) uint8, intensities 0 to 255.
        train_labels: (N,) int64, 0 to 9.
        test_images: (M, h, w) uint8, of the same height and width.
        test_labels: (M,) int64, 0 to 9.
        repeats: whether a sample that needs more images than there are may use an image in several pairs.

    A DataError names a field whose shape, type or value is wrong.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    repeats: bool

    def __post_init__(self) -> None:
        for split in get_args(Split):
            images, labels = self.pool(split)
            _check(images, labels, f"{split}_")
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
                raise DataError(
                    f"{split}_labels: {int(labels.min())} to {int(labels.max())} given; expected 0 to 9"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError("test_images: expected the height and width of train_images")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hexadecimal over the source's name and each tensor's role, type, shape and little-endian bytes.

        For a file of arrays its name is `npz`: where the file lies, and what it is called, does not count.
        """
        digest = hashlib.sha256(f"{'npz' if self.name.endswith(ARRAYS) else self.name}\n".encode())
        for role in ROLES:
            tensor: Tensor = getattr(self, role)
            array = tensor.contiguous().numpy()
            little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{role} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(little_endian.data)
        return digest.hexdigest()

    def pool(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return the images, (N, h, w) uint8, and the labels, (N,) int64, of one split."""
        return getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")


def _check(images: Tensor | Array, labels: Tensor | Array, prefix: str) -> None:
    """Check types and shapes of images and labels, which messages name with a prefix."""
    kind, shape = _form(images)
    if kind != "uint8" or shape[1:] not in {(28, 28), (14, 14)}:
        raise DataError(f"{prefix}images: {kind} {shape} given; expected uint8 (N, 28, 28) or (N, 14, 14)")
    kind, shape = _form(labels)
    if kind != "int64" or shape != (len(images),):
        raise DataError(
            f"{prefix}labels: {kind} {shape} given; expected {len(images)} integers 0 to 9, one for each image"
        )


def _form(values: Tensor | Array) -> tuple[str, tuple[int, ...]]:
    return str(values.dtype).removeprefix("torch."), tuple(values.shape)


def default_root() -> Path:
    """Return the user's folder for downloads, such as `~/.local/share/pairsearch/data` on Linux."""
    folder = platformdirs.user_data_path("pairsearch", appauthor=False)
    if not folder.is_absolute():
        # `~` is not expanded for a user without a home and without an entry in passwd, as in some containers.
        folder = Path(tempfile.gettempdir()) / f"pairsearch-{os.getuid()}"
    return folder / "data"


def resolve(kind: str, root: Path | None = None, *, download: bool = True) -> tuple[Source, str]:
    """Load a source, and say in a line which one it is and why.

    Args:
        kind: `mnist` or one of its relatives (`datasets.DATASETS`), which torchvision downloads; `digits`,
            scikit-learn's bundled 1,797 images; the path of an `.npz` file (`_of_arrays`); or `auto`, which takes MNIST
            where it is present or can be downloaded, otherwise the digits. A corrupt file is an error for `auto` too,
            as falling back to the digits would hide it.
        root: the torchvision root, the folder that holds `MNIST/raw`; None is `default_root()`.
        download: whether missing files may be downloaded into `root`.

    Raises:
        DataError: an unknown kind, or a file without the right arrays.
        MissingDataError: a file is missing and `download` is False, or downloading it failed.
        CorruptDataError: a file is unreadable or has a wrong checksum; it is not replaced.
    """
    if kind.endswith(ARRAYS):
        return _of_arrays(Path(kind)), f"{kind}: asked for"
    if kind not in (*KINDS, "auto"):
        raise DataError(
            f"data: {kind!r} given; expected one of {', '.join(KINDS)}, auto, or a file that ends in {ARRAYS}"
        )
    if kind == "digits":
        return _digits(), "digits: asked for; scikit-learn's bundled images, resized to 14×14"
    name = "mnist" if kind == "auto" else kind
    try:
        if root is not None and not root.absolute().parent.is_dir():
            # A download makes the last folder of the path; a missing one above it is more likely mistyped.
            raise MissingDataError(
                f"data folder {root}: there is no folder {root.absolute().parent}: expected one"
            )
        root = default_root() if root is None else root
        fetched = download and bool(datasets.missing(root, name)) and datasets.download(root, name)
        tensors = datasets.read(root, name)
    except MissingDataError as error:
        if kind != "auto":
            raise
        return _digits(), f"digits: chosen because MNIST is not at hand: {error}"
    chosen = "chosen because it is at hand" if kind == "auto" else "asked for"
    place = f"{'downloaded to' if fetched else 'read from'} {root}"
    return Source(name, *tensors, repeats=False), f"{name}: {chosen}; {place}"


def _of_arrays(path: Path) -> Source:
    """Read an `.npz` file with train_images, train_labels, test_images and test_labels, or with images and labels.

    The latter are split at random by a fixed seed. The fingerprint covers the arrays and not the file's name or place.
    """
    import torch  # noqa: PLC0415

    arrays = {
        name: array.astype(np.int64) if name.endswith("labels") and array.dtype.kind in "iu" else array
        for name, array in _arrays(path).items()
    }
    try:
        if arrays.keys() >= {"images", "labels"} and not arrays.keys() & set(ROLES):
            images, labels = arrays["images"], arrays["labels"]
            _check(images, labels, "")
            if len(images) < 2:
                raise DataError(
                    f"images: {len(images)} given; expected at least 2, for training and for testing"
                )
            train, test = hold_out(len(images), -(-len(images) // ARRAYS_TEST_SHARE), ARRAYS_SPLIT_SEED)
            parts = images[train], labels[train], images[test], labels[test]
            arrays = dict(zip(ROLES, parts, strict=True))
        elif not arrays.keys() >= set(ROLES):
            raise DataError(
                f"it has {', '.join(arrays) or 'no arrays'}; expected {', '.join(ROLES)}, or images and labels"
            )
        # PyTorch does not take every type.
        for split in get_args(Split):
            _check(arrays[f"{split}_images"], arrays[f"{split}_labels"], f"{split}_")
        one, two, three, four = (torch.from_numpy(np.ascontiguousarray(arrays[role])) for role in ROLES)
        return Source(path.name, one, two, three, four, repeats=True)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _arrays(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise MissingDataError(f"{path}: {'it is no file' if path.exists() else 'there is no such file'}")
    try:
        # Pickled objects could run any code.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy raises whatever its parsing runs into
        reason = " ".join(str(error).split())
        raise CorruptDataError(f"{path}: no .npz file of plain arrays ({reason})") from None


def _digits() -> Source:
    """Load scikit-learn's digits at 14×14: 1,297 training and 500 test images, stratified on the digit."""
    import torch  # noqa: PLC0415
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    bunch = load_digits()
    images = torch.from_numpy(resize_digits(bunch.images.astype(np.int64)))
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=DIGITS_TEST_IMAGES,
        random_state=DIGITS_SPLIT_SEED,
        stratify=bunch.target,
    )
    return Source("digits", images[train], labels[train], images[test], labels[test], repeats=True)


def resize_digits(images: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray:
    """Scale intensities from 0 to 16 up to 0 to 255, and resize 8×8 to 14×14, bilinear with pixel centres aligned.

    The weights are whole fourteenths, so the computation is in integers with one rounding (half up): the bytes, and so
    the fingerprint, are the same on every processor. Up to that rounding the result is that of
    `torch.nn.functional.interpolate` with `mode="bilinear", align_corners=False`. Images are (N, 8, 8) int64, and the
    result is (N, 14, 14) uint8.
    """
    small, large = 8, 14
    weights = np.zeros((large, small), dtype=np.int64)
    for row in range(large):
        # The centre of output pixel i lies at (i + 1/2)·8/14 − 1/2 = (8i − 3)/14 input pixels, clamped to the image.
        position = min(max(8 * row - 3, 0), large * (small - 1))
        below, fourteenths = divmod(position, large)
        weights[row, below] += large - fourteenths
        weights[row, min(below + 1, small - 1)] += fourteenths
    scaled = 255 * (weights @ images @ weights.T)
    unit = 16 * large * large
    return ((scaled + unit // 2) // unit).astype(np.uint8)
