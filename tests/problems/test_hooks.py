"""What a user's problem says of the machines that it needs reaches the commands."""

from __future__ import annotations

from project import FIT, Project

NEEDING = """
from pairsearch import OneByOne

class Mine(OneByOne):
    worker_bytes = {bytes}

    def fit(self, params, run, report):
        report(1, loss=params["x"])
"""


def test_run_warns_of_memory_where_a_problem_says_what_its_workers_take(on_sqlite: Project) -> None:
    on_sqlite.write(NEEDING.format(bytes=0), problem="mine.py:Mine", epochs=1)
    assert on_sqlite.create().traits.worker_bytes == 0
    on_sqlite.write(NEEDING.format(bytes=2**50), problem="mine.py:Mine", epochs=1)
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 0, ended.err
    assert ended.err.startswith("note: memory may not hold 1 worker: ")
    assert "each takes some 1048576.0 GiB" in ended.err
    # Another figure makes no other study.
    assert on_sqlite.study().traits.worker_bytes == 2**50
    on_sqlite.write(NEEDING.format(bytes=1), problem="mine.py:Mine", epochs=1, allow_changed_files=True)
    again = on_sqlite.run("create", "mine.toml")
    assert again.code == 0, again.err
    assert on_sqlite.study().traits.worker_bytes == 1


CHECKED = """
from pathlib import Path
from pairsearch import OneByOne

class Mine(OneByOne):
    def prove(self, device):
        if Path("broken").exists():
            raise RuntimeError("no camera")

    def examine(self):
        return {"camera": lambda: "there", "lens": lambda: 1 / 0}

    def fit(self, params, run, report):
        report(1, loss=params["x"])
"""


def test_doctor_runs_the_checks_of_a_problem_whose_file_it_is_given(on_sqlite: Project) -> None:
    on_sqlite.write(CHECKED, problem="mine.py:Mine", epochs=1)
    on_sqlite.create()
    ended = on_sqlite.run("doctor", "mine.toml")
    assert ended.code == 1
    assert ended.out.splitlines()[-3:] == [
        "ok   mine camera: there",
        "FAIL mine lens: ZeroDivisionError: division by zero",
        "ok   mine: problem mine.py:Mine, can be trained on cpu",
    ]
    (on_sqlite.folder / "broken").touch()
    assert on_sqlite.run("doctor", "mine.toml").out.splitlines()[-1] == "FAIL mine: RuntimeError: no camera"


def test_doctor_runs_no_code_because_a_database_names_it(on_sqlite: Project) -> None:
    on_sqlite.write("print('it ran')\n" + CHECKED, problem="mine.py:Mine", epochs=1)
    on_sqlite.create()
    ended = on_sqlite.run("doctor")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1].startswith(
        "     mine: has code of yours, which `pairsearch doctor FILE"
    )
    named = on_sqlite.run("doctor", "mine")
    assert (named.code, named.err) == (1, "")
    assert "it is code of yours, which is not run because a database names it" in named.out


def test_short_options_are_settings_of_any_problem_that_has_them(on_sqlite: Project) -> None:
    code = """
    def fit(params, run, report, data, data_dir="here"):
        report(1, loss=params["x"] if (data, data_dir) == ("mine", "there") else 1 / 0)
    """
    on_sqlite.write(code, epochs=1)
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1", "--data", "mine", "--data-dir", "there")
    assert ended.code == 0, ended.err
    toml = on_sqlite.write(FIT, "other.py", problem="other.py:fit")
    toml.write_text(toml.read_text().replace('"mine"', '"other"'))
    refused = on_sqlite.run("create", "mine.toml", "--data", "mine")
    assert refused.code == 2
    assert "--set do not fit its arguments: got an unexpected keyword argument 'data'" in refused.complaint
