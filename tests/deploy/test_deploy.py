"""`pairsearch deploy`, of a program that was installed from a wheel as a user installs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import programs
import pytest
import typer
from stack import ROOT, let_in

from pairsearch.search.cli.commands.deploying import AT_THE_TOP, BESIDE, WHEELS

DEPENDENCIES = Path(typer.__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout, built of what reaches the build of the image."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in let_in() - {WHEELS}:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    (wheel,) = out.iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; what it depends on is read from the environment of the tests."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    pip("--python", str(folder), "install", "--no-deps", "--no-index", str(built))
    (site_packages(folder) / "dependencies.pth").write_text(f"{DEPENDENCIES}\n")
    return folder


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def site_packages(folder: Path) -> Path:
    (found,) = folder.glob("lib/python*/site-packages")
    return found


def deploy(installed: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed / "bin" / "pairsearch", "deploy", "--out", out],
        cwd=installed,
        env=programs.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_nothing_but_pairsearch_and_its_metadata_lands_in_site_packages(installed: Path) -> None:
    names = {path.name.partition("-")[0] for path in site_packages(installed).iterdir()}
    assert names == {"pairsearch", "dependencies.pth"}


def test_it_writes_what_the_repository_has_and_the_program(
    installed: Path, tmp_path: Path, built: Path
) -> None:
    out = tmp_path / "out"
    first = deploy(installed, out)
    assert (first.returncode, first.stderr) == (0, "")
    written = contents(out)
    wheel = written.pop(built.name)
    expected = [*AT_THE_TOP, *(f"{BESIDE.as_posix()}/{path.name}" for path in (ROOT / BESIDE).iterdir())]
    assert written == {name: (ROOT / name).read_bytes() for name in expected}
    listed = first.stdout.partition("\n\n")[0].splitlines()
    assert sorted(listed) == sorted(str(out / name) for name in [*expected, built.name])
    assert f"cd {out}; sh studies/deploy/secrets.sh; docker compose up" in first.stdout
    again = deploy(installed, out)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert contents(out) == written | {built.name: wheel}


def test_the_wheel_that_it_writes_installs_the_same_program(
    installed: Path, tmp_path: Path, built: Path
) -> None:
    assert deploy(installed, tmp_path / "out").returncode == 0
    pip(
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        str(tmp_path / "site"),
        str(tmp_path / "out" / built.name),
    )
    with zipfile.ZipFile(built) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("pairsearch/")}
    program = contents(tmp_path / "site" / "pairsearch")
    assert {f"pairsearch/{name}": content for name, content in program.items()} == packed
    assert (tmp_path / "site" / "bin" / "pairsearch").is_file()


@pytest.mark.parametrize(
    "name", ["docker-compose.yml", "studies/deploy/roles.sql", "pairsearch-0.0.1-any.whl"]
)
def test_a_file_that_differs_is_left_and_nothing_is_written(
    installed: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine\n")
    refused = deploy(installed, tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"error: {tmp_path} has files that this version would write otherwise: {name}. Move them away, or name "
        "another folder\n"
    )
    assert contents(tmp_path) == {name: b"mine\n"}


def test_where_one_cannot_be_written_none_is(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file\n")
    refused = deploy(installed, tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: cannot make folder {tmp_path / 'studies'}: ")
    assert contents(tmp_path) == {"studies": b"a file\n"}
