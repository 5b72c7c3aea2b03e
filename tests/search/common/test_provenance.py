"""Which source computed a result: the commit of our own checkout, never that of a repository around an installation."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import programs
import pytest

from pairsearch.search.common import provenance

VERSION = f"pairsearch {provenance.package_version('pairsearch')}"
Git = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAIRSEARCH_COMMIT", raising=False)


@pytest.fixture
def git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Git:
    """Runs git in a folder, with no settings but its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")

    def run(folder: Path, *words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    return run


def installed(folder: Path) -> Callable[[], str]:
    """`git_commit` of a copy of the program whose packages lie in a folder."""
    copy = folder / "search" / "common" / "provenance.py"
    copy.parent.mkdir(parents=True)
    shutil.copy(programs.ROOT / "search" / "common" / "provenance.py", copy)
    spec = importlib.util.spec_from_file_location("provenance_of_a_copy", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[], str] = module.git_commit
    return found


@pytest.fixture
def theirs(tmp_path: Path, git: Git) -> Path:
    """A user's own repository, with a commit."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "paper.tex").touch()
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "theirs")
    return folder


@pytest.mark.parametrize("place", [".venv/lib/python3.11/site-packages", "vendored"])
@pytest.mark.parametrize("tracked", [False, True])
def test_an_installation_inside_a_user_s_repository_states_its_version(
    theirs: Path, git: Git, place: str, tracked: bool
) -> None:
    git_commit = installed(theirs / place)
    if tracked:
        git(theirs, "add", "--force", place)
        git(theirs, "commit", "-qm", "with its environment")
    assert git_commit() == VERSION


def test_an_installation_at_the_top_of_a_user_s_repository_states_its_version(theirs: Path) -> None:
    """As `pip install --target .` makes it."""
    assert installed(theirs)() == VERSION


def test_a_checkout_states_its_commit_and_whether_it_was_changed(tmp_path: Path, git: Git) -> None:
    folder = tmp_path / "checkout"
    git_commit = installed(folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "ours")
    commit = git(folder, "rev-parse", "--short=12", "HEAD")
    assert git_commit() == commit
    (folder / "search" / "common" / "provenance.py").write_text("# changed\n")
    assert git_commit() == f"{commit}+"


def test_a_foreign_git_dir_changes_nothing(
    tmp_path: Path, theirs: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a hook of a user's repository sets it for all that it calls."""
    folder = tmp_path / "checkout"
    git_commit = installed(folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "ours")
    commit = git_commit()
    monkeypatch.setenv("GIT_DIR", str(theirs / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(folder))
    monkeypatch.setenv("GIT_INDEX_FILE", str(theirs / ".git" / "index"))
    assert git_commit() == commit


def test_without_git_the_version_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed(tmp_path / "checkout")() == VERSION


@pytest.mark.parametrize(
    ("stated", "expected"), [("0123456789ab+", "0123456789ab+"), ("unknown", None), ("", None)]
)
def test_an_image_states_its_commit_or_leaves_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str, expected: str | None
) -> None:
    monkeypatch.setenv("PAIRSEARCH_COMMIT", stated)
    assert os.environ["PAIRSEARCH_COMMIT"] == stated
    assert installed(tmp_path / "site-packages")() == (expected or VERSION)
