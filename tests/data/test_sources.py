"""Sources hold the right images and fingerprints, and `resolve` chooses the right one."""

from __future__ import annotations

import dataclasses
import hashlib

import mirror
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror import load
from sklearn.datasets import load_digits

from pairsearch.data.errors import CorruptDataError, DataError, MissingDataError
from pairsearch.data.sources import Source, default_root, resize_digits, resolve


def tensors(source: Source) -> tuple[torch.Tensor, ...]:
    return source.train_images, source.train_labels, source.test_images, source.test_labels


def test_mnist_is_what_torchvision_reads(mnist_source, mnist_root):
    assert mnist_source.name == "mnist"
    assert not mnist_source.repeats
    for split, count in (("train", 60_000), ("test", 10_000)):
        images, labels = mnist_source.pool(split)
        original = mirror.torchvision_datasets().MNIST(mnist_root, train=split == "train", download=False)
        assert images.shape == (count, 28, 28)
        assert torch.equal(images, original.data)
        assert torch.equal(labels, original.targets)


def test_digits_are_split_once_and_stratified(digits_source):
    assert digits_source.name == "digits"
    assert digits_source.repeats
    assert digits_source.train_images.shape == (1_297, 14, 14)
    assert digits_source.test_images.shape == (500, 14, 14)
    shares = [
        torch.bincount(labels) / len(labels) for _, labels in map(digits_source.pool, ("train", "test"))
    ]
    assert torch.allclose(*shares, atol=0.002)
    every = torch.cat([digits_source.train_images, digits_source.test_images]).flatten(1)
    whole = resize_digits(load_digits().images.astype(np.int64)).reshape(1_797, -1)
    assert sorted(map(bytes, every.numpy())) == sorted(map(bytes, whole))


def test_digits_are_the_same_on_every_machine(digits_source):
    # The digits are made by integer arithmetic and a seeded split. If this changes, no study of the digits can go on.
    assert digits_source.fingerprint == "c94bdff5e96389046d5176d1b4b68c1cb9f47eab0751fa2f46de0102070fef22"


def test_resizing_agrees_with_pytorch_s_bilinear_up_to_rounding():
    images = load_digits().images
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images).unsqueeze(1) * 255 / 16, size=(14, 14), mode="bilinear", align_corners=False
    ).squeeze(1)
    ours = torch.from_numpy(resize_digits(images.astype(np.int64)))
    assert (ours.double() - expected).abs().max() <= 0.5 + 1e-9
    assert ours.max() == 255


def test_a_fingerprint_is_a_sha256_that_reading_again_repeats(mnist_source, mnist_root, digits_source):
    assert len(bytes.fromhex(digits_source.fingerprint)) == hashlib.sha256().digest_size
    assert load("mnist", mnist_root, download=False).fingerprint == mnist_source.fingerprint
    assert load("digits").fingerprint == digits_source.fingerprint
    assert mnist_source.fingerprint != digits_source.fingerprint


@settings(deadline=None, max_examples=25)
@given(data=st.data(), field=st.sampled_from(range(4)))
def test_one_pixel_or_label_changes_the_fingerprint(digits_source, data, field):
    changed = [tensor.clone() for tensor in tensors(digits_source)]
    flat = changed[field].view(-1)
    position = data.draw(st.integers(0, len(flat) - 1), label="position")
    flat[position] = (flat[position] + 1) % 10
    assert Source("digits", *changed, repeats=True).fingerprint != digits_source.fingerprint


def test_name_and_shape_are_part_of_the_fingerprint(digits_source):
    images, labels, *_ = tensors(digits_source)
    large = images[: len(images) // 4 * 4].reshape(-1, 28, 28)
    known = {
        digits_source.fingerprint,
        dataclasses.replace(digits_source, name="other").fingerprint,
        Source("digits", images, labels, images[:4], labels[:4], repeats=True).fingerprint,
        Source("digits", large, labels[: len(large)], large[:1], labels[:1], repeats=True).fingerprint,
    }
    assert len(known) == 4


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("train_images", lambda source: source.train_images.float()),
        ("train_images", lambda source: source.train_images[:, :13]),
        ("test_images", lambda source: torch.zeros(500, 28, 28, dtype=torch.uint8)),
        ("train_labels", lambda source: source.train_labels[1:]),
        ("train_labels", lambda source: source.train_labels.int()),
        ("test_labels", lambda source: source.test_labels + 1),
    ],
)
def test_a_malformed_source_is_refused_with_the_field_named(digits_source, field, change):
    with pytest.raises(DataError, match=f"^{field}: "):
        dataclasses.replace(digits_source, **{field: change(digits_source)})


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(DataError, match="data: 'cifar' given; expected one of mnist, digits"):
        resolve("cifar", tmp_path)


def test_the_reason_is_one_line_that_names_source_and_folder(mnist_root):
    source, reason = resolve("mnist", mnist_root, download=False)
    assert (source.name, reason) == ("mnist", f"mnist: asked for; read from {mnist_root}")
    source, reason = resolve("auto", mnist_root)
    assert (source.name, reason) == ("mnist", f"mnist: chosen because it is at hand; read from {mnist_root}")
    source, reason = resolve("digits")
    assert source.name == "digits"
    assert reason.startswith("digits: asked for")


def test_auto_takes_the_digits_where_mnist_is_absent_and_says_why(tmp_path):
    source, reason = resolve("auto", tmp_path, download=False)
    assert source.name == "digits"
    assert reason.startswith(f"digits: chosen because MNIST is not at hand: {tmp_path}")
    assert "\n" not in reason
    assert list(tmp_path.iterdir()) == []


def test_auto_downloads_mnist_where_it_can(tmp_path, monkeypatch):
    served = mirror.expect(monkeypatch, mirror.raw_files())
    with mirror.mirror(served) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        source, reason = resolve("auto", tmp_path)
    assert source.name == "mnist"
    assert reason == f"mnist: chosen because it is at hand; downloaded to {tmp_path}"


@pytest.mark.usefixtures("open_sockets_forgiven")
def test_auto_takes_the_digits_where_the_download_fails(tmp_path, monkeypatch):
    mirror.expect(monkeypatch, mirror.raw_files())
    with mirror.mirror({}) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        source, reason = resolve("auto", tmp_path)
        with pytest.raises(MissingDataError):
            resolve("mnist", tmp_path)
    assert source.name == "digits"
    assert "could not be downloaded" in reason
    assert "\n" not in reason


def test_auto_does_not_hide_a_corrupt_file_behind_the_digits(tmp_path):
    files = mirror.raw_files()
    mirror.write(tmp_path, files)
    with pytest.raises(CorruptDataError, match="train-images-idx3-ubyte: wrong checksum"):
        resolve("auto", tmp_path)


def test_without_a_root_mnist_is_looked_for_in_the_user_s_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "pairsearch" in default_root().parts
    with pytest.raises(MissingDataError) as caught:
        load("mnist", download=False)
    assert str(caught.value).startswith(str(default_root() / "MNIST" / "raw" / "train-images-idx3-ubyte"))
