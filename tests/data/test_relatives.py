"""MNIST's relatives are verified before they are read, and downloaded whole or not at all."""

from __future__ import annotations

import dataclasses
import gzip
import io
import struct
import zipfile
from pathlib import Path

import mirror
import numpy as np
import pytest
import torch
from mirror import load

from pairsearch.data.datasets import DATASETS
from pairsearch.data.errors import CorruptDataError, MissingDataError
from pairsearch.data.sources import resolve

SETS = [name for name in DATASETS if name != "mnist"]
TRAIN, TEST = 30, 10


def content_of(name: str) -> dict[str, bytes]:
    """The four files of a set, unpacked, with a few random images; QMNIST's labels have eight numbers each."""
    random = np.random.default_rng(0)
    found = {}
    for place, file in enumerate(DATASETS[name].files):
        count = TRAIN if place < 2 else TEST
        if place % 2 == 0:
            images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            found[file.name] = struct.pack(">4I", 0x00000803, count, 28, 28) + images.tobytes()
        elif name == "qmnist":
            labels = random.integers(0, 10, (count, 8), dtype=np.int32)
            found[file.name] = struct.pack(">3I", 0x00000C02, count, 8) + labels.astype(">i4").tobytes()
        else:
            labels = random.integers(0, 10, count, dtype=np.uint8)
            found[file.name] = struct.pack(">2I", 0x00000801, count) + labels.tobytes()
    return found


def expect(patch: pytest.MonkeyPatch, name: str, address: str = "http://127.0.0.1:1/") -> dict[str, bytes]:
    """Make small files count as a data set, for torchvision and for pairsearch; returns what a mirror has to serve."""
    chosen = DATASETS[name]
    packed = {file: gzip.compress(content, mtime=0) for file, content in content_of(name).items()}
    sums = {file: mirror.md5(content) for file, content in packed.items()}
    dataset = f"torchvision.datasets.{chosen.torchvision}"
    if name == "emnist-digits":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as opened:
            for file, content in packed.items():
                # The date of this is 1980 each time: the sum is of the same bytes whenever they are packed.
                opened.writestr(zipfile.ZipInfo(f"gzip/{file}"), content)
        patch.setattr(f"{dataset}.url", f"{address}gzip.zip")
        patch.setattr(f"{dataset}.md5", mirror.md5(archive.getvalue()))
        return {"gzip.zip": archive.getvalue()}
    stated = tuple(dataclasses.replace(file, md5=sums[file.name]) for file in chosen.files)
    patch.setitem(DATASETS, name, dataclasses.replace(chosen, files=stated))
    files = [(file.name, file.md5) for file in stated]
    if name == "qmnist":
        urls = [(f"{address}{file}", md5) for file, md5 in files]
        patch.setattr(f"{dataset}.resources", {"train": urls[:2], "test": urls[2:]})
    else:
        patch.setattr(f"{dataset}.resources", files)
        patch.setattr(f"{dataset}.mirrors", [address])
    return packed


def write(root: Path, name: str) -> Path:
    """Put the files of a data set into a root."""
    folder = DATASETS[name].folder(root)
    folder.mkdir(parents=True)
    for file, content in content_of(name).items():
        (folder / file).write_bytes(gzip.compress(content, mtime=0))
    return folder


def sums_of(name: str) -> list[tuple[str, str]]:
    """The names of a set's files with the MD5s that they are held to."""
    return [(file.name, file.md5) for file in DATASETS[name].files]


def test_the_checksums_are_torchvision_s():
    datasets = mirror.torchvision_datasets()
    for name, dataset in (("fashion-mnist", datasets.FashionMNIST), ("kmnist", datasets.KMNIST)):
        assert sums_of(name) == list(dataset.resources)
    stated = [
        (url.rpartition("/")[2], md5)
        for what in ("train", "test")
        for url, md5 in datasets.QMNIST.resources[what]
    ]
    assert sums_of("qmnist") == stated
    for file, md5 in sums_of("emnist-digits"):
        assert file.startswith("emnist-digits-")
        assert md5 == ""


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_read_as_torchvision_reads_it(tmp_path, monkeypatch, name):
    expect(monkeypatch, name)
    folder = write(tmp_path, name)
    source = load(name, tmp_path, download=False)
    assert source.name == name
    for file, content in content_of(name).items():
        (folder / file.removesuffix(".gz")).write_bytes(content)
    chosen = DATASETS[name]
    more = {"split": "digits"} if name == "emnist-digits" else {}
    for split in ("train", "test"):
        images, labels = source.pool(split)
        theirs = getattr(mirror.torchvision_datasets(), chosen.torchvision)(
            tmp_path, train=split == "train", **more
        )
        pictures = theirs.data if name != "emnist-digits" else theirs.data.transpose(1, 2)
        assert torch.equal(images, pictures)
        assert torch.equal(labels, theirs.targets if theirs.targets.ndim == 1 else theirs.targets[:, 0])


def test_sets_of_the_same_bytes_have_fingerprints_of_their_own(tmp_path, monkeypatch):
    for name in ("fashion-mnist", "kmnist"):
        expect(monkeypatch, name)
        write(tmp_path, name)
    one, two = (load(name, tmp_path, download=False) for name in ("fashion-mnist", "kmnist"))
    assert torch.equal(one.train_images, two.train_images)
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("name", SETS)
def test_a_download_puts_the_four_files_in_place(tmp_path, monkeypatch, name):
    with mirror.mirror(expect(monkeypatch, name)) as (address, asked):
        expect(monkeypatch, name, address)
        source, reason = resolve(name, tmp_path / "new")
        assert reason == f"{name}: asked for; downloaded to {tmp_path / 'new'}"
        count = len(asked)
        again, reason = resolve(name, tmp_path / "new")
        assert len(asked) == count
    assert reason == f"{name}: asked for; read from {tmp_path / 'new'}"
    assert again.fingerprint == source.fingerprint
    assert (len(source.train_images), len(source.test_images)) == (TRAIN, TEST)
    chosen = DATASETS[name]
    left = sorted(
        path.name for path in (tmp_path / "new").rglob("*") if path.is_file() and path.suffix != ".lock"
    )
    assert left == sorted(file.name for file in chosen.files)


@pytest.mark.usefixtures("open_sockets_forgiven")
@pytest.mark.parametrize(
    ("harm", "name"),
    [
        ("nothing there", "fashion-mnist"),
        ("nothing there", "qmnist"),
        ("other content", "kmnist"),
        ("other content", "emnist-digits"),
    ],
)
def test_a_failed_download_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, name, harm):
    served = expect(monkeypatch, name)
    wrong = {} if harm == "nothing there" else {file: gzip.compress(b"something else") for file in served}
    with mirror.mirror(wrong) as (address, _):
        expect(monkeypatch, name, address)
        with pytest.raises(MissingDataError) as caught:
            load(name, tmp_path)
    title = DATASETS[name].title
    assert str(caught.value).startswith(f"{title} could not be downloaded to {tmp_path} (")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SETS)
def test_a_file_that_is_missing_or_damaged_is_named(tmp_path, monkeypatch, name):
    expect(monkeypatch, name)
    folder = write(tmp_path, name)
    path = folder / DATASETS[name].files[0].name
    whole = path.read_bytes()
    for harmed in (
        whole[:-1],
        b"",
        b"<html>",
        gzip.compress(b"other"),
        gzip.compress(b"\0\0\x08\x03\0\0\0\1"),
    ):
        path.write_bytes(harmed)
        with pytest.raises(CorruptDataError) as caught:
            load(name, tmp_path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(MissingDataError) as missing:
        load(name, tmp_path, download=False)
    assert str(missing.value).startswith(f"{path}: not there")
