"""What each command imports: those that only look, and those that refuse what was given, none of the heavy packages.

Every help ends in an example.
"""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import programs
import pytest
import tiny
import torch

from pairsearch.data.datasets import DATASETS
from pairsearch.data.sources import Source
from pairsearch.search.cli.commands import working
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


# Runs commands one after the other; prints a line for each: its exit code, what it said and the modules that the
# process has imported by then.
RUNNING = """
import json, os, sys
from pairsearch.search.cli.app import main
lines = os.fdopen(os.dup(1), "w")
for arguments in json.loads(sys.argv[1]):
    said = os.open("said", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv, code = ["pairsearch", *arguments], 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    print(json.dumps([code, os.pread(said, 2000, 0).decode(errors="replace"), sorted(sys.modules)]), file=lines)
    os.close(said)
lines.flush()
"""
Command = tuple[str, ...]
Ran = tuple[int, str, set[str]]
"""An exit code, standard output and error, and the modules that were imported by then."""


def ran(folder: Path, commands: Sequence[Command], **variables: str) -> list[Ran]:
    """Run commands in one process, for each would import the same again."""
    ended = subprocess.run(
        [sys.executable, "-c", RUNNING, json.dumps(commands)],
        cwd=folder,
        env=programs.environment(**variables),
        capture_output=True,
        text=True,
        timeout=programs.PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(found) == len(commands)
    return [(code, said, set(modules)) for code, said, modules in found]


LOOKING: list[Command] = [
    ("--help",),
    ("studies",),
    ("status",),
    ("status", "tiny", "--json"),
    ("best", "tiny"),
    ("worker", "--help"),
    ("export", "--help"),
]
REFUSED: list[Command] = [
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
    ("run", "tiny", "--checkpoints", "absent/folder/checkpoints"),
    ("worker", "tiny", "--models", "tiny.toml"),
    ("predict", "absent", "one.png", "two.png"),
    ("worker", "tiny", "--storage", "nonsense"),
    ("create", "b1", "--storage", "mysql://here/there"),
]


@pytest.fixture(scope="module")
def imported(folder: Path) -> dict[Command, Ran]:
    """What became of each command that looks or is refused."""
    tiny.write_toml(folder / "bad.toml", name="bad", epochs=0)
    raw = folder / "truncated" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in DATASETS["mnist"].files:
        (raw / file.name).write_bytes(b"")
    commands = [*LOOKING, *REFUSED]
    return dict(zip(commands, ran(folder, commands), strict=True))


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_imports_nothing_heavy(imported: dict[Command, Ran], command: Command) -> None:
    code, said, modules = imported[command]
    assert code == 0, said
    assert modules & HEAVY == set()


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_what_is_refused_is_refused_before_anything_heavy_is_imported(
    imported: dict[Command, Ran], command: Command
) -> None:
    code, said, modules = imported[command]
    assert code == 2, said
    assert modules & HEAVY == set()


def test_the_program_starts_without_anything_heavy(folder: Path) -> None:
    """As a user starts it, not as those above are started."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pairsearch", "status"],
        cwd=folder,
        env=programs.environment(),
        capture_output=True,
        text=True,
        timeout=programs.PATIENCE,
        check=True,
    )
    modules = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "typer" in modules
    assert modules & HEAVY == set()


def test_training_on_mnist_imports_what_it_uses(tmp_path: Path, mnist_root: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    commands: list[Command] = [
        ("create", "tiny.toml"),
        ("worker", "tiny", "--max-trials", "1"),
        ("evaluate", "tiny", "--rounds", "1"),
    ]
    for command, (code, said, modules) in zip(
        commands, ran(tmp_path, commands, PAIRSEARCH_DATA=str(mnist_root)), strict=True
    ):
        assert code == 0, said
        assert modules & NEEDLESS == set(), command
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
    working.worker(["tiny", "other"])
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
