"""Images that a user brings as an `.npz` file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mirror import load

from pairsearch.data.errors import CorruptDataError, DataError, MissingDataError
from pairsearch.data.sources import resolve

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (50, 14, 14), dtype=np.uint8)
LABELS = RANDOM.integers(0, 10, 50)
SPLIT = {
    "train_images": IMAGES[:40],
    "train_labels": LABELS[:40],
    "test_images": IMAGES[40:],
    "test_labels": LABELS[40:],
}


@pytest.mark.parametrize("kind", ["int64", "uint8", "int32"])
def test_a_split_file_is_taken_as_it_is(tmp_path, kind):
    path = tmp_path / "mine.npz"
    np.savez(
        path, **{name: array if array.ndim == 3 else array.astype(kind) for name, array in SPLIT.items()}
    )
    source, reason = resolve(str(path))
    assert (source.name, reason) == ("mine.npz", f"{path}: asked for")
    assert torch.equal(source.train_images, torch.from_numpy(IMAGES[:40]))
    assert torch.equal(source.train_labels, torch.from_numpy(LABELS[:40]))
    assert torch.equal(source.test_images, torch.from_numpy(IMAGES[40:]))
    assert torch.equal(source.test_labels, torch.from_numpy(LABELS[40:]))


def test_images_that_are_not_split_are_split_once(tmp_path):
    np.savez(tmp_path / "one.npz", images=IMAGES, labels=LABELS)
    np.savez_compressed(tmp_path / "two.npz", labels=LABELS, images=IMAGES)
    one, two = (load(str(tmp_path / name)) for name in ("one.npz", "two.npz"))
    assert (len(one.train_images), len(one.test_images)) == (40, 10)
    every = torch.cat([one.train_images, one.test_images]).flatten(1)
    assert sorted(map(bytes, every.numpy())) == sorted(map(bytes, IMAGES.reshape(50, -1)))
    # The fingerprint covers the arrays alone, not the file's name or its compression.
    assert one.fingerprint == two.fingerprint
    assert torch.equal(one.test_images, two.test_images)
    changed = IMAGES.copy()
    changed[0, 0, 0] ^= 1
    np.savez(tmp_path / "two.npz", images=changed, labels=LABELS)
    assert load(str(tmp_path / "two.npz")).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({}, "it has no arrays; expected train_images, "),
        ({"images": IMAGES}, "it has images; expected train_images, "),
        (SPLIT | {"images": IMAGES[:0], "test_labels": None}, "no .npz file of plain arrays"),
        ({"images": IMAGES / 255, "labels": LABELS}, r"images: float64 \(50, 14, 14\) given; expected uint8"),
        ({"images": IMAGES[:, :13], "labels": LABELS}, r"images: uint8 \(50, 13, 14\) given; expected uint8"),
        (
            {"images": IMAGES, "labels": LABELS / 1},
            r"labels: float64 \(50,\) given; expected 50 integers 0 to 9",
        ),
        (
            {"images": IMAGES, "labels": LABELS[1:]},
            r"labels: int64 \(49,\) given; expected 50 integers 0 to 9",
        ),
        ({"images": IMAGES, "labels": LABELS + 1}, r"labels: 1 to 10 given; expected 0 to 9"),
        ({"images": IMAGES[:1], "labels": LABELS[:1]}, "images: 1 given; expected at least 2"),
        (
            SPLIT | {"test_images": np.zeros((10, 28, 28), np.uint8)},
            "test_images: expected the height and width",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, arrays, fault):
    path = tmp_path / "mine.npz"
    np.savez(path, **{name: np.array(array) for name, array in arrays.items()})
    with pytest.raises(DataError, match=fault) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half an archive"])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(CorruptDataError, match=r"no \.npz file of plain arrays"):
        load(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=f"{tmp_path / 'mine.npz'}: there is no such file"):
        load(str(tmp_path / "mine.npz"))
