"""An error in a user's problem reaches the user: its traceback once and whole, everything else in one line."""

from __future__ import annotations

import json
import signal

import programs
import pytest
from project import FIT, Project, values

from pairsearch.search.common.errors import InputError
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.errors import DefinitionError, ProblemError

FAILING = """
def fit(params, run, report):
    if params["x"] > 1:
        helper(params["x"])
    report(1, loss=1.0)


def helper(x):
    raise RuntimeError(f"no idea of {x}")
"""


def test_an_exception_is_told_whole_once_and_the_rest_is_counted(on_sqlite: Project) -> None:
    on_sqlite.write(FAILING, grid={"x": [1, 2, 3, 4]}, epochs=1)
    ended = on_sqlite.run("run", "mine.toml", "--workers", "2")
    assert ended.code == 1
    assert ended.err.count("Traceback (most recent call last)") == 1, ended.err
    assert f'File "{on_sqlite.folder}/mine.py", line 9, in helper' in ended.err
    assert 'raise RuntimeError(f"no idea of {x}")' in ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("error: 3 configurations failed, for example x=")
    assert "RuntimeError: no idea of" in last
    assert "(mine.py, line 9)" in last
    assert on_sqlite.states() == {"finished": 1, "failed": 3}
    failures = on_sqlite.told("status", "mine")[0]["failures"]
    assert sorted(failures) == ["x=2", "x=3", "x=4"]
    assert all("RuntimeError: no idea of" in reason for reason in failures.values())
    shown = on_sqlite.run("status", "mine")
    assert "RuntimeError: no idea of" in shown.out


def test_failures_of_several_studies_are_all_counted(on_sqlite: Project) -> None:
    toml = on_sqlite.write(FAILING, grid={"x": [1, 2]}, epochs=1)
    other = on_sqlite.folder / "other.toml"
    other.write_text(toml.read_text().replace('name = "mine"', 'name = "other"'))
    ended = on_sqlite.run("run", "mine.toml", "other.toml", "--workers", "1")
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith(
        "error: 2 configurations failed, for example x=2 of study mine: "
    )


def test_a_worker_tells_the_traceback_too(on_sqlite: Project) -> None:
    toml = on_sqlite.write(FAILING, grid={"x": [1, 2]}, epochs=1)
    on_sqlite.create()
    ended = on_sqlite.run("worker", str(toml))
    assert ended.code == 1
    assert (ended.out + ended.err).count("Traceback (most recent call last)") == 1
    assert "line 9, in helper" in ended.out + ended.err
    assert on_sqlite.states() == {"finished": 1, "failed": 1}


def test_an_exception_in_every_point_ends_a_run_with_its_traceback(on_sqlite: Project) -> None:
    on_sqlite.write(FAILING, grid={"x": [2, 3, 4, 5]}, epochs=1)
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 1
    assert ended.err.count("Traceback (most recent call last)") == 1, ended.err
    assert "line 9, in helper" in ended.err


BAD_REPORTS = {
    "wrong name": (
        "report(1, loss=1.0, los=2.0)",
        "figure 'los' is not one of the problem's metrics: expected loss",
    ),
    "a text": ("report(1, loss='0.3')", "figure 'loss' is no number: got str '0.3'"),
    "a boolean": ("report(1, loss=True)", "figure 'loss' is no number: got bool True"),
    "nothing": ("report(1, loss=None)", "figure 'loss' is no number: got NoneType None"),
    "a tensor of three": (
        "import torch; report(1, loss=torch.ones(3))",
        "figure 'loss' is no number: got Tensor tensor([1., 1., 1.])",
    ),
    "an array of three": (
        "import numpy; report(1, loss=numpy.ones(3))",
        "figure 'loss' is no number: got ndarray array([1., 1., 1.])",
    ),
    "a complex number": ("report(1, loss=1j)", "figure 'loss' is no number: got complex 1j"),
    "no report": ("pass", "fold 0 ended without a report: expected at least one, report(1, ...)"),
    "epoch going back": (
        "report(2, loss=1.0); report(1, loss=1.0)",
        "expected an epoch as an integer above 2, got 1",
    ),
    "epoch twice": (
        "report(1, loss=1.0); report(1, loss=1.0)",
        "expected an epoch as an integer above 1, got 1",
    ),
    "epoch zero": ("report(0, loss=1.0)", "expected an epoch as an integer above 0, got 0"),
    "epoch a float": ("report(1.0, loss=1.0)", "expected an epoch as an integer above 0, got 1.0"),
    "epoch beyond": ("report(10**9, loss=1.0)", "epoch"),
    "no metric": ("report(1)", "no 'loss' among nothing: it is the study's metric"),
    "no epoch": ("report(loss=1.0)", "report"),
    "two places": ("report(1, 0.3)", "report"),
    "sys.exit": ("import sys; sys.exit(3)", "sys.exit(3) was called"),
}


def test_a_bad_report_is_one_line_that_says_which(on_sqlite: Project) -> None:
    """Each report is in a function and in a point of its own, all in one study."""
    lines = ["def fit(params, run, report):", "    CASES[params['case']](report)"]
    place = {}
    bodies = {"good": "report(1, loss=1.0)"} | {name: body for name, (body, _) in BAD_REPORTS.items()}
    for number, (name, body) in enumerate(bodies.items()):
        lines += [f"def case_{number}(report):", f"    {body}"]
        place[name] = len(lines)
    functions = ", ".join(f"{name!r}: case_{number}" for number, name in enumerate(bodies))
    code = "\n".join([*lines, f"CASES = {{{functions}}}"])
    # One point trains well first, so that the worker does not blame itself for the failures.
    on_sqlite.write(code, grid={"case": ["good"]}, epochs=2)
    assert on_sqlite.search().finished == 1
    on_sqlite.write(code, grid={"case": list(bodies)}, epochs=2)
    assert on_sqlite.search().failed == len(BAD_REPORTS)
    reasons = dict(on_sqlite.rows("configurations", "key, reason", "where state = 'failed'"))
    for name, (_, expected) in BAD_REPORTS.items():
        reason = reasons.pop(Configuration({"case": name}).key)
        assert expected in reason, name
        assert len(reason.splitlines()) == 1
        assert name in ("no report", "no metric") or f"mine.py, line {place[name]}" in reason
    assert reasons == {}


def test_an_interrupt_in_a_fit_ends_the_worker_and_hands_back(on_sqlite: Project) -> None:
    toml = on_sqlite.write("def fit(params, run, report):\n    raise KeyboardInterrupt\n")
    on_sqlite.create()
    ended = on_sqlite.run("worker", str(toml))
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert on_sqlite.states() == {"pending": 2}


def test_a_figure_that_is_not_finite_is_divergence(project: Project) -> None:
    project.write(
        """
        def fit(params, run, report):
            report(1, loss=1.0)
            report(2, loss=float(params["x"]) if run.index == 1 else 0.5)
        """,
        grid={"x": ["0.5", "nan", "inf", "-inf"]},
    )
    assert project.search().finished == 4
    diverged = "fold 1 diverged in epoch 2: a figure became NaN or infinite"
    assert sorted(project.rows("configurations", "key, state, reason")) == [
        ("x='-inf'", "diverged", diverged),
        ("x='0.5'", "finished", None),
        ("x='inf'", "diverged", diverged),
        ("x='nan'", "diverged", diverged),
    ]
    assert project.told("status", "mine")[0]["best"]["params"] == {"x": "0.5"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def other(params, run, report): pass", "mine.py has no 'fit'; it has other"),
        ("fit = 3", "expected a class or a function, got int"),
        ("class fit:\n    pass", "the class has no method fit(params, run, report)"),
        ("from pairsearch import OneByOne\nclass fit(OneByOne):\n    pass", "the class has no method fit"),
        ("from pairsearch import Problem\nclass fit(Problem):\n    pass", "the class has no method"),
        ("def fit(params, run): pass", "fit(params, run): expected fit(params, run, report)"),
        (
            "class fit:\n    def fit(self, params, run): pass",
            "fit(params, run): expected fit(params, run, report)",
        ),
        ("class fit:\n    def __init__(self, a): pass\n    def fit(self, params, run, report): pass", "'a'"),
        (
            "class fit:\n    def __init__(self):\n        raise ValueError('no such file: x.csv')\n"
            "    def fit(self, params, run, report): pass",
            "no such file: x.csv",
        ),
        ("class fit:\n    metrics = ['loss']\n    def fit(self, params, run, report): pass", "metrics"),
        (
            "class fit:\n    metrics = {'loss': 'log loss'}\n    def fit(self, params, run, report): pass",
            "metrics",
        ),
        (
            "from pairsearch import Metric\nclass fit:\n    metrics = {'error': Metric()}\n"
            "    def fit(self, params, run, report): pass",
            "reports no 'loss': expected one of error",
        ),
        (
            "class fit:\n    validated = ['x']\n    def fit(self, params, run, report): pass",
            "not among its metrics",
        ),
        ("class fit:\n    version = 'two'\n    def fit(self, params, run, report): pass", "version"),
        ("class fit:\n    worker_bytes = -1\n    def fit(self, params, run, report): pass", "worker_bytes"),
        (
            "class fit:\n    def fingerprint(self): return 3\n    def fit(self, params, run, report): pass",
            "fingerprint",
        ),
        (
            "class fit:\n    def overlap(self, folds): return -1\n    def fit(self, params, run, report): pass",
            "overlap",
        ),
        (
            "class fit:\n    def check(self, params):\n        if params['x'] > 1: raise ValueError('x: too large')\n"
            "    def fit(self, params, run, report): pass",
            "x: too large (x 2)",
        ),
    ],
)
def test_a_problem_that_cannot_be_used_is_one_line_and_makes_nothing(
    on_sqlite: Project, code: str, expected: str
) -> None:
    on_sqlite.write(code)
    complaint = refused(on_sqlite)
    assert complaint.startswith("study mine: ")
    assert expected in complaint


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"settings": {"a": 1}}, "'a'"),
        ({"problem": "absent.py:fit"}, "there is no file"),
        ({"problem": "mine.py"}, "FILE.py:NAME or MODULE:NAME"),
        ({"problem": "mine.py:"}, "expected FILE.py:NAME or MODULE:NAME"),
        ({"problem": "absent_module_of_nobody:fit"}, "there is no module absent_module_of_nobody"),
        ({"problem": "mine"}, "expected pairs, estimator, command, FILE.py:NAME or MODULE:NAME"),
        ({"problem": ".mine:fit"}, "mine"),
    ],
)
def test_a_definition_that_does_not_fit_its_problem_is_one_line(
    on_sqlite: Project, changes: dict[str, object], expected: str
) -> None:
    on_sqlite.write(FIT, **changes)
    assert expected in refused(on_sqlite)


def refused(project: Project) -> str:
    """Return the one line that says why a study cannot be created; nothing is made."""
    with pytest.raises((ProblemError, DefinitionError, InputError)) as raised:
        project.create()
    assert not list(project.folder.glob("*.db*"))
    complaint = str(raised.value)
    assert len(complaint.splitlines()) == 1
    return complaint


def test_the_program_tells_such_a_line_and_makes_nothing(on_sqlite: Project) -> None:
    on_sqlite.write("def other(params, run, report): pass")
    complaint = on_sqlite.run("create", "mine.toml").complaint
    assert complaint.startswith("error: study mine: ")
    assert "mine.py has no 'fit'; it has other" in complaint
    on_sqlite.write(FIT)
    assert "expected NAME=VALUE" in on_sqlite.run("create", "mine.toml", "--set", "a").err
    assert not list(on_sqlite.folder.glob("*.db*"))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def fit(params, run, report)\n    pass", "SyntaxError: expected ':'"),
        (
            "import no_such_module_of_anyone",
            "ModuleNotFoundError: No module named 'no_such_module_of_anyone'",
        ),
        ("from math import no_such_name", "ImportError: cannot import name 'no_such_name'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        (
            "class fit:\n    def __init__(self): {}['key']\n    def fit(self, params, run, report): pass",
            "KeyError: 'key'",
        ),
        (
            "class fit:\n    def check(self, params): [][0]\n    def fit(self, params, run, report): pass",
            "IndexError",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_shows_its_traceback(
    on_sqlite: Project, code: str, expected: str
) -> None:
    on_sqlite.write(code)
    ended = on_sqlite.run("create", "mine.toml")
    assert ended.code == 2
    assert ended.err.count("Traceback (most recent call last)") == 1
    assert f'{on_sqlite.folder}/mine.py", line ' in ended.err, ended.err
    assert expected in ended.err
    assert ended.err.splitlines()[-1].startswith("error: study mine: "), ended.err
    assert not list(on_sqlite.folder.glob("*.db*"))


SWALLOWS = """
import time
def fit(params, run, report):
    for epoch in range(1, run.epochs + 1):
        try:
            report(epoch, loss=1.0)
        except:
            pass
        time.sleep(0.05)
"""


def test_a_problem_that_swallows_stopped_still_is_handed_back_or_ended(on_sqlite: Project) -> None:
    on_sqlite.write(SWALLOWS, epochs=4, folds=1, time_limit=0.01)
    assert on_sqlite.search().failed == 2
    (reason, _) = values(on_sqlite.rows("configurations", "reason"))
    assert reason.startswith("longer than the time limit of 0.01 s, after ")


SLOW = """
import time
def fit(params, run, report):
    for epoch in range(1, run.epochs + 1):
        time.sleep(0.05)
        report(epoch, loss=float(params["x"]))
"""
SLOW_TOGETHER = """
import time
from pairsearch import Problem
class fit(Problem):
    def train(self, params, runs, report):
        for epoch in range(1, runs[0].epochs + 1):
            time.sleep(0.05)
            report(epoch, [{"loss": float(params["x"])} for _ in runs])
        return [None for _ in runs]
"""


@pytest.mark.parametrize(
    ("code", "unit"), [(SLOW, "folds"), (SLOW_TOGETHER, "epochs")], ids=["in turn", "together"]
)
def test_a_time_limit_ends_a_point(on_sqlite: Project, code: str, unit: str) -> None:
    on_sqlite.write(code, epochs=40, folds=3, time_limit=0.1, grid={"x": [1]})
    assert on_sqlite.search().failed == 1
    (reason,) = values(on_sqlite.rows("configurations", "reason"))
    assert reason.startswith("longer than the time limit of 0.1 s, after ")
    assert reason.endswith(f" {unit}")
    assert on_sqlite.rows("runs", "key") == []
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 1
    assert "Traceback" not in ended.err


def test_folds_in_turn_are_handed_back_on_sigterm_and_resumed_after_a_kill(on_sqlite: Project) -> None:
    toml = on_sqlite.write(SLOW.replace("0.05", "0.02"), epochs=30, folds=2, grid={"x": [1, 2]})
    on_sqlite.create()

    def running() -> bool:
        return "running" in on_sqlite.states()

    process = programs.start_forked(on_sqlite.folder, "worker", str(toml), PAIRSEARCH_STORAGE=on_sqlite.url)
    programs.wait_for(running, "a claim")
    process.terminate()
    ended = programs.ended(process, on_sqlite.folder)
    assert ended.code == 0, ended.err
    assert "1 handed back" in ended.out
    assert on_sqlite.states() == {"pending": 2}
    process = programs.start_forked(
        on_sqlite.folder, "worker", str(toml), "--lease", "1", PAIRSEARCH_STORAGE=on_sqlite.url
    )
    programs.wait_for(running, "a claim")
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert on_sqlite.states()["running"] == 1
    assert on_sqlite.work(toml, lease=1.0).finished == 2
    assert sorted(on_sqlite.rows("configurations", "key, value, errors")) == [
        ("x=1", 1.0, 0),
        ("x=2", 2.0, 0),
    ]
    assert len(on_sqlite.rows("runs", "key, run")) == 4


def test_an_evaluation_that_raises_tells_the_traceback(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
        def fit(params, run, report):
            if run.kind == "round":
                raise RuntimeError("no rounds here")
            report(1, loss=1.0)
        """,
        epochs=1,
    )
    on_sqlite.search()
    ended = on_sqlite.run("evaluate", "mine.toml")
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("error: study mine: x ")
    assert "RuntimeError: no rounds here (mine.py, line 4)" in ended.err
    assert 'mine.py", line 4, in fit' in ended.out + ended.err
    as_json = on_sqlite.run("evaluate", "mine.toml", "--json")
    assert (as_json.code, as_json.out) == (1, "")
    assert json.loads(on_sqlite.run("best", "mine", "--json").out)
