"""Each run in a process of its own: what it breaks, leaks, holds or leaves does not reach the worker or other runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import programs
import pytest
import tiny
from project import FIT, Project, values

from pairsearch.search.common.errors import WorkError
from pairsearch.search.database.connection import Database
from pairsearch.search.workers import isolation
from pairsearch.search.workers.failure import RunError, TimeLimitError
from pairsearch.search.workers.isolation import Isolation, isolated
from pairsearch.search.workers.recorder import Trained, train
from pairsearch.search.workers.rehearsal import Held
from pairsearch.search.workers.rounds import Rounds
from pairsearch.studies.definition import Definition, parse
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.loading import Loaded, load

BREAKS = """
import ctypes, os, signal, subprocess, sys, time

def fit(params, run, report):
    what = params["what"]
    report(1, loss=1.0)
    if what == "hangs":
        time.sleep(1000)
    if what == "ignores":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):
            signal.signal(number, signal.SIG_IGN)
        while True:
            pass
    if what == "segfault":
        ctypes.string_at(0)
    if what == "exits":
        os._exit(3)
    if what == "sys.exit":
        sys.exit(3)
    if what == "raises":
        raise KeyError("no such image")
    if what == "goes on twice":
        os.fork()
    report(2, loss=0.5)
"""
REASONS = {
    "hangs": "longer than the time limit of 2 s, after 0 of 1 folds",
    "ignores": "longer than the time limit of 2 s, after 0 of 1 folds",
    "segfault": "the process of the run was killed by SIGSEGV",
    "exits": "the process of the run ended with exit code 3 before the training did",
    "sys.exit": "RuntimeError: sys.exit(3) was called (mine.py, line 19)",
    "raises": "KeyError: 'no such image' (mine.py, line 21)",
    "goes on twice": None,
    "good": None,
}


def test_what_breaks_or_hangs_is_a_failed_run_and_never_a_dead_worker(on_sqlite: Project) -> None:
    on_sqlite.write(BREAKS, folds=1, time_limit=2, grid={"what": [*REASONS]})
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 1, ended.err
    assert "another takes its place" not in ended.err
    found = on_sqlite.rows("configurations", "params, reason")
    assert {tiny.json.loads(params)["what"]: reason for params, reason in found} == REASONS
    took = values(on_sqlite.rows("failures", "job_id", "where reason like 'longer%'"))
    assert len(took) == 2, "a time limit is not tried again"


LEAKS = """
import locale, os, random, signal, threading, time

LEAKED = []
descriptors = len(os.listdir("/proc/self/fd"))

def dirt():
    return [
        len(LEAKED),
        os.getcwd() == "/",
        threading.active_count() - 1,
        signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL,
        "LEAKED" in os.environ,
        locale.setlocale(locale.LC_NUMERIC) == "C.UTF-8",
        max(0, len(os.listdir("/proc/self/fd")) - descriptors - 20),
    ]

def fit(params, run, report):
    before = dirt()
    LEAKED.append(bytearray(10**7))
    os.chdir("/")
    threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.environ["LEAKED"] = "1"
    locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
    for _ in range(100):
        os.dup(0)
    after = dirt()
    report(1, loss=float(sum(map(bool, before))), left=float(sum(map(bool, after))))
"""


def test_nothing_that_a_run_leaves_in_its_process_reaches_the_next(on_sqlite: Project) -> None:
    on_sqlite.write(LEAKS, epochs=1, isolate=True, metrics={"loss": {}, "left": {}})
    assert on_sqlite.search().finished == 2
    figures = [tiny.json.loads(text) for text in values(on_sqlite.rows("runs", "figures"))]
    assert figures == [{"loss": 0.0, "left": 7.0}] * 6


PROCESSES = """
import os, subprocess, sys, time
from pathlib import Path

def note(pid):
    with Path(__file__).with_name("pids").open("a") as file:
        file.write(f"{pid}\\n")

def fit(params, run, report):
    note(os.getpid())
    note(os.getppid())
    note(subprocess.Popen(["sleep", "1000"]).pid)
    note(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)
    if (child := os.fork()) == 0:
        time.sleep(1000)
    note(child)
    note("all")
    if params["x"] == 1:
        time.sleep(1000)
    report(1, loss=1.0)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def noted(folder: Path) -> list[str]:
    with suppress(OSError):
        return (folder / "pids").read_text().split()
    return []


def hanging(project: Project, **changes: object) -> Any:
    """Start a worker, and return it once its run hangs with children of its own."""
    project.write(PROCESSES, epochs=1, folds=1, isolate=True, grid={"x": [1]}, **changes)
    project.create()
    process = programs.start_forked(
        project.folder, "worker", "mine.toml", "--lease", "2", PAIRSEARCH_STORAGE=project.url
    )
    programs.wait_for(lambda: "all" in noted(project.folder), "the run")
    return process


def test_processes_that_a_run_leaves_end_with_it(on_sqlite: Project) -> None:
    on_sqlite.write(PROCESSES, epochs=1, folds=1, isolate=True, grid={"x": [2, 3]})
    assert on_sqlite.search().finished == 2
    pids = [int(one) for one in noted(on_sqlite.folder) if one != "all"]
    assert len(pids) == 10
    assert not any(map(alive, pids))


def test_a_killed_worker_leaves_no_process_and_the_next_one_trains_the_run(on_sqlite: Project) -> None:
    worker = hanging(on_sqlite)
    pids = [int(one) for one in noted(on_sqlite.folder) if one != "all"]
    assert all(map(alive, pids))
    worker.kill()
    worker.join()
    programs.wait_for(lambda: not any(map(alive, pids)), "the end of all processes")
    on_sqlite.write(FIT, folds=1, epochs=1, isolate=True, grid={"x": [1]}, allow_changed_files=True)
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 0, ended.err
    assert on_sqlite.states() == {"finished": 1}
    assert len(on_sqlite.rows("runs", "key")) == 1


def test_a_worker_that_is_told_to_end_does_not_wait_for_a_run_that_never_reports(on_sqlite: Project) -> None:
    worker = hanging(on_sqlite)
    worker.terminate()
    ended = programs.ended(worker, on_sqlite.folder, patience=20.0)
    assert (ended.code, on_sqlite.states()) == (0, {"pending": 1}), ended.err
    assert "1 handed back" in ended.out
    assert not any(alive(int(one)) for one in noted(on_sqlite.folder) if one != "all")


def test_a_run_whose_watcher_is_killed_dies_with_it_and_is_tried_again(on_sqlite: Project) -> None:
    worker = hanging(on_sqlite, time_limit=10)
    run, nursery, *_ = map(int, noted(on_sqlite.folder)[:2])
    os.kill(nursery, signal.SIGKILL)
    programs.wait_for(lambda: not alive(run), "the end of the run")
    ended = programs.ended(worker, on_sqlite.folder)
    assert ended.code == 1
    assert "the process of the run was killed with the one that watches it (to be tried again)" in ended.out
    assert values(on_sqlite.rows("configurations", "reason")) == [
        "longer than the time limit of 10 s, after 0 of 1 folds"
    ]


SAVES = """
import random
import numpy as np
import time
from pairsearch import OneByOne

class Saves(OneByOne):
    def fit(self, params, run, report):
        found = run.checkpoint.load()
        done, state = found or (0, {"sum": np.zeros(2)})
        total = state["sum"]
        for epoch in range(done + 1, run.epochs + 1):
            time.sleep(params["pause"])
            total = total + [run.stream(str(epoch)) / 2**32, 1.0]
            report(epoch, loss=total[0])
            if run.checkpoint.wanted or epoch % 50 == 0:
                run.checkpoint.save(epoch, {"sum": total})
        return {"sum": total}
"""


def test_checkpoints_go_through_the_worker_and_the_run_goes_on_elsewhere(project: Project) -> None:
    changes: dict[str, Any] = {"problem": "mine.py:Saves", "folds": 1, "epochs": 60}
    project.write(SAVES, isolate=True, grid={"pause": [0.05]}, **changes)
    project.create()
    worker = programs.start_forked(project.folder, "worker", "mine.toml", PAIRSEARCH_STORAGE=project.url)
    programs.wait_for(lambda: "running" in project.states(), "a claim")
    time.sleep(0.5)
    worker.terminate()
    ended = programs.ended(worker, project.folder)
    assert (ended.code, project.states()) == (0, {"pending": 1}), ended.err
    ((epoch,),) = project.rows("checkpoints", "epoch")
    assert 0 < epoch < 50
    ended = project.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 0, ended.err
    loaded = project_problem(project, grid={"pause": [0.0]}, **changes)
    [whole] = train(loaded, {"pause": 0.0}, loaded.definition.runs("fold"), lambda _: True).runs
    ((figures,),) = project.rows("runs", "figures")
    assert tiny.json.loads(figures)["loss"] == whole.curves["loss"][-1]


def project_problem(project: Project, **changes: Any) -> Loaded:
    """Load the problem of the folder, in this process."""
    fields = {"name": "alone", "metric": "loss", "problem": "mine.py:fit", "grid": {"x": [1]}, **changes}
    return load(parse(fields, "alone"), project.folder)


@pytest.fixture(params=["forked", "started"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs are forked from what this process has loaded, or from a program that is started for them."""
    monkeypatch.setattr("pairsearch.search.workers.nursery.forkable", lambda: request.param == "forked")
    return str(request.param)


def both(given: Definition, folder: Path, params: dict[str, Any], *kinds: Any) -> Iterator[Sequence[Trained]]:
    """Of each kind, train the runs of a study in processes of their own, and in this one."""
    found = []
    for isolate in (True, False):
        loaded = load(given.model_copy(update={"isolate": isolate}), folder)
        with isolated(loaded) as trained:
            assert (trained.trainer is not None) == isolate
            found.append([train(trained, params, given.runs(kind), lambda _: True) for kind in kinds])
    return zip(*found, strict=True)


DRAWS = """
import random
import numpy as np
import torch
from pairsearch import Metric, OneByOne

class Draws(OneByOne):
    metrics = {"loss": Metric(), "other": Metric()}
    def fit(self, params, run, report):
        weight = torch.rand(3, dtype=torch.float32)
        for epoch in range(1, run.epochs + 1):
            report(epoch, loss=random.random() + np.random.rand(), other=torch.rand(1) if epoch > 1 else float("nan"))
        return {"weight": weight, "shared": weight[:2]} if run.index else {"array": np.arange(3.0), "more": np.ones(())}
"""


def test_figures_and_weights_are_the_same_bits_either_way(on_sqlite: Project, either_way: str) -> None:
    on_sqlite.write(DRAWS)
    given = project_problem(on_sqlite, problem="mine.py:Draws", metric="loss", folds=2, epochs=3).definition
    given = given.model_copy(update={"evaluation": given.evaluation.model_copy(update={"rounds": 2})})
    folds, rounds = both(given, on_sqlite.folder, {"x": 1}, "fold", "round")
    for apart, here in (folds, rounds):
        # NaN equals itself there.
        assert [repr(run.curves) for run in apart.runs] == [repr(run.curves) for run in here.runs]
    for one, other in zip(*(trained.weights for trained in rounds), strict=True):
        assert one is not None
        assert other is not None
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert (value.dtype, value.shape) == (other[name].dtype, other[name].shape)
            assert value.tolist() == other[name].tolist()


def test_shipped_problems_give_the_same_bits_too(tmp_path: Path, either_way: str) -> None:
    given = tiny.definition(folds=2, epochs=2, data="digits")
    params = dict(given.grid.configurations()[0].params)
    [(apart, here)] = both(given, tmp_path, params, "fold")
    assert apart.runs == here.runs


def isolation_of(project: Project, code: str, **changes: Any) -> Loaded:
    project.write(code)
    return project_problem(project, isolate=True, **{"epochs": 2, "folds": 1} | changes)


def attempt(loaded: Loaded, stopping: threading.Event | None = None, **params: Any) -> Trained:
    with isolated(loaded, stopping=stopping) as trained:
        return train(trained, params, loaded.definition.runs("fold"), lambda _: True)


STUBBORN = """
import time
from pathlib import Path

def fit(params, run, report):
    while True:
        try:
            Path(__file__).with_name("begun").touch()
            time.sleep(1000)
        except BaseException:
            Path(__file__).with_name("asked").touch()
"""


def test_a_run_that_does_not_end_when_it_is_asked_to_is_killed(
    on_sqlite: Project, either_way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "END_SECONDS", 0.5)
    loaded, stopping = isolation_of(on_sqlite, STUBBORN), threading.Event()

    def stop() -> None:
        programs.wait_for((on_sqlite.folder / "begun").exists, "the run")
        stopping.set()

    thread = threading.Thread(target=stop)
    thread.start()
    found = attempt(loaded, stopping, x=1)
    thread.join()
    assert (found.stopped, found.runs) == (True, ())
    assert (on_sqlite.folder / "asked").exists()


def test_a_time_limit_is_kept_to_the_second(on_sqlite: Project, either_way: str) -> None:
    loaded = isolation_of(on_sqlite, STUBBORN, time_limit=1.5)
    with isolated(loaded) as trained:
        for _ in range(2):  # the first waits for its program to start, where it is started
            began = time.monotonic()
            with pytest.raises(
                TimeLimitError, match=r"longer than the time limit of 1\.5 s, after 0 of 1 folds"
            ):
                train(trained, {"x": 1}, loaded.definition.runs("fold"), lambda _: True)
            assert 1.5 <= time.monotonic() - began < 5.0


def test_an_exception_keeps_its_line_and_its_traceback(on_sqlite: Project, either_way: str) -> None:
    loaded = isolation_of(on_sqlite, "def fit(params, run, report):\n    report(1, loss=1 / 0)\n")
    with pytest.raises(RunError, match=r"ZeroDivisionError: division by zero \(mine\.py, line 2\)") as raised:
        attempt(loaded, x=1)
    assert raised.value.traceback is not None
    assert "report(1, loss=1 / 0)" in raised.value.traceback


REPORTS = """
import numpy as np

def fit(params, run, report):
    refused = []
    for epoch, figures in [(np.int64(1), {"loss": 1.0}), (1, {"los": 1.0}), (1, {"loss": "a"}), (3, {"loss": 1.0})]:
        try:
            report(epoch, **figures)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) == 4, refused
    report(1, loss=np.float32(0.1))
    try:
        report(np.int64(2), loss=1.0)
    except ValueError as error:
        refused.append(str(error))
    raise RuntimeError(" / ".join(refused))
"""


def test_a_report_that_cannot_be_meant_is_refused_in_the_run(on_sqlite: Project) -> None:
    loaded = isolation_of(on_sqlite, REPORTS)
    with pytest.raises(RunError) as raised:
        attempt(loaded, x=1)
    for part in (
        "expected an epoch as an integer above 0, got np.int64(1)",
        "expected an epoch as an integer above 1, got np.int64(2)",
        "figure 'los' is not one of",
        "figure 'loss' is no number",
        "at most 2",
    ):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "attribute", "expected"),
    [
        ({}, None, False),
        ({"time_limit": 5}, None, True),
        ({"time_limit": 5, "isolate": False}, None, False),
        ({"isolate": True}, None, True),
        ({}, True, True),
        ({"time_limit": 5}, False, False),
        ({"isolate": False}, True, False),
    ],
)
def test_a_definition_says_which_runs_have_processes_of_their_own(
    on_sqlite: Project, changes: dict[str, Any], attribute: bool | None, expected: bool
) -> None:
    on_sqlite.write(
        f"""
        from pairsearch import OneByOne
        class Mine(OneByOne):
            isolated = {attribute}
            def fit(self, params, run, report):
                report(1, loss=1.0)
        """
    )
    loaded = project_problem(on_sqlite, problem="mine.py:Mine", **changes)
    assert loaded.isolated == expected
    assert loaded.definition.results_depend_on.keys().isdisjoint({"isolate"})


CONSTRUCTED = """
import threading, time
from pairsearch import OneByOne

class Mine(OneByOne):
    def __init__(self, factor=1.0):
        self.factor = factor
        self.queue = []
        threading.Thread(target=self.feed, name="feeder", daemon=True).start()

    def feed(self):
        while True:
            self.queue.append(self.factor)
            time.sleep(0.01)

    def fit(self, params, run, report):
        while not self.queue:
            time.sleep(0.01)
        seen = len(self.queue)
        while len(self.queue) == seen:
            time.sleep(0.01)
        report(1, loss=self.queue[-1])
"""


def test_a_problem_with_threads_of_its_own_is_loaded_in_each_run(on_sqlite: Project) -> None:
    """A forked process has none of them, and would wait for ever."""
    on_sqlite.write(CONSTRUCTED, problem="mine.py:Mine", epochs=1, isolate=True, settings={"factor": 3.0})
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 0, ended.err
    assert set(values(on_sqlite.rows("configurations", "value"))) == {3.0}


def test_check_and_evaluate_train_in_processes_of_their_own(on_sqlite: Project) -> None:
    code = FIT.replace("    for", "    import os\n    assert os.getsid(0) == os.getppid()\n    for", 1)
    on_sqlite.write(code, isolate=True)
    checked = on_sqlite.run("check", "mine.toml", "--points", "1")
    assert checked.code == 0, checked.out + checked.err
    assert on_sqlite.run("run", "mine.toml", "--workers", "2").code == 0
    ended = on_sqlite.run("evaluate", "mine.toml", "--workers", "1")
    assert ended.code == 0, ended.err
    assert len(on_sqlite.rows("runs", "key")) == 8
    on_sqlite.write(code, isolate=False)
    assert "AssertionError" in on_sqlite.run("check", "mine.toml", "--points", "1").err


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    "either_way", ["started"], indirect=True
)  # what it is forked from has its own memory
def test_peak_memory_of_a_run_is_the_worker_s_to_know(on_sqlite: Project) -> None:
    loaded = isolation_of(
        on_sqlite, "def fit(params, run, report):\n    held = bytearray(3 * 10**8)\n    report(1, loss=1.0)\n"
    )
    with isolated(loaded) as trained:
        train(trained, {"x": 1}, loaded.definition.runs("fold"), lambda _: True)
        assert isinstance(trained.trainer, Isolation)
        assert trained.trainer.memory > 3 * 10**8


POLLS = """
import time

def fit(params, run, report):
    while True:
        time.sleep(0.01)
        run.poll()
"""


@pytest.mark.parametrize("isolate", [False, True])
def test_a_run_that_asks_between_reports_is_ended_there(on_sqlite: Project, isolate: bool) -> None:
    on_sqlite.write(POLLS)
    loaded = project_problem(on_sqlite, isolate=isolate)
    with isolated(loaded) as trained:
        ended = train(
            trained, {"x": 1}, loaded.definition.runs("fold", [0]), lambda one: not one.polled, keeper=Held()
        )
    assert ended.stopped
    assert ended.runs == ()


def test_a_time_limit_ends_a_run_that_asks_between_reports(on_sqlite: Project) -> None:
    on_sqlite.write(POLLS)
    loaded = project_problem(on_sqlite, isolate=False, time_limit=0.2)
    with pytest.raises(TimeLimitError, match=r"longer than the time limit of 0\.2 s, after 0 of 10 folds"):
        train(loaded, {"x": 1}, loaded.definition.runs("fold", [0]), lambda _: True, keeper=Held())


def test_what_is_impossible_is_told_through_the_worker(on_sqlite: Project) -> None:
    code = """
    from pairsearch import Impossible

    def fit(params, run, report):
        raise Impossible("no such model")
    """
    on_sqlite.write(code, isolate=True)
    assert on_sqlite.search().failed == 2
    assert (
        values(on_sqlite.rows("configurations", "reason"))
        == ["Impossible: no such model (mine.py, line 5)"] * 2
    )


def test_facts_that_a_round_has_found_are_told_through_the_worker(on_sqlite: Project) -> None:
    on_sqlite.write("""
    def objective(trial):
        trial.set_user_attr("weights", 42)
        return trial.suggest_float("x", 0, 9)
    """)
    loaded = project_problem(on_sqlite, problem="mine.py:objective", isolate=True)
    with isolated(loaded) as trained:
        [found] = Rounds(trained)(loaded.definition.grid.configurations()[0], [0])
        assert found.result.facts == {"weights": "42"}
        assert trained.describe({"x": 2}) == {}


def test_a_run_that_somebody_else_ends_is_a_failed_attempt(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
    import os, signal

    def fit(params, run, report):
        os.kill(os.getpid(), signal.SIGTERM)
        report(1, loss=1.0)
    """,
        isolate=True,
        folds=1,
        grid={"x": [1]},
    )
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 1
    assert "told to end (SIGTERM), and not by its worker" in ended.err


def test_threads_that_a_run_leaves_end_with_it(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
    import threading, time

    def fit(params, run, report):
        threading.Thread(target=time.sleep, args=[1000]).start()
        report(1, loss=1.0)
    """,
        isolate=True,
        epochs=1,
    )
    began = time.monotonic()
    assert on_sqlite.search().finished == 2
    assert time.monotonic() - began < isolation.END_SECONDS


@pytest.mark.parametrize("isolate", [False, True])
def test_an_exception_whose_text_is_no_utf_8_is_a_failed_attempt(on_sqlite: Project, isolate: bool) -> None:
    on_sqlite.write(
        """
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    def fit(params, run, report):
        if params["x"] == 1:
            raise ValueError("no file \\udcff")
        raise Odd
    """,
        isolate=isolate,
        folds=1,
        grid={"x": [1, 2]},
    )
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 1
    assert sorted(values(on_sqlite.rows("configurations", "reason"))) == [
        "Odd: its message cannot be made (mine.py, line 9)",
        "ValueError: no file \\udcff (mine.py, line 8)",
    ]


FINDS = """
import gc, json, os, signal, threading
from pathlib import Path

with Path(__file__).with_name("loaded").open("a") as file:
    file.write(f"{os.getsid(0) == os.getpid()} {os.getcwd()}\\n")

def fit(params, run, report):
    facts = {
        "stdin": os.readlink("/proc/self/fd/0"),
        "group": os.getpgid(0) == os.getpid(),
        "session": os.getsid(0) == os.getppid(),
        "preferred": Path("/proc/self/oom_score_adj").read_text().strip(),
        "wakes": signal.set_wakeup_fd(-1),
        "handlers": [str(signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)],
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "frozen": gc.get_freeze_count() > 0,
        "threads": threading.active_count(),
        "wanted": run.checkpoint.wanted,
    }
    Path(__file__).with_name("facts").write_text(json.dumps([facts, os.getppid()]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getppid(), number)
    report(1, loss=1.0)
    report(2, loss=0.5)
"""


def test_a_run_has_a_process_like_one_that_was_started_for_it(
    on_sqlite: Project, either_way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(on_sqlite.folder)
    loaded = isolation_of(on_sqlite, FINDS)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    # The standard input of a worker is its own business.
    (reading, writing), stdin = os.pipe(), os.dup(0)
    os.dup2(reading, 0)
    held = []
    closed: list[None] = []
    database = cast(Database, SimpleNamespace(close=lambda: closed.append(None)))
    try:
        with isolated(loaded, database) as trained:
            # A connection must not be forked.
            assert closed == [None]
            for _ in range(3):
                [run] = train(
                    trained, {"x": 1}, loaded.definition.runs("fold"), lambda _: True, keeper=Held()
                ).runs
                assert run.curves == {"loss": [1.0, 0.5]}
                facts, nursery = json.loads((on_sqlite.folder / "facts").read_text())
                assert facts == {
                    "stdin": os.devnull,
                    "group": True,
                    "session": True,
                    "preferred": "500",
                    "wakes": -1,
                    "handlers": [
                        "<built-in function default_int_handler>",
                        "0",
                        "0",
                    ],
                    "blocked": 0,
                    "frozen": True,
                    "threads": 1,
                    "wanted": False,
                }
                held.append(len([*Path(f"/proc/{nursery}/fd").iterdir()]))
                # A signal that comes too late for its run.
                assert isinstance(trained.trainer, Isolation)
                trained.trainer._control.sendall(bytes([signal.SIGTERM]))
    finally:
        os.dup2(stdin, 0)
        for descriptor in (stdin, reading, writing):
            os.close(descriptor)
    assert len(set(held)) == 1, "nothing of a run stays open"
    assert not Path(f"/proc/{nursery}").exists(), "it was waited for"
    last = (on_sqlite.folder / "loaded").read_text().splitlines()[-1]
    if either_way == "started":
        # Ctrl-C does not reach it either while it loads the problem.
        assert last == f"True {on_sqlite.folder}"


TIDIES = """
import time
from pathlib import Path

def fit(params, run, report):
    run.checkpoint.load()
    try:
        report(1, loss=1.0)
        Path(__file__).with_name("begun").touch()
        time.sleep(1000)
    except BaseException as error:
        time.sleep(0.5)
        Path(__file__).with_name("tidied").write_text(type(error).__name__)
        raise
"""


@pytest.mark.parametrize("why", ["late", "pruned"])
def test_a_run_that_is_ended_has_time_to_tidy_up(
    on_sqlite: Project, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(isolation, "LATE_SECONDS", 30.0)
    loaded = isolation_of(on_sqlite, TIDIES, time_limit=0.5 if why == "late" else None)
    runs = loaded.definition.runs("fold")
    with isolated(loaded) as trained:
        if why == "late":
            with pytest.raises(TimeLimitError):
                train(trained, {"x": 1}, runs, lambda _: True, keeper=Held())
        else:
            assert train(trained, {"x": 1}, runs, lambda _: False, keeper=Held()).stopped
    assert (on_sqlite.folder / "tidied").read_text() == "Stopped"


def test_a_run_whose_worker_has_failed_is_killed(on_sqlite: Project) -> None:
    loaded = isolation_of(on_sqlite, TIDIES)
    with isolated(loaded) as trained, pytest.raises(ZeroDivisionError):
        train(trained, {"x": 1}, loaded.definition.runs("fold"), lambda _: bool(1 / 0), keeper=Held())
    assert not (on_sqlite.folder / "begun").exists()


ENDINGS = {
    "atexit.register(lambda: (time.sleep(0.5), Path(__file__).with_name('tidied').touch()))": True,
    "atexit.register(time.sleep, 1000)": False,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_end_of_a_run_s_process_is_waited_for_but_not_for_ever(
    on_sqlite: Project, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(isolation, "END_SECONDS", 30.0 if ENDINGS[ending] else 0.5)
    code = f"import atexit, time\nfrom pathlib import Path\ndef fit(params, run, report):\n    {ending}\n"
    began = time.monotonic()
    [run] = attempt(isolation_of(on_sqlite, code + "    report(2, loss=1.0)\n"), x=1).runs
    assert run.curves["loss"][-1] == 1.0
    assert (on_sqlite.folder / "tidied").exists() == ENDINGS[ending]
    assert time.monotonic() - began < 100.0


def test_a_run_that_goes_on_after_it_was_ended_is_killed(
    on_sqlite: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "END_SECONDS", 0.5)
    loaded = isolation_of(
        on_sqlite,
        """
        import time

        def fit(params, run, report):
            while True:
                try:
                    report(1, loss=1.0)
                except BaseException:
                    time.sleep(0.01)
        """,
    )
    with isolated(loaded) as trained:
        found = train(trained, {"x": 1}, loaded.definition.runs("fold"), lambda _: False)
    assert (found.stopped, [run.epochs for run in found.runs]) == (True, [1])


def test_the_time_limit_counts_from_when_a_run_trains(
    on_sqlite: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairsearch.search.workers.nursery.forkable", lambda: False)
    code = """
    import time

    time.sleep(2.0)

    def fit(params, run, report):
        report(1, loss=1.0)
        report(2, loss=1.0)
    """
    found = attempt(isolation_of(on_sqlite, code, time_limit=1.9), x=1)
    assert (found.stopped, [run.epochs for run in found.runs]) == (False, [2])


@pytest.mark.parametrize(
    ("death", "ending"),
    [
        ("os._exit(0)", "ended with exit code 0 before the training did"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL (memory may have run out)"),
        ("os.kill(os.getpid(), signal.SIGUSR1)", "was killed by SIGUSR1"),
        ("os.kill(os.getpid(), 40)", "was killed by signal 40"),
    ],
)
def test_how_a_run_died_is_told(on_sqlite: Project, death: str, ending: str) -> None:
    code = f"import os, signal\ndef fit(params, run, report):\n    report(1, loss=1.0)\n    {death}\n"
    with pytest.raises(RunError) as raised:
        attempt(isolation_of(on_sqlite, code), x=1)
    assert str(raised.value) == f"the process of the run {ending}"


@pytest.mark.parametrize("isolate", [False, True])
def test_a_problem_that_ends_by_stopped_itself_has_trained(on_sqlite: Project, isolate: bool) -> None:
    on_sqlite.write(
        """
        from pairsearch.studies.problem import Stopped

        def fit(params, run, report):
            report(1, loss=1.0)
            raise Stopped
        """
    )
    loaded = project_problem(on_sqlite, isolate=isolate, folds=1, epochs=2)
    found = attempt(loaded, x=1)
    assert (found.stopped, [run.epochs for run in found.runs]) == (False, [1])


WEIGHTS = """
import numpy as np
import torch

def fit(params, run, report):
    report(1, loss=1.0)
    return [
        {"array": np.arange(3.0), "tensor": torch.ones(2)},
        {"list": [1.0, 2.0]},
        {1: np.ones(2)},
        None,
    ][run.index]
"""


def test_weights_that_cannot_be_kept_are_told_of_each_round(on_sqlite: Project) -> None:
    loaded = isolation_of(on_sqlite, WEIGHTS, epochs=1, evaluation={"rounds": 4})
    with isolated(loaded) as trained:
        weights = train(trained, {"x": 1}, loaded.definition.runs("round"), lambda _: True).weights
    first, *refused, last = weights
    assert first is not None
    assert last is None
    assert {name: np.asarray(value).tolist() for name, value in first.items()} == {
        "array": [0.0, 1.0, 2.0],
        "tensor": [1.0, 1.0],
    }
    assert [type(one) for one in refused] == [ProblemError] * 2
    assert ["got list for 'list'" in str(refused[0]), "got ndarray for 1" in str(refused[1])] == [True, True]


def test_a_machine_that_cannot_start_a_process_for_runs_says_so(
    on_sqlite: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairsearch.search.workers.nursery.forkable", lambda: False)
    loaded = isolation_of(on_sqlite, "def fit(params, run, report):\n    report(2, loss=1.0)\n")
    runs = loaded.definition.runs("fold")
    with isolated(loaded) as trained:
        for error, reason in (
            (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
            (OSError("odd"), "odd"),
        ):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(subprocess, "Popen", cast(Any, lambda *_, error=error, **__: raise_(error)))
                with pytest.raises(WorkError) as raised:
                    train(trained, {"x": 1}, runs, lambda _: True)
            assert str(raised.value) == f"cannot start a process for the runs of study alone: {reason}"
        assert len(train(trained, {"x": 1}, runs, lambda _: True).runs) == 1


def raise_(error: Exception) -> None:
    raise error
