"""A problem may change what it is given, start processes, print, take signals and move elsewhere: nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings

import programs
import pytest
from project import Project, values

METHODS = ["fork", "spawn", "forkserver"]
CHILDREN = """
import multiprocessing

class Point:
    def __init__(self, x):
        self.x = x

def twice(point):
    return 2 * point.x

class Mine:
    def __init__(self, offset):
        self.offset = offset

    def shifted(self, x):
        return x + self.offset

    def fit(self, params, run, report):
        context = multiprocessing.get_context(params["method"])
        with context.Pool(1) as pool:  # terminates its process
            (doubled,) = pool.map(twice, [Point(run.index)])
            (loss,) = pool.map(self.shifted, [doubled])
        report(1, loss=loss)
"""
SCRIPT = """
import pairsearch

if __name__ == "__main__":
    with pairsearch.open("mine.toml") as study:
        for evaluated in study.evaluate(top=3):
            print(evaluated.figures["loss"].mean)
"""


def test_processes_of_a_problem_know_its_file_however_they_start(on_sqlite: Project) -> None:
    on_sqlite.write(
        CHILDREN,
        problem="mine.py:Mine",
        epochs=1,
        folds=1,
        settings={"offset": 7},
        grid={"method": METHODS},
        evaluation={"rounds": 1},
    )
    searched = on_sqlite.run("run", "mine.toml", "--workers", "1", "--quiet")
    assert searched.code == 0, searched.err
    assert values(on_sqlite.rows("configurations", "value")) == [7.0] * 3
    (on_sqlite.folder / "script.py").write_text(SCRIPT)
    script = subprocess.run(
        [sys.executable, "script.py"],
        cwd=on_sqlite.folder,
        env=programs.environment(PAIRSEARCH_STORAGE=on_sqlite.url),
        capture_output=True,
        text=True,
        timeout=programs.PATIENCE,
        check=False,
    )
    assert (script.stdout.splitlines(), script.stderr) == (["7.0"] * 3, "")
    command = programs.start(
        on_sqlite.folder,
        *("evaluate", "mine.toml", "--top", "3", "--rounds", "2", "--json"),
        PAIRSEARCH_STORAGE=on_sqlite.url,
    )
    out, err = command.communicate(timeout=programs.PATIENCE)
    assert command.returncode == 0, err
    assert [row["figures"]["loss"]["mean"] for row in json.loads(out)] == [8.0] * 3


def test_processes_of_joblib_know_functions_of_a_user_s_file(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
        from sklearn.ensemble import VotingClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer
        from sklearn.tree import DecisionTreeClassifier

        def halved(x):
            return x / 2

        def make():
            tree = make_pipeline(FunctionTransformer(halved), DecisionTreeClassifier())
            return VotingClassifier([("a", tree), ("b", tree)], n_jobs=2)
        """,
        "pipe.py",
        problem="estimator",
        metric="accuracy",
        epochs=1,
        settings={"data": "iris", "estimator": "pipe.py:make"},
        grid={"a__decisiontreeclassifier__max_depth": [2]},
    )
    ended = programs.run(
        on_sqlite.folder,
        *("run", "mine.toml", "--workers", "1", "--quiet"),
        # scikit-learn sends its processes the filters; those of PyTorch, which a program of the tests has, would have
        # them import it.
        prepare=warnings.resetwarnings,
        PAIRSEARCH_STORAGE=on_sqlite.url,
    )
    assert ended.code == 0, ended.err
    assert values(on_sqlite.rows("configurations", "state")) == ["finished"]


CHANGING = """
class Mine:
    def __init__(self, layers, nested):
        layers.append("by the constructor")
        self.layers, self.nested = layers, nested

    def fit(self, params, run, report):
        fit(params, run, report, self.layers[1:], self.nested)
        self.layers.clear()

    def check(self, params):
        params["x"] = 0

    def describe(self, params):
        return {"layers": str(self.layers), "nested": str(self.nested), "params": str(params)}

def fit(params, run, report, layers, nested):
    params["x"] *= 0.5
    layers.append("another")
    nested["a"]["b"].append(1)
    nested["a"]["new"] = True
    report(1, loss=100 * params["x"] + 10 * len(layers) + len(nested["a"]["b"]) + len(nested["a"]))
    params.clear()
"""


@pytest.mark.parametrize("problem", ["Mine", "fit"])
def test_no_run_sees_what_another_changed_in_parameters_and_settings(
    on_sqlite: Project, problem: str
) -> None:
    settings = {"layers": ["one"], "nested": {"a": {"b": [1, 2]}}}
    toml = on_sqlite.write(
        CHANGING, problem=f"mine.py:{problem}", settings=settings, epochs=1, grid={"x": [8.0]}
    )
    assert on_sqlite.search(toml).finished == 1
    expected = 400 + 20 + 3 + 2
    assert [json.loads(text) for text in values(on_sqlite.rows("runs", "figures"))] == [
        {"loss": expected}
    ] * 3
    assert on_sqlite.study().definition.settings == settings
    (told,) = on_sqlite.told("evaluate", "mine.toml", "--no-models")
    assert told["facts"] == (
        {}
        if problem == "fit"
        else {
            "layers": "['one', 'by the constructor']",
            "nested": "{'a': {'b': [1, 2]}}",
            "params": "{'x': 8.0}",
        }
    )
    checked = on_sqlite.run("check", str(toml))
    assert checked.code == 0, checked.out


def test_what_a_problem_prints_goes_to_standard_error(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
        import ctypes, subprocess, sys

        def say(what):
            print(what, "by Python", flush=True)
            print(what, "by Python", file=sys.__stdout__, flush=True)
            subprocess.run(["echo", what, "by a process"])
            ctypes.CDLL(None).puts(f"{what} by C".encode())  # stays in a buffer of C's until the end

        say("import")

        class Mine:
            def __init__(self):
                say("constructor")

            def check(self, params):
                say("check")

            def fit(self, params, run, report):
                say("fit")
                report(1, loss=params["x"])
        """,
        problem="mine.py:Mine",
        epochs=1,
    )
    expected = {"create": "constructor", "run": "constructor", "check": "fit", "evaluate": "fit"}
    for command, last in expected.items():
        ended = on_sqlite.run(command, "mine.toml", "--json", *["--workers", "1"] * (command == "run"))
        assert ended.code == 0, ended.err
        json.loads(ended.out)
        for what in {"import", "constructor", last}:
            for by in ("Python", "a process", "C"):
                assert f"{what} by {by}\n" in ended.err


MOVING = """
import os
import numpy

class Mine:
    def __init__(self, data):
        os.chdir("elsewhere")

    def fit(self, params, run, report):
        os.chdir("/")
        report(1, loss=params["x"])
        return {"x": numpy.array([params["x"]])}
"""
OTHER = """
name = "other"
problem = "estimator"
metric = "accuracy"
[settings]
estimator = "sklearn.tree.DecisionTreeClassifier"
target = "target"
[grid]
max_depth = [1]
"""
MOVED_SCRIPT = """
import pairsearch

with pairsearch.create("mine.toml", storage="sqlite:///script.db", data="data.csv") as study:
    study.run(workers=1)
    print(study.best(1)[0].value)
"""


def test_a_problem_may_change_the_working_directory(on_sqlite: Project) -> None:
    """Of its own study, and of another in the same command."""
    folder = on_sqlite.folder
    on_sqlite.write(MOVING, problem="mine.py:Mine", epochs=1)
    (folder / "elsewhere").mkdir()
    (folder / "other.toml").write_text(OTHER)
    (folder / "data.csv").write_text("x,target\n" + "1,a\n2,b\n" * 100)
    (folder / "script.py").write_text(MOVED_SCRIPT)
    given = ["--set", "data=data.csv"]
    for command in (
        ["run", "mine.toml", "other.toml", *given, "--workers", "1"],
        ["evaluate", "mine.toml", *given],
        ["check", "mine.toml", *given, "--points", "1"],
    ):
        ended = programs.run(folder, *command, PAIRSEARCH_STORAGE="sqlite:///here.db")
        assert ended.code == 0, ended.err
    script = programs.run(folder, module="script.py")
    assert (script.code, script.out) == (0, "1.0\n"), script.err
    assert list((folder / "elsewhere").iterdir()) == []
    assert {file.name for file in (folder / "pairsearch-models").iterdir()} == {
        f"mine-x=1-round={index}.safetensors" for index in range(2)
    }


TAKEN = {
    "a handler": "signal.signal(signal.SIGTERM, take); train()",
    "a descriptor": "signal.signal(signal.SIGTERM, take); signal.set_wakeup_fd(-1); train()",
    "an event loop": """
        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, take)
            for step in steps():
                await asyncio.sleep(0.01)
        asyncio.run(main())
    """,
    "an event loop that is over": """
        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, take)
        asyncio.run(main())
        Path("taken").touch()
        train()
    """,
}


@pytest.mark.parametrize("taken", TAKEN)
def test_a_problem_that_takes_sigterm_for_itself_is_handed_back(on_sqlite: Project, taken: str) -> None:
    code = """
        import asyncio, signal, time
        from pathlib import Path

        def take(*_):
            Path("taken").touch()

        def fit(params, run, report):
            def steps():
                for epoch in range(1, run.epochs + 1):
                    report(epoch, loss=1.0)
                    Path("ready").touch()
                    yield time.sleep(0.01)

            def train():
                for step in steps():
                    pass

    """
    on_sqlite.write(
        textwrap.dedent(code) + textwrap.indent(textwrap.dedent(TAKEN[taken]), "    "), epochs=100_000
    )
    on_sqlite.create()
    worker = programs.start_forked(on_sqlite.folder, "worker", "mine.toml", PAIRSEARCH_STORAGE=on_sqlite.url)
    programs.wait_for((on_sqlite.folder / "ready").exists, "its training")
    os.kill(worker.pid or 0, signal.SIGTERM)
    ended = programs.ended(worker, on_sqlite.folder)
    assert (ended.code, ended.err) == (0, "")
    assert (on_sqlite.folder / "taken").exists()
    assert "1 handed back" in ended.out
    assert on_sqlite.states() == {"pending": 2}
    assert values(on_sqlite.rows("configurations", "sum(errors)")) == [0]


def test_a_signal_to_a_process_of_a_problem_is_not_the_worker_s(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
        import os, signal, time

        def fit(params, run, report):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if params["x"] == 1 else ():
                signal.signal(number, lambda *_: os._exit(0))
            reading, writing = os.pipe()
            if (child := os.fork()) == 0:
                os.write(writing, b"!")
                while True:
                    time.sleep(0.01)
            os.read(reading, 1)
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            report(1, loss=1.0)
        """,
        epochs=1,
    )
    on_sqlite.create()
    ended = on_sqlite.run("worker", "mine.toml")
    assert (ended.code, ended.err) == (0, "")
    assert on_sqlite.states() == {"finished": 2}


def test_a_second_interrupt_ends_a_training_that_waits_for_ever(on_sqlite: Project) -> None:
    """As one does whose processes got the first one and are gone."""
    on_sqlite.write(
        """
        import threading
        from pathlib import Path

        def fit(params, run, report):
            Path("ready").touch()
            threading.Event().wait()
        """
    )
    on_sqlite.create()
    worker = programs.start_forked(on_sqlite.folder, "worker", "mine.toml", PAIRSEARCH_STORAGE=on_sqlite.url)
    programs.wait_for((on_sqlite.folder / "ready").exists, "its training")
    while worker.exitcode is None:
        os.kill(worker.pid or 0, signal.SIGINT)
        worker.join(2)
    ended = programs.ended(worker, on_sqlite.folder)
    assert ended.code == 130
    assert on_sqlite.states() == {"pending": 2}
