"""Workers are this very installation: nothing of the working directory is imported, whatever its files are named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import programs
import pytest
import tiny

from pairsearch.search.database.connection import open_database
from pairsearch.search.setup.arguments import look_up
from pairsearch.search.workers import program

# As the console script starts, which does not look for modules in the working directory either.
CONSOLE = (sys.executable, "-P", "-c", "from pairsearch.search.cli.app import main; main()")
NAMES = (
    "pairsearch.py",
    "search.py",
    "models.py",
    "studies/__init__.py",
    "data/__init__.py",
    "random.py",
    "types.py",
    "typing.py",
    "numpy.py",
    "sitecustomize.py",
    "usercustomize.py",
)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A working directory with modules of a user's own, each of which leaves a trace when it is imported."""
    folder = tmp_path / "project"
    for name in NAMES:
        module = folder / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(
            f"open({str(tmp_path / 'traces')!r}, 'a').write({name!r})\nraise ImportError({name!r})\n"
        )
    return folder


def traces(folder: Path) -> str:
    file = folder.parent / "traces"
    return file.read_text() if file.exists() else ""


def test_run_imports_nothing_from_the_folder_that_it_is_called_in(hostile: Path, sqlite_url: str) -> None:
    tiny.write_toml(hostile / "tiny.toml")
    ended = subprocess.run(
        [*CONSOLE, "run", "tiny.toml", "--data", "digits", "--workers", "1"],
        cwd=hostile,
        env=programs.environment(PAIRSEARCH_STORAGE=sqlite_url),
        capture_output=True,
        text=True,
        timeout=programs.PATIENCE,
        check=False,
    )
    assert (ended.returncode, traces(hostile)) == (0, ""), ended.stderr
    database = open_database(sqlite_url)
    assert tiny.states(database) == {"finished": 8}
    database.close()


@pytest.mark.parametrize("path", ["", ":.:{here}:{here}/../project:{root}:"])
def test_entries_of_pythonpath_that_mean_the_working_directory_do_not_count(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PYTHONPATH", path.format(root=programs.ROOT, here=hostile))
    assert program.environment().get("PYTHONPATH") == (str(programs.ROOT) if path else None)
    shown = subprocess.run(
        program.command("--help"), env=program.environment(), capture_output=True, text=True, check=False
    )
    assert (shown.returncode, traces(hostile)) == (0, ""), shown.stderr
    assert "pairsearch" in shown.stdout


def test_packages_of_our_names_elsewhere_on_the_path_are_not_taken_for_ours(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user may need that path, for what he calls `numpy` there too, but not for ours."""
    for name in NAMES[5:]:
        (hostile / name).unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(hostile))
    shown = subprocess.run(
        program.command("studies"), env=program.environment(), capture_output=True, text=True, check=False
    )
    assert (shown.returncode, traces(hostile)) == (0, ""), shown.stderr


def test_a_working_directory_that_is_gone_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(gone), str(programs.ROOT)]))
    gone.rmdir()
    assert look_up("b1").here == Path("/")
    shown = subprocess.run(
        program.command("--help"), env=program.environment(), capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
