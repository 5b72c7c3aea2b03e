"""MNIST's files are refused by name if they are wrong, and a download leaves all of them or nothing."""

from __future__ import annotations

import dataclasses
import gzip
import os
import socket
from pathlib import Path

import mirror
import platformdirs
import programs
import pytest
from filelock import FileLock
from mirror import load

from pairsearch.data import datasets
from pairsearch.data.errors import CorruptDataError, MissingDataError
from pairsearch.data.sources import resolve

NAMES = [file.name for file in mirror.MNIST.files]


@pytest.fixture
def files(monkeypatch):
    """A small MNIST, which counts as the real one during a test."""
    files = mirror.raw_files()
    mirror.expect(monkeypatch, files)
    return files


@pytest.fixture
def root(tmp_path, files):
    """A root that holds the small MNIST."""
    mirror.write(tmp_path, files)
    return tmp_path


def left_in(root: Path) -> list[str]:
    """Everything under a root except the lock's file."""
    paths = (path.relative_to(root).as_posix() for path in root.rglob("*"))
    return sorted(path for path in paths if path != ".mnist.lock")


WHOLE = sorted(["MNIST", "MNIST/raw", *(f"MNIST/raw/{name}" for name in NAMES)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "harm",
    [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])],
    ids=["truncated", "too long", "one bit"],
)
def test_a_wrong_checksum_is_named(root, files, name, harm):
    harmed = harm(files[name])
    (root / "MNIST/raw" / name).write_bytes(harmed)
    with pytest.raises(CorruptDataError) as caught:
        load("mnist", root)
    assert str(caught.value) == (
        f"{root / 'MNIST/raw' / name}: wrong checksum, MD5 {mirror.md5(harmed)} of {len(harmed)} bytes where "
        f"MNIST's is {mirror.md5(files[name])}; delete it to have it downloaded again"
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_unreadable_file_is_named(root, name):
    path = root / "MNIST/raw" / name
    path.unlink()
    path.mkdir()  # nobody can read a folder as a file, not even root
    with pytest.raises(CorruptDataError) as caught:
        load("mnist", root)
    assert str(caught.value).startswith(f"{path}: unreadable (")


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named_where_nothing_may_be_downloaded(root, name):
    (root / "MNIST/raw" / name).unlink()
    with pytest.raises(MissingDataError) as caught:
        load("mnist", root, download=False)
    assert str(caught.value).startswith(f"{root / 'MNIST/raw' / name}: not there")


def test_errors_are_one_line(root, files):
    (root / "MNIST/raw" / NAMES[0]).write_bytes(b"")
    with pytest.raises(CorruptDataError) as caught:
        load("mnist", root)
    assert "\n" not in str(caught.value)


def test_a_download_puts_the_four_files_in_place_with_a_progress_bar(tmp_path, monkeypatch, files, capsys):
    served = mirror.expect(monkeypatch, files)
    root = tmp_path / "new"
    with mirror.mirror(served) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        source = load("mnist", root)
    assert left_in(root) == WHOLE
    assert {name: (root / "MNIST/raw" / name).read_bytes() for name in NAMES} == files
    assert (len(source.train_images), len(source.test_images)) == (30, 10)
    assert "100%" in capsys.readouterr().err


def test_files_that_are_there_stay_and_what_a_killed_download_left_goes(root, monkeypatch, files):
    served = mirror.expect(monkeypatch, files)
    (root / "MNIST/raw" / NAMES[1]).unlink()
    before = (root / "MNIST/raw" / NAMES[0]).stat().st_ino
    leftover = root / ".mnist-download" / "MNIST" / "raw"
    leftover.mkdir(parents=True)
    (leftover / f"{NAMES[1]}.gz").write_bytes(b"half")
    (leftover / NAMES[1]).write_bytes(b"half")
    with mirror.mirror(served) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        load("mnist", root)
    assert left_in(root) == WHOLE
    assert (root / "MNIST/raw" / NAMES[0]).stat().st_ino == before


def wrong_gzip(served: dict[str, bytes]) -> dict[str, bytes]:
    return {name: gzip.compress(b"something else") for name in served}


@pytest.mark.usefixtures("open_sockets_forgiven")
@pytest.mark.parametrize(
    ("change", "truncate"),
    [(lambda served: {}, False), (wrong_gzip, False), (lambda served: served, True)],
    ids=["404", "other content", "truncated"],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing(tmp_path, monkeypatch, files, change, truncate):
    served = mirror.expect(monkeypatch, files)
    with mirror.mirror(change(served), truncate=truncate) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        with pytest.raises(MissingDataError) as caught:
            load("mnist", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"MNIST could not be downloaded to {tmp_path} (")
    assert f"put {', '.join(NAMES)} into {tmp_path / 'MNIST/raw'}" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == [], "not even a lock"


@pytest.mark.usefixtures("open_sockets_forgiven")
def test_a_failed_download_takes_the_folders_back_that_it_made(tmp_path, monkeypatch, files):
    mirror.expect(monkeypatch, files)
    monkeypatch.setattr(platformdirs, "user_data_path", lambda *_, **__: tmp_path / "share" / "pairsearch")
    with mirror.mirror({}) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        for root in (None, tmp_path / "mnist"):
            with pytest.raises(MissingDataError):
                load("mnist", root)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("open_sockets_forgiven")
def test_a_failed_download_leaves_what_was_there(root, monkeypatch, files):
    mirror.expect(monkeypatch, files)
    (root / "MNIST/raw" / NAMES[1]).unlink()
    before = sorted(root.rglob("*"))
    with mirror.mirror({}) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        with pytest.raises(MissingDataError):
            load("mnist", root)
    assert sorted(root.rglob("*")) == before


def test_nothing_is_downloaded_to_a_path_that_was_mistyped(tmp_path, files):
    root = tmp_path / "mistyped" / "mnist"
    with pytest.raises(MissingDataError, match=f"there is no folder {tmp_path / 'mistyped'}"):
        load("mnist", root)
    source, reason = resolve("auto", root)
    assert source.name == "digits"
    assert "there is no folder" in reason
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("open_sockets_forgiven")
def test_a_second_mirror_serves_where_the_first_does_not(tmp_path, monkeypatch, files):
    served = mirror.expect(monkeypatch, files)
    with mirror.mirror({}) as (bad, _), mirror.mirror(served) as (good, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [bad, good])
        load("mnist", tmp_path)
    assert left_in(tmp_path) == WHOLE


@pytest.mark.usefixtures("open_sockets_forgiven")
def test_a_mirror_that_stays_silent_is_given_up(tmp_path, monkeypatch, files):
    served = mirror.expect(monkeypatch, files)
    monkeypatch.setattr(datasets, "STALL_SECONDS", 0.2)
    before = socket.getdefaulttimeout()
    with mirror.mirror(served, silent=True) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        with pytest.raises(MissingDataError, match="timed out"):
            load("mnist", tmp_path)
    assert left_in(tmp_path) == []
    assert socket.getdefaulttimeout() == before


def test_extracted_files_are_held_to_our_own_checksums_before_they_are_put_in_place(
    tmp_path, monkeypatch, files
):
    served = mirror.expect(monkeypatch, files)
    small = datasets.DATASETS["mnist"]
    wrong = tuple(dataclasses.replace(file, md5="0" * 32) for file in small.files)
    monkeypatch.setitem(datasets.DATASETS, "mnist", dataclasses.replace(small, files=wrong))
    with mirror.mirror(served) as (address, _):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        with pytest.raises(MissingDataError, match="wrong checksum"):
            load("mnist", tmp_path)
    assert left_in(tmp_path) == []


def test_a_root_that_cannot_be_a_folder_is_a_download_error(tmp_path, files):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MissingDataError, match="could not be downloaded"):
        load("mnist", tmp_path / "file")


def download(address: str, root: Path, said: Path) -> None:
    """Download; first say that this process is ready, and at the end the fingerprint of what it has."""
    patch = pytest.MonkeyPatch()
    mirror.expect(patch, mirror.raw_files())
    patch.setattr("torchvision.datasets.MNIST.mirrors", [address])
    (said / f"{os.getpid()}.ready").touch()
    (said / f"{os.getpid()}.fingerprint").write_text(load("mnist", root).fingerprint)


def test_processes_that_start_together_download_once(tmp_path, monkeypatch, files):
    served = mirror.expect(monkeypatch, files)
    with mirror.mirror(served) as (address, asked):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [address])
        fingerprint = load("mnist", tmp_path / "alone").fingerprint
        requests_of_one = sorted(asked)
        asked.clear()

        root, said = tmp_path / "shared", tmp_path / "said"
        root.mkdir()
        said.mkdir()
        with FileLock(root / ".mnist.lock"):  # neither downloads before both are ready
            processes = programs.start_together(download, 2, address, root, said)
            programs.wait_for(lambda: len(list(said.glob("*.ready"))) == 2, "both")
        for process in processes:
            process.join(programs.PATIENCE)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.read_text() for path in said.glob("*.fingerprint")] == [fingerprint] * 2
    assert sorted(asked) == requests_of_one


def packed(root: Path, *names: str) -> None:
    """Replace the raw files by compressed ones, as mirrors serve them."""
    for name in names:
        path = root / "MNIST/raw" / name
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


@pytest.mark.parametrize("count", [1, 4])
def test_files_that_were_fetched_by_hand_need_no_unpacking(root, files, count):
    plain = load("mnist", root, download=False)
    packed(root, *NAMES[:count])
    before = sorted(root.rglob("*"))
    (root / "MNIST/raw").chmod(0o500)
    try:
        found = load("mnist", root)
    finally:
        (root / "MNIST/raw").chmod(0o700)
    assert found.fingerprint == plain.fingerprint
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    "harm", [lambda raw: raw[:-9], lambda raw: b"<html>", lambda raw: gzip.compress(b"other")]
)
def test_a_compressed_file_that_is_not_whole_is_named(root, files, harm):
    packed(root, NAMES[0])
    path = root / "MNIST/raw" / f"{NAMES[0]}.gz"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(CorruptDataError) as caught:
        load("mnist", root)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_raw_file_goes_before_a_compressed_one(root, files):
    (root / "MNIST/raw" / f"{NAMES[0]}.gz").write_bytes(b"half a download")
    assert load("mnist", root, download=False).name == "mnist"
