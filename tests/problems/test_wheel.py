"""A wheel's program works in a folder that has its own `data.py`, `models/`, `search/` and `studies/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import programs
import pytest
import tiny

from pairsearch.search.database.connection import open_database

NEIGHBOURS = (
    "data.py",
    "models/__init__.py",
    "search/__init__.py",
    "studies/__init__.py",
    "random_helper.py",
)
PROBLEM = """
import data, models, random_helper, search, studies
from models import layers

OURS = {module.OWNER for module in (data, models, search, studies, random_helper, layers)}

def fit(params, run, report):
    from studies import late
    assert OURS == {late.OWNER} == {"user"}
    import pairsearch.data.pairs, pairsearch.models, pairsearch.search.common.errors, pairsearch.studies.problem
    report(1, loss=float(params["x"]))
"""
DEFINITION = """
name = "own"
problem = "problem.py:fit"
metric = "loss"
folds = 2
[grid]
x = [1, 2]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of an environment into which the wheel was installed, with the dependencies of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=programs.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (programs.ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(programs.ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    quick = ["--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *quick, "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"pairsearch", next(top for top in tops if top.endswith(".dist-info"))}
    assert not [name for name in names if name.startswith(("pairsearch/benchmarks", "pairsearch/docs"))]
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "zz_dependencies.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")
    subprocess.run([*pip, "--python", str(environment), "install", *quick, str(wheel)], check=True)
    return environment / "bin" / "pairsearch"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's project."""
    made = tmp_path / "project"
    for name in (*NEIGHBOURS, "models/layers.py", "studies/late.py"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text('OWNER = "user"\n')
    (made / "problem.py").write_text(PROBLEM)
    (made / "own.toml").write_text(DEFINITION)
    return made


@pytest.mark.parametrize("place", ["in the folder", "from elsewhere"])
def test_a_user_s_folders_and_ours_do_not_shadow_each_other(
    installed: Path, folder: Path, tmp_path: Path, place: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    url = f"sqlite:///{tmp_path / 'own.db'}"
    environment = programs.environment(PAIRSEARCH_STORAGE=url)
    environment["PATH"] = f"{installed.parent}{os.pathsep}{environment['PATH']}"
    if place == "from elsewhere":
        environment["PYTHONPATH"] = str(folder)
    given = str(folder / "own.toml") if place == "from elsewhere" else "own.toml"
    ended = subprocess.run(
        [installed, "run", given, "--workers", "1", "--quiet"],
        cwd=elsewhere if place == "from elsewhere" else folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * programs.PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    database = open_database(url)
    try:
        assert tiny.states(database) == {"finished": 2}
        (files,) = {text for (text,) in tiny.rows(database, "studies", "problem")}
    finally:
        database.close()
    for name in (*NEIGHBOURS, "models/layers.py", "studies/late.py", "problem.py"):
        assert f'"{name}"' in files


def test_what_is_installed_is_the_wheel_s_and_its_studies_are_known(installed: Path, folder: Path) -> None:
    # The folder is the first place where Python looks.
    where = (
        "import data, models, search, studies, pairsearch.studies.pairs.problem, pairsearch.search.workers.worker; "
        "assert {data.OWNER, models.OWNER, search.OWNER, studies.OWNER} == {'user'}; print(pairsearch.__file__)"
    )
    for arguments in ([installed.parent / "python", "-c", where], [installed, "studies"]):
        ended = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        if arguments[0] != installed:
            assert ended.stdout.strip().startswith(str(installed.parents[1]))
