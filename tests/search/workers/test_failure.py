"""How an exception is described, and which files of runs are whose."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pairsearch.search.workers.failure import ImpossibleRunError, RunError, failure, traceback_of
from pairsearch.search.workers.run_files import file_name, remove

LIBRARY = "def apply(call):\n    call()\n"
MINE = """
import library

def inner():
    raise ValueError("first line\\nsecond line")

def outer():
    library.apply(inner)

def wrong():
    library.apply(None)
"""


def raised(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Exception:
    """What a function of a user's file raises through a library."""
    packages = folder / "site-packages"
    packages.mkdir(exist_ok=True)
    (packages / "library.py").write_text(LIBRARY)
    (folder / "mine.py").write_text(MINE)
    for place in (packages, folder):
        monkeypatch.syspath_prepend(place)
    for module in ("mine", "library"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    import mine  # type: ignore[import-not-found]  # noqa: PLC0415

    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        getattr(mine, name)()
    return caught.value


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("outer", "ValueError: first line (mine.py, line 5)"),
        ("wrong", "TypeError: 'NoneType' object is not callable (mine.py, line 11)"),
    ],
)
def test_an_exception_is_told_with_the_last_line_of_the_user_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: str
) -> None:
    error = raised(tmp_path, monkeypatch, name)
    assert failure(error) == line
    text = traceback_of(error)
    assert text is not None
    assert text.startswith("Traceback (most recent call last):\n")
    assert "library.apply" in text


def test_what_a_run_s_process_said_is_told_as_it_is() -> None:
    for kind in (RunError, ImpossibleRunError):
        error = kind("a line", "a traceback \udcff")
        assert (failure(error), traceback_of(error)) == ("a line", "a traceback \\udcff")
    assert traceback_of(RunError("a line", None)) is None


def test_a_traceback_shows_no_password() -> None:
    error = ValueError("postgresql://ann:open-sesame@host/db")
    text = traceback_of(error)
    assert text is not None
    assert "open-sesame" not in text


def test_a_long_or_odd_key_is_replaced_by_a_digest_in_names_of_files() -> None:
    study = cast(Any, SimpleNamespace(name="mine"))
    assert file_name(study, "x=1 or 2", 3) == "mine-x=1-or-2-round=3.safetensors"
    assert file_name(study, "x" * 200, 0) == f"mine-{'x' * 200}-round=0.safetensors"
    for key in ("x" * 201, "x/y", "ö"):
        digest = file_name(study, key, 0).removeprefix("mine-").removesuffix("-round=0.safetensors")
        assert len(digest) == 32
        assert set(digest) <= {*"0123456789abcdef"}


def test_files_that_others_have_removed_are_no_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "here").touch()
    (tmp_path / "folder").mkdir()
    with caplog.at_level(logging.WARNING):
        remove([tmp_path / "gone", tmp_path / "here"])
        assert caplog.messages == []
        remove([tmp_path / "folder"])
    assert len(caplog.messages) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
