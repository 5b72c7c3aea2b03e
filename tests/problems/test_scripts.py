"""Programs of users, in several languages and of all manners, are searched as they are, and nothing is left of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import programs
import psutil
import pytest
import walking
from availability import unavailable
from project import Project, values

PYTHON = ["python", "train.py", "{x}", "{fold}", "{epochs}"]
TRAIN = """
import json, sys

x, fold, epochs = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("a line for people")
for epoch in range(1, epochs + 1):
    print(json.dumps({"epoch": epoch, "step": 7, "loss": 9.0}))
    print(json.dumps({"epoch": epoch, "loss": x + fold / epoch}))
"""
LINE = '{"epoch": %s, "loss": %s}'


@pytest.fixture
def left(on_sqlite: Project) -> Iterator[Callable[[], list[psutil.Process]]]:
    """Returns the processes that still run in the project's folder, and the folders that they left; in the end none."""
    temporary = on_sqlite.folder / "tmp"
    temporary.mkdir()

    def found() -> list[psutil.Process]:
        def runs(process: psutil.Process) -> bool:
            try:
                return process.cwd() == str(on_sqlite.folder) and process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                return False

        return [one for one in psutil.process_iter() if one.pid != os.getpid() and runs(one)]

    yield found
    programs.wait_for(lambda: not found(), "the end of all processes")
    assert [*temporary.iterdir()] == []


def write(
    project: Project, code: str, name: str = "train.py", command: Sequence[str] = PYTHON, **changes: Any
) -> Path:
    """Write a program and a definition that runs it."""
    settings = {"command": [*command], "grace": 20.0} | changes.pop("settings", {})
    fields = {"problem": "command", "folds": 1, "evaluation": None} | changes
    toml = project.write(code, name, settings=settings, **fields)
    (project.folder / name).chmod(0o755)
    return toml


def work(project: Project, *words: str) -> programs.Ended:
    """Search by one worker of the program."""
    variables = {"TMPDIR": str(project.folder / "tmp")} if (project.folder / "tmp").exists() else {}
    assert project.run("create", "mine.toml", **variables).code == 0
    return project.run("worker", "mine.toml", *words, **variables)


def curves(project: Project) -> list[list[float | None]]:
    """The losses of each run, epoch by epoch."""
    return [json.loads(text) for text in values(project.rows("curves", "points", "order by run_id, figure"))]


def test_a_python_program_is_searched_evaluated_and_checked(on_sqlite: Project) -> None:
    command = [*PYTHON, "{kind}", "{seed}"]
    write(on_sqlite, TRAIN, command=command, folds=3, evaluation={"rounds": 2})
    checked = on_sqlite.run("check", "mine.toml", "--points", "1")
    assert checked.code == 0, checked.out
    assert "same bits: twice, alone" in checked.out
    ended = on_sqlite.run("run", "mine.toml", "--workers", "2", "--quiet")
    assert ended.code == 0, ended.err
    assert values(on_sqlite.rows("configurations", "value", "order by value")) == [1.5, 2.5]
    expected = [[x + fold, x + fold / 2] for x in (1.0, 2.0) for fold in range(3)]
    assert sorted(curves(on_sqlite)) == sorted(expected)
    (told,) = on_sqlite.told("evaluate", "mine.toml")
    assert told["figures"]["loss"]["mean"] == 1.25
    (provenance,) = map(json.loads, values(on_sqlite.rows("provenances", "facts")))
    digest = hashlib.sha256((on_sqlite.folder / "train.py").read_bytes()).hexdigest()
    assert (provenance["files"], provenance["backend"]) == (f"train.py {digest}", "command python")


def test_what_else_a_program_prints_goes_to_the_log_of_the_worker(on_sqlite: Project) -> None:
    write(
        on_sqlite,
        TRAIN + 'print("to error", file=sys.stderr)\nsys.stdout.buffer.write(b"\\xff\\xfe no text")',
    )
    ended = work(on_sqlite)
    assert ended.code == 0, ended.err
    assert "loss" not in ended.err
    for line in ("a line for people", "to error", "\ufffd\ufffd no text"):
        assert ended.err.splitlines().count(line) == 2


def test_the_environment_says_what_placeholders_say(on_sqlite: Project) -> None:
    code = """
        import json, os, sys
        told = {name.removeprefix("PAIRSEARCH_"): text for name, text in os.environ.items()}
        assert json.loads(told["PARAMS"]) == json.load(open(sys.argv[1])) == {"x": 1}, told
        assert json.loads(told["PARAMS"])["x"] == 1
        names = "FOLD FOLDS KIND SEED EPOCHS DEVICE OUT".split()
        assert [told[name] for name in names] == sys.argv[2:], (told, sys.argv)
        assert os.path.isdir(told["OUT"]) and not os.listdir(told["OUT"]) and "CHECKPOINT" not in told
        assert sys.stdin.read() == "" and os.path.isfile("mine.toml")
        assert 0 <= int(told["SEED"]) < 2**31
        print('{"loss": 1}')
    """
    names = ["params", "fold", "folds", "kind", "seed", "epochs", "device", "out"]
    command = ["python", "train.py", *(f"{{{name}}}" for name in names)]
    write(on_sqlite, code, command=command, folds=2, grid={"x": [1]})
    ended = work(on_sqlite)
    assert on_sqlite.states() == {"finished": 1}, ended.err


def test_python_is_the_one_that_runs_pairsearch(on_sqlite: Project) -> None:
    elsewhere = on_sqlite.folder / "bin"
    elsewhere.mkdir()
    (elsewhere / "python").write_text("#!/bin/sh\nexit 3\n")
    (elsewhere / "python").chmod(0o755)
    write(
        on_sqlite,
        "import sys; print('{\"loss\": 1}', sys.argv, file=sys.stderr); print('{\"loss\": 1}')",
        epochs=1,
    )
    assert on_sqlite.run("create", "mine.toml").code == 0
    ended = on_sqlite.run("worker", "mine.toml", PATH=f"{elsewhere}:{os.environ['PATH']}")
    assert on_sqlite.states() == {"finished": 2}, ended.err


SHELL = """
    #!/bin/sh
    for epoch in 1 2; do
        echo "epoch $epoch of $2, val_loss=$epoch.5 acc=0.$epoch"
    done
    echo done
"""
AWK = """
    #!/bin/sh
    awk 'BEGIN { print "{\\"epoch\\": 1, \\"loss\\": 1}"; x = log(-1); print "{\\"epoch\\": 2, \\"loss\\":", x "}" }'
"""
NODE = """
    const {fold, x} = JSON.parse(process.env.PAIRSEARCH_PARAMS.replace("}", `,"fold":${process.env.PAIRSEARCH_FOLD}}`));
    for (let epoch = 0; epoch < 2; epoch++) console.log(JSON.stringify({epoch, loss: x > 1 ? 0 / 0 : x + fold}));
"""


def test_a_shell_script_with_a_pattern(on_sqlite: Project) -> None:
    pattern = r"epoch (?P<epoch>\d+)|val_loss=(?P<loss>\S+)|acc=(?P<accuracy>\S+)"
    metrics = {"loss": {}, "accuracy": {"maximise": True}}
    write(on_sqlite, textwrap.dedent(SHELL).lstrip(), "train.sh", ["./train.sh", "{x}", "{epochs}"],
          settings={"figures": pattern}, metrics=metrics, grid={"x": [1]})  # fmt: skip
    ended = work(on_sqlite)
    assert curves(on_sqlite) == [[0.1, 0.2], [1.5, 2.5]], ended.err
    assert "done" in ended.err
    assert "loss" not in ended.err


def test_nan_diverges_as_c_prints_it(on_sqlite: Project) -> None:
    write(on_sqlite, textwrap.dedent(AWK).lstrip(), "train.sh", ["./train.sh", "{x}"], grid={"x": [1]})
    ended = work(on_sqlite)
    assert on_sqlite.states() == {"diverged": 1}, ended.err
    assert values(on_sqlite.rows("runs", "diverged_epoch")) == [2]


def test_a_program_for_node_whose_nan_is_null(on_sqlite: Project) -> None:
    if shutil.which("node") is None:
        unavailable("Node.js is not installed")
    write(on_sqlite, NODE, "train.js", ["node", "train.js", "{params}"], settings={"first_epoch": 0})
    ended = work(on_sqlite)
    assert on_sqlite.states() == {"finished": 1, "diverged": 1}, ended.err
    assert values(on_sqlite.rows("configurations", "value", "where state = 'finished'")) == [1.0]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_figures_in_a_file_that_is_written_while_it_trains(on_sqlite: Project, kind: str) -> None:
    code = """
        import sys
        with open(sys.argv[1] + "/metrics." + sys.argv[2], "w") as file:
            print("epoch,loss,other" if sys.argv[2] == "csv" else "begin", file=file)
            for epoch in (1, 2):
                line = f"{epoch},{epoch}.5," if sys.argv[2] == "csv" else '{"epoch": %d, "loss": %d.5}' % (epoch, epoch)
                print(line, file=file, end="" if epoch == 2 else "\\n", flush=True)
        print("wrote")
    """
    figures = f"{{out}}/metrics.{kind}"
    command = ["python", "train.py", "{out}", kind, "{x}"]
    write(on_sqlite, code, command=command, settings={"figures": figures}, grid={"x": [1]})
    ended = work(on_sqlite)
    assert curves(on_sqlite) == [[1.5, 2.5]], ended.err
    assert "wrote" in ended.err


def test_half_a_line_counts_if_it_is_whole(on_sqlite: Project) -> None:
    code = """
        import sys
        half = "" if sys.argv[1] == "1" else '\\n{"epoch": 2, "l'
        print('{"epoch": 1, "loss": 1}\\n{"epoch": 2, "loss": 2}', end=half)
    """
    write(on_sqlite, code)
    ended = work(on_sqlite)
    assert curves(on_sqlite) == [[1.0, 2.0]] * 2, ended.err
    assert '{"epoch": 2, "l' in ended.err


def test_a_million_lines(on_sqlite: Project) -> None:
    code = """
        import sys
        line = '{"epoch": 1, "loss": 1}\\n' if sys.argv[1] == "1" else "line\\n"
        for _ in range(1000):
            sys.stdout.write(line * 1000)
        print('{"epoch": 2, "loss": 3}')
    """
    write(on_sqlite, code)
    assert on_sqlite.run("create", "mine.toml").code == 0
    ended = on_sqlite.run("worker", "mine.toml")
    assert values(on_sqlite.rows("configurations", "value")) == [3.0, 3.0], ended.err[-1000:]
    assert ended.err.count("line\n") == 1_000_000


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; print(1, file=sys.stderr); sys.exit('the end')", "ScriptError: ended with exit code 1: the end"),
        ("raise KeyError('x')", "ScriptError: ended with exit code 1: KeyError: 'x'"),
        ("import os; os.abort()", "ScriptError: ended by SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "ScriptError: ended by SIGKILL"),
        ("import sys; print('1%\\r9%\\r', end='', file=sys.stderr)", "ScriptError: ended without a figure 'loss': 9%"),
        ('print(\'{"epoch": 1, "accuracy": 1}\')', "ScriptError: ended without a figure 'loss'"),
        ('print(\'{"epoch": 1, "loss": "low"}\')', "ValueError: figure 'loss' is no number: got 'low'"),
        ('print(\'{"epoch": 3, "loss": 1}\')', "ReportError: report: expected an epoch of at most 2, got 3: the "
         "definition's `epochs` says how many there are, and run.epochs how many in a check"),
    ],
)  # fmt: skip
def test_a_failure_has_the_last_line_of_standard_error_as_its_reason(
    on_sqlite: Project, code: str, reason: str
) -> None:
    write(on_sqlite, code)
    ended = work(on_sqlite)
    assert ended.code == 1
    assert f"mine: {reason} (" in ended.out
    assert on_sqlite.states() == {"failed": 2}


def test_a_program_that_fails_for_one_configuration_fails_that_alone(on_sqlite: Project) -> None:
    write(
        on_sqlite, TRAIN + "    if x == 2: sys.stderr.write('first\\n'); raise SystemExit('two is too many')"
    )
    work(on_sqlite)
    assert on_sqlite.states() == {"finished": 1, "failed": 1}
    assert values(on_sqlite.rows("configurations", "reason", "where state = 'failed'")) == [
        "ScriptError: ended with exit code 1: two is too many"
    ]
    trace = values(on_sqlite.rows("failures", "traceback"))[0]
    assert trace.endswith("Its last lines on standard error:\nfirst\ntwo is too many\n")


FORKING = """
    import os, signal, subprocess, sys, time
    kind = sys.argv[1]
    def sleeper(ignores, session):
        if os.fork() == 0:
            if session:
                os.setsid()
                if os.fork():
                    os._exit(0)
            if ignores:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
            os._exit(0)
    for ignores in (False, True):
        for session in (False, True):
            sleeper(ignores, session)
    subprocess.Popen(["sleep", "600"])
    print('{"loss": 1}', flush=True)
    open("ready", "w").close()
"""


def test_children_that_a_program_leaves_are_ended(
    on_sqlite: Project, left: Callable[[], list[psutil.Process]]
) -> None:
    write(on_sqlite, FORKING, grid={"x": [1]})
    ended = work(on_sqlite)
    assert on_sqlite.states() == {"finished": 1}, ended.err
    assert left() == []


HANGING = """
    import signal, sys, time
    if sys.argv[1] == "ignores":
        signal.signal(signal.SIGTERM, lambda *_: open("told", "w").close())
"""


@pytest.mark.parametrize(
    ("manner", "numbers"),
    [
        ("ends", [signal.SIGTERM]),
        ("ends", [signal.SIGKILL]),
        ("ignores", [signal.SIGTERM]),
        ("ignores", [signal.SIGKILL]),
        ("ignores", [signal.SIGTERM, signal.SIGKILL]),
    ],
)
def test_nothing_outlives_a_worker_whatever_ends_it(
    on_sqlite: Project, left: Callable[[], list[psutil.Process]], manner: str, numbers: list[int]
) -> None:
    write(on_sqlite, HANGING + FORKING + "    time.sleep(600)", settings={"grace": 0.5}, grid={"x": [manner]})
    assert on_sqlite.run("create", "mine.toml").code == 0
    variables = {"PAIRSEARCH_STORAGE": on_sqlite.url, "TMPDIR": str(on_sqlite.folder / "tmp")}
    worker = programs.start_forked(on_sqlite.folder, "worker", "mine.toml", **variables)
    programs.wait_for((on_sqlite.folder / "ready").exists, "the program")
    assert len(left()) >= 8
    for number in numbers:
        os.kill(worker.pid or 0, number)
        if number == signal.SIGTERM and manner == "ignores":
            programs.wait_for((on_sqlite.folder / "told").exists, "the program to be told")
    if numbers == [signal.SIGTERM]:
        ended = programs.ended(worker, on_sqlite.folder)
        assert (ended.code, on_sqlite.states()) == (0, {"pending": 1})
        assert values(on_sqlite.rows("configurations", "errors")) == [0]
        assert left() == []


def test_a_time_limit_ends_a_program_that_never_reports(
    on_sqlite: Project, left: Callable[[], list[psutil.Process]]
) -> None:
    write(on_sqlite, HANGING + "    time.sleep(600)", time_limit=0.5, grid={"x": [1]})
    ended = work(on_sqlite)
    assert on_sqlite.states() == {"failed": 1}, ended.err
    assert values(on_sqlite.rows("configurations", "reason")) == [
        "longer than the time limit of 0.5 s, after 0 of 1 folds"
    ]
    assert left() == []


def test_a_diverged_run_ends_its_program(
    on_sqlite: Project, left: Callable[[], list[psutil.Process]]
) -> None:
    code = """
        import time
        print('{"epoch": 1, "loss": NaN}\\n{"epoch": 2, "loss": 1}')
        time.sleep(600)
    """
    write(on_sqlite, code, grid={"x": [1]})
    ended = work(on_sqlite)
    assert on_sqlite.states() == {"diverged": 1}, ended.err
    assert left() == []


WALKING = {
    "command": walking.command("train.py"),
    "epochs": 8,
    "grid": {"x": [1]},
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_goes_on_from_its_checkpoint(
    on_sqlite: Project, left: Callable[[], list[psutil.Process]], number: int
) -> None:
    write(on_sqlite, walking.SCRIPT, **WALKING)
    assert work(on_sqlite).code == 0
    (undisturbed,) = curves(on_sqlite)
    (on_sqlite.folder / "wait").touch()
    other = on_sqlite.folder / "other.toml"
    other.write_text((on_sqlite.folder / "mine.toml").read_text().replace('"mine"', '"other"'))
    assert on_sqlite.run("create", "other.toml").code == 0
    variables = {"PAIRSEARCH_STORAGE": on_sqlite.url, "TMPDIR": str(on_sqlite.folder / "tmp")}
    worker = programs.start_forked(on_sqlite.folder, "worker", "other.toml", "--lease", "2", **variables)
    programs.wait_for(
        lambda: bool(on_sqlite.rows("checkpoints", "epoch", "where epoch >= 4")), "a checkpoint"
    )
    os.kill(worker.pid or 0, number)
    worker.join(programs.PATIENCE)
    ended = on_sqlite.run("worker", "other.toml", TMPDIR=variables["TMPDIR"])
    assert "begins after 5" in ended.err, ended.err
    assert curves(on_sqlite) == [undisturbed] * 2
    assert on_sqlite.rows("checkpoints", "epoch") == []


SAVES_FIRST = """
    import json, os, sys, time

    state, epochs = sys.argv[1] + "/done", int(sys.argv[2])
    done = int(open(state).read()) if os.path.exists(state) else 0
    waits = int(open("wait").read()) if os.path.exists("wait") and done == 0 else 0
    for epoch in range(done + 1, epochs + 1):
        with open(state, "w") as file:
            file.write(str(epoch))
        if epoch == waits:
            os.remove("wait")
            time.sleep(600)
        print(json.dumps({"epoch": epoch, "loss": 1 / epoch}))
"""


@pytest.mark.parametrize(("at", "how"), [(7, "with epoch 8"), (8, "and ended without a figure")])
def test_a_program_that_saves_an_epoch_before_it_prints_it_begins_again_without_it(
    on_sqlite: Project, left: Callable[[], list[psutil.Process]], at: int, how: str
) -> None:
    write(on_sqlite, SAVES_FIRST, **WALKING)
    (on_sqlite.folder / "wait").write_text(str(at))
    assert on_sqlite.run("create", "mine.toml").code == 0
    variables = {"PAIRSEARCH_STORAGE": on_sqlite.url, "TMPDIR": str(on_sqlite.folder / "tmp")}
    worker = programs.start_forked(on_sqlite.folder, "worker", "mine.toml", **variables)
    programs.wait_for(lambda: bool(on_sqlite.rows("checkpoints", "epoch")), "a checkpoint")
    worker.terminate()
    worker.join(programs.PATIENCE)
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1", "--quiet", TMPDIR=variables["TMPDIR"])
    assert curves(on_sqlite) == [[1 / epoch for epoch in range(1, 9)]], ended.err
    assert ended.err == (
        f"warning: the program went on after epoch {at - 1} {how}: print the figures of an epoch before its files are "
        "saved: the run begins again\n"
    )


def test_check_holds_a_resumed_program_to_the_same_bits(on_sqlite: Project) -> None:
    write(on_sqlite, walking.SCRIPT, **WALKING)
    checked = on_sqlite.run("check", "mine.toml", "--points", "1")
    assert checked.code == 0, checked.out + checked.err
    assert "and resumed in another process, a fold has the same bits" in checked.out


def test_a_program_that_is_not_told_of_epochs_is_ended_after_those_of_a_check(on_sqlite: Project) -> None:
    code = 'import time\nfor epoch in range(1, 9): print(\'{"epoch": %d, "loss": 1}\' % epoch)\ntime.sleep(1)'
    write(on_sqlite, code, command=["python", "train.py", "{x}"], epochs=8)
    checked = on_sqlite.run("check", "mine.toml", "--points", "1")
    assert checked.code == 0, checked.out + checked.err
    write(on_sqlite, code, command=["python", "train.py", "{x}"], epochs=4)
    ended = work(on_sqlite)
    assert "expected an epoch of at most 4, got 5: the definition's `epochs` says" in ended.out


def test_other_files_are_refused_also_while_a_worker_runs(on_sqlite: Project) -> None:
    write(on_sqlite, TRAIN)
    assert work(on_sqlite, "--max-trials", "1").code == 0
    changing = TRAIN + "    open('train.py', 'a').write('\\n')"
    write(on_sqlite, changing)
    refused = on_sqlite.run("worker", "mine.toml")
    assert refused.code == 2
    assert "train.py is " in refused.complaint
    write(on_sqlite, changing, allow_changed_files=True, folds=1)
    ended = on_sqlite.run("worker", "mine.toml")
    assert on_sqlite.states() == {"finished": 2}, ended.err


def test_a_file_that_changes_under_a_worker_ends_it(on_sqlite: Project) -> None:
    write(on_sqlite, TRAIN + "open('train.py', 'a').write('\\n')")
    ended = work(on_sqlite)
    assert ended.code == 1
    assert "ScriptError: train.py was changed after this process began: start it anew" in ended.err
    assert on_sqlite.states() == {"finished": 1, "pending": 1}


@pytest.mark.parametrize("command", ["create", "check"])
def test_mistakes_are_refused_before_anything_is_trained(on_sqlite: Project, command: str) -> None:
    write(on_sqlite, TRAIN, command=["python", "train.py", "{y}"])
    assert on_sqlite.run(command, "mine.toml").complaint == (
        "error: study mine: settings.command: there is no {y} here: expected one of x, fold, folds, kind, seed, "
        "epochs, device, params, checkpoint, out, flags, hydra (x 1)"
    )
    write(on_sqlite, TRAIN, command=["python", "train.py"])
    assert "grid.x: settings.command uses it nowhere" in on_sqlite.run(command, "mine.toml").complaint


@pytest.mark.parametrize("command", [PYTHON, ["true", "{x}"]])
def test_a_database_alone_runs_no_program(on_sqlite: Project, command: list[str]) -> None:
    write(on_sqlite, TRAIN, command=command)
    on_sqlite.create()
    refused = on_sqlite.run("worker", "mine")
    assert "not run because a database names it" in refused.complaint
    assert on_sqlite.run("doctor").code == on_sqlite.run("doctor", "mine.toml").code == 0


def test_the_program_of_doctor_is_found(on_sqlite: Project) -> None:
    write(on_sqlite, TRAIN)
    assert f"mine program: {sys.executable}" in on_sqlite.run("doctor", "mine.toml").out
