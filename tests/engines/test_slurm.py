"""Studies on a real Slurm of one node: searched, evaluated, and nothing secret in what it shows."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import programs
import promise
import psutil
import pytest
import slurm_cluster
import tiny
from gathered import PASSWORD
from slurm_cluster import ask

from pairsearch.search.common.errors import InputError
from pairsearch.search.database.connection import Database
from pairsearch.search.engines.contract import EngineError, Order
from pairsearch.search.engines.slurm import Slurm

Shown = Callable[[], Iterator[tuple[str, bytes]]]


@pytest.fixture
def shown(configuration: Path, tmp_path: Path, storage: Path) -> Shown:
    """What Slurm and the system show of jobs: names, and what stands there."""

    def look() -> Iterator[tuple[str, bytes]]:
        for words in (
            ["scontrol", "show", "job", "-dd"],
            ["scontrol", "show", "step"],
            ["squeue", "-O", "ALL"],
        ):
            yield " ".join(words), ask(configuration, *words).encode()
        for folder in (configuration.parent, tmp_path):
            for path in folder.rglob("*"):
                # Nobody may read the lock of munge.
                if path.is_file() and path != storage and path.stat().st_mode & 0o444:
                    yield str(path), path.read_bytes()
        for process in psutil.process_iter(["cmdline", "environ"]):
            words, variables = process.info["cmdline"] or [], process.info["environ"] or {}
            if "SLURM_JOB_ID" in variables:
                yield f"arguments and environment of {process.pid}", f"{words} {variables}".encode()

    return look


def test_tasks_search_and_evaluate_a_study_and_show_no_password(
    tmp_path: Path, database: Database, storage: Path, configuration: Path, shown: Shown
) -> None:
    expected = promise.undisturbed(tmp_path / "alone", promise.create_own, ["--top", "1"], rest=0)
    study = tmp_path / "study"
    file = promise.create_own(study, storage.read_text(), rest=0.02)
    # Python that reads this variable is told so by the user: it must not reach Slurm either.
    variables = {"PAIRSEARCH_STORAGE_FILE": str(storage), "PGPASSWORD": PASSWORD}
    where = ("--on", "slurm", "--at", str(configuration), "--workers")
    running = programs.start_forked(study, "run", str(file), *where, "2", **variables)
    programs.wait_for(lambda: tiny.states(database)["finished"] > 0, "a finished configuration", 120)
    places = {name for name, content in shown() if PASSWORD.encode() in content}
    assert not places
    assert any(name.startswith("arguments and environment") for name, _ in shown())
    done = programs.ended(running, study, patience=120)
    assert done.code == 0, done.err
    assert "slurm: 2 workers submitted" in done.out
    done = programs.run(study, "evaluate", str(file), "--top", "1", *where, "1", **variables)
    assert done.code == 0, done.err
    assert "2 rounds" in done.out
    promise.assert_kept(database, expected, promise.OWN_POINTS)
    assert ask(configuration, "squeue", "-h") == ""
    assert not {name for name, content in shown() if PASSWORD.encode() in content}
    logs = list(study.glob("pairsearch-*_*.log"))
    assert len(logs) == 2 + 1


def test_options_of_sbatch_go_over_ours_and_those_that_would_break_it_are_refused(
    tmp_path: Path, configuration: Path
) -> None:
    address = str(configuration)
    for name in ("array", "wrap", "export", "test-only"):
        with pytest.raises(InputError, match=f"--option {name}: pairsearch decides this one"):
            Slurm(address, {name: "1"})
    with pytest.raises(InputError, match=r"--at none\.conf: no such file"):
        Slurm("none.conf", {})
    order = Order(("--version",), {}, tmp_path, name="pairsearch-options")
    engine = Slurm(address, {"time": "01:30:00", "no-requeue": "", "hold": "", "comment": "a, b"})
    [(native, number)] = engine.submit(order, 2).items()
    try:
        assert number == 2
        told = ask(configuration, "scontrol", "show", "job", native)
        wanted = (
            "JobName=pairsearch-options",
            "TimeLimit=01:30:00",
            "Requeue=0",
            "Comment=a, b",
            "NumCPUs=1",
        )
        assert [words for words in wanted if words not in told] == []
        assert engine.count([native])[native] == (2, 0)
    finally:
        engine.stop([native])
    assert engine.count([native])[native] == (0, 0)
    with pytest.raises(EngineError, match="unrecognized option '--nope=1'"):
        Slurm(address, {"nope": "1"}).check(order, 1)


def test_a_machine_without_slurm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"cannot run sbatch .*a login node"):
        Slurm(None, {}).check(Order(("--version",), {}, tmp_path), 1)


def workers_in(folder: Path) -> int:
    """How many processes of Python's work in a folder, which the scripts start after they have set their traps."""
    found = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            # Not by `exe`, which psutil remembers: of a process that was a shell when it was first seen, for good.
            if process.cwd() == str(folder):
                found += Path([*process.cmdline(), ""][0]).name.startswith("python")
    return found


def test_a_stopped_array_does_not_come_back(tmp_path: Path, configuration: Path) -> None:
    """A task that is being queued again at its time limit is no exception."""
    url = f"postgresql://nobody@127.0.0.1:{slurm_cluster.free_ports(1)[0]}/nowhere"
    order = Order(("worker", "b1", "--patience", "600"), {"PAIRSEARCH_STORAGE": url}, tmp_path)
    engine = Slurm(str(configuration), {})
    [native] = engine.submit(order, 2)
    programs.wait_for(lambda: engine.count([native])[native] == (0, 2), "two tasks that run")
    signal = ("scancel", "--batch", "--signal=USR1", f"{native}_1")
    programs.wait_for(lambda: workers_in(tmp_path) == 2, "scripts that have set their traps")
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    subprocess.run(signal, env=environment, check=True)
    programs.wait_for(lambda: engine.count([native])[native] == (1, 1), "a task that is queued again")
    engine.stop([native])
    programs.wait_for(lambda: engine.count([native])[native] == (0, 0), "their end")
    assert ask(configuration, "squeue", "-h") == ""
