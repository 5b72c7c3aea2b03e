"""What each command imports: those that only look, and those that refuse what was given, none of the heavy packages.

Every help ends in an example.
"""

from __future__ import annotations

import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import programs
import pytest
import tiny
import torch

from pairsearch.data.mnist import RAW_FILES
from pairsearch.data.sources import Source
from pairsearch.search.cli.commands import searching
from pairsearch.search.setup import opening
from pairsearch.search.workers.tally import Tally
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.pairs import problem

HEAVY = {"torch", "optuna", "sklearn", "numba", "scipy", "torchvision"}
# What training on MNIST has no use for; scikit-learn brings pandas, torchvision the compiler.
NEEDLESS = {"torchvision", "sklearn", "pandas", "sympy", "torch._dynamo", "torch._inductor"}
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
    "replay",
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


def imported(folder: Path, *arguments: str, code: int = 0, **variables: str) -> set[str]:
    """The modules that the program imports, whole names, in a run that ends with that exit code."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pairsearch", *arguments],
        cwd=folder,
        env=programs.environment(**variables),
        capture_output=True,
        text=True,
        timeout=programs.PATIENCE,
        check=False,
    )
    assert ended.returncode == code, ended.stderr[-500:]
    modules = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "typer" in modules
    return modules


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
    assert imported(folder, *arguments) & HEAVY == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "b9"),
        ("worker", "b9"),
        ("run", "b9"),
        ("evaluate", "b9"),
        ("evaluate", "b9", "--paper"),
        ("worker", "b1"),
        ("evaluate", "b1"),
        ("create", "bad.toml"),
        ("run", "tiny", "bad.toml"),
        ("create", "b1", "--data", "cifar"),
        ("worker", "tiny", "--data", "cifar"),
        ("run", "b1", "--data", "mnist", "--data-dir", "truncated"),
        ("worker", "tiny", "--device", "nonsense"),
        ("run", "tiny", "--device", "cudda:0"),
        ("evaluate", "tiny", "--device", "gpu"),
        ("evaluate", "tiny", "--models", "absent/folder/models"),
        ("evaluate", "tiny", "--models", "models", "--no-models"),
        ("worker", "tiny", "--storage", "nonsense"),
        ("create", "b1", "--storage", "mysql://here/there"),
    ],
    ids=" ".join,
)
def test_what_is_refused_is_refused_before_anything_heavy_is_imported(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    tiny.write_toml(folder / "bad.toml", name="bad", epochs=0)
    raw = folder / "truncated" / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in RAW_FILES:
        (raw / name).write_bytes(b"")
    assert imported(folder, *arguments, code=2) & HEAVY == set()


def test_training_on_mnist_imports_what_it_uses(tmp_path: Path, mnist_root: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    for arguments in (
        ("create", "tiny.toml"),
        ("worker", "tiny", "--max-trials", "1"),
        ("evaluate", "tiny", "--rounds", "1"),
    ):
        modules = imported(tmp_path, *arguments, PAIRSEARCH_DATA=str(mnist_root))
        assert modules & NEEDLESS == set(), arguments
        assert "torch" in modules


def test_a_worker_frees_the_images_once_its_last_study_has_its_folds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[weakref.ref[Source]] = []
    resolve, run = problem.resolve, Worker.run

    def recording(*arguments: Any) -> tuple[Source, str]:
        loaded = resolve(*arguments)
        sources.append(weakref.ref(loaded[0]))
        return loaded

    def run_once(worker: Worker, _: int | None) -> Tally:
        tally = run(worker, 1)
        assert tally.finished == 1
        held.append(sources[0]() is not None)
        return tally

    held: list[bool] = []
    monkeypatch.chdir(folder)
    monkeypatch.setattr(problem, "resolve", recording)
    monkeypatch.setattr(problem, "_SOURCES", weakref.WeakValueDictionary())
    monkeypatch.setattr(Worker, "run", run_once)
    tiny.write_toml(folder / "other.toml", name="other")
    assert programs.run(folder, "create", "other.toml", "--data", "digits").code == 0
    searching.worker(["tiny", "other"])
    assert (held, len(sources)) == ([True, False], 1)


def test_device_names_that_are_refused_at_once_are_those_that_pytorch_does_not_know() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.device("nonsense")
    listed = str(caught.value).partition("one of ")[2].partition(" device type")[0]
    assert set(listed.split(", ")) == set(opening.DEVICES)


def test_every_command_is_listed_and_its_help_ends_in_an_example(tmp_path: Path) -> None:
    listing = programs.run(tmp_path, "--help")
    for command in COMMANDS:
        assert f"  {command} " in listing.out
        shown = programs.run(tmp_path, command, "--help")
        assert shown.code == 0
        assert shown.out.strip().splitlines()[-1].strip().startswith(f"Example: pairsearch {command}")
    codes = "Exit codes: 0 done, 1 work failed, 2 usage or bad input, 130 interrupted, 141 output closed."
    assert codes in " ".join(listing.out.split())
