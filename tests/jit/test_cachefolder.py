"""Compiled kernels are code: they are loaded only from folders to which no other user can write."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from pathlib import Path

import numba
import pytest

from pairsearch.jit import cache as cache_of_numba
from pairsearch.jit.cache import trusted
from pairsearch.jit.compiling import compiled_and_cached

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of kernels' sources to which only its owner can write."""
    folder = tmp_path / "kernels"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A private cache folder with two files."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    for name in ("a.nbi", "b.nbc"):
        (folder / name).touch(mode=0o644)
    return folder


def test_a_folder_of_one_s_own_is_trusted(cache: Path, source: Path) -> None:
    assert trusted(cache, source)
    cache.chmod(0o755)
    assert trusted(cache, source)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757, 0o702])
def test_a_folder_that_others_can_write_is_not_trusted(cache: Path, source: Path, mode: int) -> None:
    cache.chmod(mode)
    assert not trusted(cache, source)


def test_a_file_in_it_that_others_can_write_is_not_trusted(cache: Path, source: Path) -> None:
    (cache / "b.nbc").chmod(0o666)
    assert not trusted(cache, source)


def test_a_link_in_it_is_not_trusted(cache: Path, source: Path) -> None:
    (cache / "c.nbc").symlink_to(source)
    assert not trusted(cache, source)


@pytest.mark.parametrize(("mode", "expected"), [(0o777, False), (0o1777, True), (0o755, True)])
def test_a_folder_above_it_counts_unless_its_entries_are_kept_apart(
    cache: Path, source: Path, mode: int, expected: bool
) -> None:
    inner = cache / "inner"
    inner.mkdir(mode=0o700)
    cache.chmod(mode)
    assert trusted(inner, source) is expected


def test_another_user_s_folder_or_file_is_not_trusted(
    cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = cache.stat().st_uid
    # Pretend that the test runs as another user: only an administrator could give a file to another owner.
    monkeypatch.setattr(cache_of_numba.os, "getuid", lambda: mine + 1)
    assert trusted(cache, source) is (mine == 0), "the administrator's folders are trusted"
    if mine == 0:
        os.chown(cache / "a.nbi", 12345, -1)
        assert not trusted(cache, source)


@pytest.mark.parametrize(("private", "expected"), [(True, True), (False, False)])
def test_a_group_may_write_where_it_is_the_user_s_own(
    cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch, private: bool, expected: bool
) -> None:
    cache.chmod(0o770)
    monkeypatch.setattr(cache_of_numba, "_private", lambda group: private and group == cache.stat().st_gid)
    assert trusted(cache, source) is expected


@pytest.mark.parametrize(
    ("source_mode", "cache_mode", "expected"),
    [(0o755, 0o755, True), (0o777, 0o777, True), (0o755, 0o777, False), (0o777, 0o755, True)],
)
def test_beside_the_source_it_is_trusted_as_far_as_the_source(
    source: Path, source_mode: int, cache_mode: int, expected: bool
) -> None:
    cache = source / "__pycache__"
    cache.mkdir()
    cache.chmod(cache_mode)
    source.chmod(source_mode)
    assert trusted(cache, source) is expected


def test_what_cannot_be_looked_at_is_not_trusted(tmp_path: Path, source: Path) -> None:
    assert not trusted(tmp_path / "absent", source)


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def add(a: int, b: int) -> int:
    """Something to compile."""
    return a + b


def index(folder: Path) -> Path:
    """The file in a private cache folder in which Numba looks `add` up first."""
    folder.mkdir(mode=0o700)
    return Path(compiled_and_cached(add)._cache._cache_file._index_path)  # type: ignore[attr-defined]


def test_a_pickle_planted_where_others_can_write_is_never_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, folder = tmp_path / "trace", tmp_path / "cache"
    # Numba reads all of its environment variables again when one has changed, so the variable is set too.
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    index(folder).write_bytes(pickle.dumps(Bomb(trace)))
    folder.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="are not used, for other users can write there"):
        assert compiled_and_cached(add)(1, 2) == 3
    assert not trace.exists()
    # In a trusted folder the pickle is loaded, which shows that the test put it where Numba looks.
    folder.chmod(0o700)
    with suppress(TypeError, AttributeError, ValueError):
        compiled_and_cached(add)(1, 2)
    assert trace.exists()
