"""What goes into the container image, and as whom it runs."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from stack import ROOT, let_in

from pairsearch.search.cli.commands.deploying import WHEELS
from pairsearch.search.common.provenance import git_commit


@pytest.fixture(scope="module")
def stages() -> list[str]:
    """The instructions of each stage of the Dockerfile, continuation lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]


def test_the_program_runs_as_a_numbered_user_who_is_not_root(stages: list[str]) -> None:
    users = re.findall(r"^USER (.+)$", stages[-1], re.MULTILINE)
    assert users == ["10001:10001"], "a number, so that an orchestrator can see that it is not root"


def test_volumes_take_over_the_owner_of_their_folders(stages: list[str]) -> None:
    assert "install --directory --owner=10001 --group=10001 /data " in stages[-1]
    assert "install --directory --owner=10001 --group=10001 --mode=0700 /cache" in stages[-1]


def test_the_image_has_the_library_that_lightgbm_loads(stages: list[str]) -> None:
    assert re.search(r"^RUN apt-get update .*\blibgomp1\b", stages[-1], re.MULTILINE)


def test_compiled_kernels_and_data_have_a_place_outside_the_read_only_root(stages: list[str]) -> None:
    assert re.search(r"\bNUMBA_CACHE_DIR=/cache\b", stages[-1])
    assert re.search(r"\bPAIRSEARCH_DATA=/data\b", stages[-1])
    assert re.search(r"\bHOME=/tmp\b", stages[-1])


def test_results_name_the_commit_that_the_image_was_built_from(
    stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.search(r"^ARG PAIRSEARCH_COMMIT=unknown$", stages[-1], re.MULTILINE)
    assert re.search(r"\bPAIRSEARCH_COMMIT=\$PAIRSEARCH_COMMIT\b", stages[-1])
    monkeypatch.setenv("PAIRSEARCH_COMMIT", "0123456789ab+")
    assert git_commit() == "0123456789ab+"


@pytest.mark.parametrize(
    ("index", "options"),
    [("https://download.example.org/a b", ["--index-url", "https://download.example.org/a b"]), ("", [])],
)
def test_torch_and_torchvision_come_in_one_command_from_a_chosen_index_or_pip_s_own(
    stages: list[str], tmp_path: Path, index: str, options: list[str]
) -> None:
    assert re.search(r"^ARG TORCH_INDEX=https://download\.pytorch\.org/whl/cpu$", stages[0], re.MULTILINE)
    (command,) = [line.removeprefix("RUN ") for line in stages[0].splitlines() if "--index-url" in line]
    stand_in = tmp_path / "pip"
    stand_in.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stand_in.chmod(0o755)
    given = {"TORCH_INDEX": index, "TORCH": "torch>=2.9", "TORCHVISION": "torchvision==1.*"}
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": str(tmp_path)} | given,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["install", *options, "torch>=2.9", "torchvision==1.*"]


def test_the_least_versions_of_torch_are_those_of_the_project(stages: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    dependencies = project["project"]["dependencies"]
    for name in ("TORCH", "TORCHVISION"):
        (default,) = re.findall(rf'^ARG {name}="(.+)"$', stages[0], re.MULTILINE)
        assert default in dependencies


def test_every_package_and_file_that_the_build_needs_reaches_it_and_nothing_else(stages: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = project["tool"]["setuptools"]
    packages = {name.split(".")[1] for name in setuptools["packages"] if "." in name}
    files = {
        "pyproject.toml",
        project["project"]["readme"],
        "LICENSE",
        *setuptools["package-data"]["pairsearch"],
    }
    files |= {file.name for file in ROOT.glob("*.py")}
    assert let_in() == packages | files | {WHEELS}
    assert all((ROOT / source).exists() for source in let_in() - {WHEELS})
    assert "\nCOPY . .\n" in stages[0]
    assert f"RUN set -- ./{WHEELS} " in stages[0]


def test_every_folder_with_modules_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = {
        file.parent.relative_to(ROOT)
        for top in ROOT.glob("*/__init__.py")
        for file in top.parent.rglob("*.py")
    }
    expected = {"pairsearch"} | {".".join(("pairsearch", *room.parts)) for room in rooms}
    assert set(project["tool"]["setuptools"]["packages"]) == expected
