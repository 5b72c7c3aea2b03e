"""Commands that only look start at once: they import none of the heavy packages. Every help ends in an example."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import programs
import pytest
import tiny

HEAVY = {"torch", "optuna", "sklearn", "numba", "scipy", "torchvision"}
COMMANDS = (
    "studies",
    "create",
    "worker",
    "run",
    "status",
    "best",
    "evaluate",
    "predict",
    "reproduce",
    "export",
    "dashboard",
    "doctor",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("created")
    tiny.write_toml(made / "tiny.toml")
    assert programs.run(made, "create", "tiny.toml", "--data", "digits").code == 0
    return made


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("studies",),
        ("status",),
        ("status", "tiny", "--json"),
        ("best", "tiny"),
        ("worker", "--help"),
        ("export", "--help"),
    ],
    ids=" ".join,
)
def test_looking_imports_nothing_heavy(folder: Path, arguments: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "search", *arguments],
        cwd=folder,
        env=programs.environment(),
        capture_output=True,
        text=True,
        timeout=programs.PATIENCE,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in ended.stderr.splitlines()}
    assert "typer" in imported
    assert imported & HEAVY == set()


def test_every_command_is_listed_and_its_help_ends_in_an_example(tmp_path: Path) -> None:
    listing = programs.run(tmp_path, "--help")
    for command in COMMANDS:
        assert f"  {command} " in listing.out
        shown = programs.run(tmp_path, command, "--help")
        assert shown.code == 0
        assert shown.out.strip().splitlines()[-1].strip().startswith(f"Example: pairsearch {command}")
    codes = "Exit codes: 0 done, 1 work failed, 2 usage or bad input, 130 interrupted, 141 output closed."
    assert codes in " ".join(listing.out.split())
