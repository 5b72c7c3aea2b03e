"""Workers of a run are forked from it, unless a problem forbids that; those that die are replaced."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import programs
import pytest
from project import FIT, Project, values

LOOKING = """
import json, os, random, threading, time
from pathlib import Path

import numpy
import torch

class Mine:
    def fit(self, params, run, report):
        if run.index == 0:
            facts = {{
                "pid": os.getpid(),
                "anew": b"--attached" in Path("/proc/self/cmdline").read_bytes(),
                "python": random.random(),
                "numpy": numpy.random.rand(),
                "threads": [thread.name for thread in threading.enumerate()],
                "open": {{entry.name: os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}},
            }}
            Path("facts.new").with_suffix(f".{{os.getpid()}}").write_text(json.dumps(facts))
            Path("facts.new").with_suffix(f".{{os.getpid()}}").rename(f"facts-{{params['x']}}.json")
            # Until each worker has one.
            while len({{json.loads(file.read_text())["pid"] for file in Path().glob("facts-*.json")}}) < {workers}:
                time.sleep(0.01)
        torch.manual_seed(run.stream("weights"))
        for epoch in range(1, run.epochs + 1):
            report(epoch, loss=torch.nn.Linear(8, params["x"])(torch.rand(16, 8)).square().mean().item())
"""


def looked(project: Project) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(project.folder.glob("facts-*.json"))]


def test_forked_workers_compute_and_draw_what_a_fresh_process_does(
    on_sqlite: Project, tmp_path: Path
) -> None:
    on_sqlite.write(LOOKING.format(workers=2), problem="mine.py:Mine")
    ended = on_sqlite.run("run", "mine.toml", "--workers", "2", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    first, second = looked(on_sqlite)
    assert [facts["anew"] for facts in (first, second)] == [False, False]
    assert first["pid"] != second["pid"]
    assert [first[name] for name in ("python", "numpy")] == [second[name] for name in ("python", "numpy")]
    for facts in (first, second):
        assert sorted(facts["threads"]) == ["MainThread", "heartbeat", "parent", "signals"]
        assert "pipe:" in facts["open"]["0"]
        assert facts["open"]["1"] == facts["open"]["2"], "both into its log"
        streams = {str(on_sqlite.folder / name) for name in ("out", "err")}
        assert not streams & set(facts["open"].values()), "it holds nothing open for the readers of the run"
    assert first["open"]["1"] != second["open"]["1"]
    workers = {name for (name,) in on_sqlite.rows("runs", "worker")}
    assert {int(name.split(":")[-2]) for name in workers} == {first["pid"], second["pid"]}
    assert len({name.split(":")[-1] for name in workers}) == 2

    fresh = Project(tmp_path / "fresh", f"sqlite:///{tmp_path / 'fresh.db'}")
    fresh.write(LOOKING.format(workers=1), problem="mine.py:Mine")
    fresh.create()
    worker = programs.start(fresh.folder, "worker", "mine.toml", PAIRSEARCH_STORAGE=fresh.url)
    out, err = worker.communicate(timeout=programs.PATIENCE)
    assert (worker.returncode, err) == (0, ""), out
    figures = [project.rows("runs", "key, run, figures", "order by 1, 2") for project in (on_sqlite, fresh)]
    fresh.close()
    assert figures[0] == figures[1]


THREAD = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
WARMING = """
import subprocess, threading
from pairsearch.search.workers.forking import Zygote

HELD = []
print(Zygote(print, warm=lambda: {held}).ready("cpu"))
"""


@pytest.mark.parametrize(
    ("held", "ready"),
    [
        ("None", True),
        (THREAD, False),
        ("HELD.append(open(__file__))", False),
        ("HELD.append(subprocess.Popen(['sleep', '60']))", False),
    ],
    ids=["nothing", "a thread", "a file", "a process"],
)
def test_a_process_that_holds_what_does_not_outlive_a_fork_is_not_forked_from(
    tmp_path: Path, held: str, ready: bool
) -> None:
    (tmp_path / "warming.py").write_text(WARMING.format(held=held))
    ended = programs.run(tmp_path, module="warming.py")
    assert (ended.code, ended.out, ended.err) == (0, f"{ready}\n", "")


def test_where_workers_cannot_be_forked_they_are_started_anew(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
        import threading
        from pathlib import Path

        class Mine:
            def __init__(self):
                threading.Thread(target=threading.Event().wait, daemon=True).start()

            def fit(self, params, run, report):
                report(1, loss=float(b"--attached" in Path("/proc/self/cmdline").read_bytes()))
        """,
        problem="mine.py:Mine",
        epochs=1,
    )
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1", "--quiet")
    assert ended.code == 0, ended.err
    assert values(on_sqlite.rows("configurations", "value")) == [1.0, 1.0]


DEATHS = {
    "os._exit(0)": "exit code 0",
    "os._exit(7)": "exit code 7",
    "ctypes.string_at(0)": "killed by signal 11",
    "os.kill(os.getpid(), signal.SIGKILL)": "killed by signal 9",
}
DYING = """
import ctypes, os, signal, sys
from pathlib import Path

def fit(params, run, report):
    if params["x"] == 2 and ({always} or not Path("died").exists()):
        Path("died").touch()
        print("my last words", file=sys.stderr)
        {death}
    mine(params, run, report)
"""


@pytest.mark.parametrize("death", DEATHS)
def test_a_worker_that_dies_is_replaced_and_what_it_held_is_named(on_sqlite: Project, death: str) -> None:
    on_sqlite.write(DYING.format(always=False, death=death) + FIT.replace("fit", "mine"))
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1", "--lease", "1", "--quiet")
    assert ended.code == 0, ended.err
    (line,) = ended.err.splitlines()
    assert line.startswith("worker ")
    assert line.endswith(
        f" ended ({DEATHS[death]}): my last words; it held x=2 of study mine; another takes its place"
    )
    assert sorted(values(on_sqlite.rows("configurations", "state"))) == ["finished"] * 2
    assert on_sqlite.rows("configurations", "sum(lapses)") == [(1,)]


def test_what_ends_a_process_before_it_claims_does_not_end_the_run(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
        import ctypes

        class Mine:
            def prove(self, device):
                ctypes.string_at(0)

            def fit(self, params, run, report):
                report(1, loss=0.0)
        """,
        problem="mine.py:Mine",
        epochs=1,
    )
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1", "--quiet")
    first, second, last = ended.err.splitlines()
    assert ended.code == 1
    assert first.endswith(" ended (killed by signal 11); it held no configuration; another takes its place")
    assert second.endswith("; it is not replaced, as so many have died already")
    assert last.startswith("error: workers ended with configurations left (mine 2)")


def test_as_many_workers_as_there_are_at_first_are_replaced(on_sqlite: Project) -> None:
    on_sqlite.write(DYING.format(always=True, death="os._exit(1)") + FIT.replace("fit", "mine"))
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1", "--lease", "1", "--quiet")
    first, second, last = ended.err.splitlines()
    assert ended.code == 1
    assert first.endswith("it held x=2 of study mine; another takes its place")
    assert second.endswith("it held x=2 of study mine; it is not replaced, as so many have died already")
    # The second took the next fold of the same configuration.
    assert last == "error: workers ended with configurations left (mine 2): run it again to go on"
    assert set(values(on_sqlite.rows("configurations", "state"))) <= {"pending", "running"}


ENDING = """
import atexit, tempfile
from pathlib import Path

class Mine:
    def __init__(self):
        self.shared = tempfile.TemporaryDirectory()
        atexit.register(lambda: print("the end of the run"))

    def fit(self, params, run, report):
        assert Path(self.shared.name).is_dir()
        self.own = tempfile.TemporaryDirectory()
        atexit.register(Path("ended").touch)
        with Path("folders").open("a") as file:
            file.write(f"{self.shared.name}\\n{self.own.name}\\n")
        report(1, loss=0.0)
"""


def test_a_worker_tidies_up_what_it_made_and_leaves_what_the_run_made(on_sqlite: Project) -> None:
    on_sqlite.write(ENDING, problem="mine.py:Mine", epochs=1, grid={"x": [1, 2, 3, 4]})
    ended = on_sqlite.run("run", "mine.toml", "--workers", "2", "--quiet")
    assert ended.code == 0, ended.err
    assert (on_sqlite.folder / "ended").exists()
    assert ended.err == ""
    shared, own = [set((on_sqlite.folder / "folders").read_text().splitlines()[start::2]) for start in (0, 1)]
    assert len(shared) == 1
    assert not any(Path(folder).exists() for folder in own)


FLOODING = """
import os, time

class Mine:
    def __init__(self):
        self.run = os.getpid()

    def fit(self, params, run, report):
        for _ in range(100):
            os.write(2, b"a line of no use\\n" * 2**16)
        report(1, loss=0.0)
        with open(f"/proc/{self.run}/status") as file:
            (peak,) = (line for line in file if line.startswith("VmHWM:"))
        with open("peaks", "a") as file:
            file.write(peak.split()[1] + "\\n")
        # The run cuts it every now and then.
        while os.fstat(2).st_size > 2**20:
            time.sleep(0.01)
"""


def test_a_flood_of_printed_lines_costs_a_run_neither_memory_nor_disk(on_sqlite: Project) -> None:
    on_sqlite.write(FLOODING, problem="mine.py:Mine", epochs=1, folds=4, grid={"x": [1]})
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1", "--quiet")
    assert ended.code == 0, ended.err
    first, *_, last = map(int, (on_sqlite.folder / "peaks").read_text().split())
    assert last - first < 10 * 1024, "KiB"


MEETING = """
import os, time
from pathlib import Path

def fit(params, run, report):
    if run.kind == "round" and run.index < 3:
        Path(f"met-{os.getpid()}").touch()
        while len(list(Path().glob("met-*"))) < 3:
            time.sleep(0.01)
    for epoch in range(1, run.epochs + 1):
        report(epoch, loss=run.stream("noise") / 2**32)
        if run.index >= 5:
            Path(f"waits-{os.getpid()}").touch()
            time.sleep(0.02)
"""


def test_rounds_are_trained_by_several_processes_which_all_end_with_the_evaluation(
    on_sqlite: Project,
) -> None:
    on_sqlite.write(MEETING, grid={"x": [1]}, evaluation={"rounds": 5, "epochs": 1000})
    assert on_sqlite.run("run", "mine.toml", "--workers", "1", "--quiet").code == 0
    ended = on_sqlite.run("evaluate", "mine.toml", "--workers", "3", "--no-models", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    rounds = on_sqlite.rows("runs", "run, worker", "where kind = 'round' order by run")
    assert [run for run, _ in rounds] == list(range(5))
    processes = {int(worker.split(":")[-2]) for _, worker in rounds}
    assert processes == {int(file.name.removeprefix("met-")) for file in on_sqlite.folder.glob("met-*")}

    arguments = ("evaluate", "mine.toml", "--workers", "3", "--rounds", "9", "--no-models", "--quiet")
    evaluation = programs.start_forked(on_sqlite.folder, *arguments, PAIRSEARCH_STORAGE=on_sqlite.url)
    programs.wait_for(lambda: len(list(on_sqlite.folder.glob("waits-*"))) == 3, "three processes that train")
    os.kill(evaluation.pid or 0, signal.SIGINT)
    assert programs.ended(evaluation, on_sqlite.folder).code == 130
    for file in on_sqlite.folder.glob("waits-*"):
        assert not Path("/proc", file.name.removeprefix("waits-")).exists()
    states = on_sqlite.rows("jobs", "state, lapses", "where kind = 'round' and first >= 5")
    assert set(states) == {("pending", 0)}
