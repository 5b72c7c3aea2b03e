"""Training goes on when compiled kernels are damaged, belong to another function or cannot be saved."""

from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

from pairsearch.jit.compiling import compiled_and_cached


def add(a: int, b: int) -> int:
    """Something to compile."""
    return a + b


def subtract(a: int, b: int) -> int:
    """Something else."""
    return a - b


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    made = tmp_path / "cache"
    made.mkdir(mode=0o700)
    # Numba reads all of its environment variables again when one has changed, so the variable is set too.
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(made))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(made))
    return made


def hits() -> int:
    """Call `add` as a new process would, and return how often it came from the cache."""
    dispatcher = compiled_and_cached(add)
    assert dispatcher(40, 2) == 42
    return sum(dispatcher.stats.cache_hits.values())  # type: ignore[attr-defined]


def file(folder: Path, kind: str, name: str = "add") -> Path:
    (found,) = folder.rglob(f"*.{name}-*.{kind}")
    return found


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_bytes(b"\x80garbage" * 100)


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def one_bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def another_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps("something else"))


def a_folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [emptied, garbled, halved, one_bit_flipped, another_pickle]


@pytest.mark.parametrize("kind", ["nbi", "nbc"], ids=["index", "code"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_compiled_anew_and_replaced(
    folder: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    assert [hits(), hits()] == [0, 1]
    damage(file(folder, kind))
    assert [hits(), hits()] == [0, 1]


def test_it_is_said_which_folder_is_damaged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    hits()
    emptied(file(folder, "nbi"))
    with caplog.at_level(logging.WARNING):
        hits()
    (line,) = caplog.messages
    assert line.startswith(f"the compiled kernels in {folder}")
    assert "are damaged, and are compiled anew (EOFError" in line


def test_code_of_another_function_is_never_run(folder: Path) -> None:
    """The file is whole, but has another function's code: processes that save at once can use the same file name."""
    hits()
    assert compiled_and_cached(subtract)(40, 2) == 38
    shutil.copy(file(folder, "nbc", "subtract"), file(folder, "nbc", "add"))
    assert [hits(), hits()] == [0, 1]


def test_an_index_of_another_numba_is_a_miss(folder: Path) -> None:
    hits()
    index = file(folder, "nbi")
    index.write_bytes(pickle.dumps("0.1") + b"what only that version can read")
    assert [hits(), hits()] == [0, 1]


@pytest.mark.parametrize("kind", ["nbi", "nbc"], ids=["index", "code"])
def test_where_nothing_can_be_written_every_process_compiles(
    folder: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder in the file's place makes writing fail, for an administrator too, as a full disk would."""
    hits()
    a_folder_in_its_place(file(folder, kind))
    with caplog.at_level(logging.WARNING):
        assert [hits(), hits()] == [0, 0]
    assert any(
        "cannot be kept, and every process compiles them for itself" in line for line in caplog.messages
    )


def test_a_folder_that_vanishes_is_made_again(folder: Path) -> None:
    dispatcher = compiled_and_cached(add)
    shutil.rmtree(folder)
    assert dispatcher(40, 2) == 42
    assert hits() == 1


def test_without_numba_s_compiler_the_reason_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    with pytest.raises(
        RuntimeError, match="NUMBA_DISABLE_JIT is set: the compiled kernels need Numba's compiler"
    ):
        compiled_and_cached(add)
