"""A point that cannot be trained, whoever tries it, has failed at once and is nobody's fault."""

from __future__ import annotations

import pytest
from project import Project, values

from pairsearch.search.common.errors import WorkError
from pairsearch.search.workers.faults import MOST_UNKNOWN
from pairsearch.search.workers.tally import Tally
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.note import note

ALL_BUT_ONE = """
import pairsearch

def fit(params, run, report):
    with open("tried.txt", "a") as tried:
        print(params["x"], file=tried)
    if params["x"] != 7:
        raise pairsearch.Impossible(f"no model of {params['x']}\\nat all")
    report(1, loss=1.0)
"""


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.folder)
    return project


def test_impossible_points_fail_at_once_with_their_reason_and_no_second_try(here: Project) -> None:
    """So many that a worker would suspect itself, were they its own failures."""
    points = list(range(1, MOST_UNKNOWN + 10))
    toml = here.write(ALL_BUT_ONE, grid={"x": points}, epochs=1, folds=1)
    assert here.search(toml) == Tally(finished=1, failed=len(points) - 1)
    assert here.states() == {"finished": 1, "failed": len(points) - 1}
    tried = [int(line) for line in (here.folder / "tried.txt").read_text().split()]
    assert sorted(tried) == points
    assert values(here.rows("configurations", "reason", "where key = 'x=3'")) == [
        "Impossible: no model of 3 (mine.py, line 8)"
    ]
    assert "mine: Impossible: no model of 3 (mine.py, line 8) (failed): x=3" in here.said
    assert not any("Traceback" in line for line in here.said)


def test_a_fold_that_is_impossible_ends_its_configuration(here: Project) -> None:
    code = """
    from pairsearch import Impossible

    def fit(params, run, report):
        if params["x"] == 2 and run.index == 1:
            raise Impossible("no second fold")
        report(1, loss=1.0)
    """
    toml = here.write(code, epochs=1)
    assert here.search(toml) == Tally(finished=1, failed=1)
    assert here.states() == {"finished": 1, "failed": 1}


def test_it_stays_failed_where_the_worker_is_broken_by_other_things(here: Project) -> None:
    code = """
    from pairsearch import Impossible

    def fit(params, run, report):
        if params["x"] < 3:
            raise Impossible("never")
        raise OSError("no disk")
    """
    toml = here.write(code, grid={"x": [1, 2, 3, 4, 5]}, epochs=1, folds=1)
    with pytest.raises(WorkError, match=r"the first 3 configurations all failed here.*OSError: no disk"):
        here.search(toml)
    assert here.states() == {"failed": 2, "pending": 3}


def test_rounds_that_are_impossible_fail_too(on_sqlite: Project) -> None:
    code = """
    from pairsearch import Impossible

    def fit(params, run, report):
        if run.kind == "round":
            raise Impossible("nothing was kept for rounds")
        report(1, loss=1.0)
    """
    toml = on_sqlite.write(code, epochs=1, grid={"x": [1]})
    assert on_sqlite.search(toml) == Tally(finished=1)
    ended = on_sqlite.run("evaluate", str(toml), "--workers", "1")
    assert ended.code == 1
    assert "Impossible: nothing was kept for rounds (mine.py, line 6)" in ended.err


def test_a_check_of_a_problem_that_finds_a_point_impossible_refuses_the_grid(on_sqlite: Project) -> None:
    code = """
    from pairsearch import Impossible

    class Mine:
        def check(self, params):
            if params["x"] == 2:
                raise Impossible("x is even")

        def fit(self, params, run, report):
            report(1, loss=1.0)
    """
    toml = on_sqlite.write(code, epochs=1, problem="mine.py:Mine")
    with pytest.raises(ProblemError, match=r"study mine: x is even \(x 2\)"):
        on_sqlite.create(toml)


def test_a_rehearsal_goes_on_to_points_that_can_be_trained(on_sqlite: Project) -> None:
    code = """
    from pairsearch import Impossible

    def fit(params, run, report):
        if params["x"] != 3:
            raise Impossible("not 3")
        for epoch in range(1, run.epochs + 1):
            report(epoch, loss=1.0)
    """
    toml = on_sqlite.write(code, grid={"x": [1, 2, 3, 4]})
    found = {one["check"]: one for one in on_sqlite.told("check", str(toml))}
    assert found["training"]["finding"].startswith(
        "1 points, 2 epochs each; 3 are impossible, for example x "
    )
    assert found["training"]["finding"].endswith(": Impossible: not 3 (mine.py, line 6)")
    assert found["same bits"]["good"] is found["contract"]["good"] is True
    assert "a 95 % interval from 4 points" in found["time"]["finding"]
    toml = on_sqlite.write(code, grid={"x": [1, 2]})
    ended = on_sqlite.run("check", str(toml))
    assert ended.code == 1
    assert "none of 2 points can be trained; x " in ended.err
    assert "Impossible: not 3" in ended.err


def test_a_rehearsal_says_how_many_points_conditions_leave(on_sqlite: Project) -> None:
    toml = on_sqlite.write(grid={"x": [1, 2, 3], "y": [1, 2], "where": ["x * y <= 4", "x != 2"]})
    found = {one["check"]: one for one in on_sqlite.told("check", str(toml), "--points", "1")}
    assert found["definition"]["finding"] == "3 configurations, 3 folds, 2 epochs"
    assert found["where"]["finding"] == "3 of 6 points remain; dropped is x 2, y 1, for example, by x != 2"
    assert found["where"]["good"] is None
    toml = on_sqlite.write(grid={"x": [1, 2, 3], "where": "x > 0"})
    found = {one["check"]: one for one in on_sqlite.told("check", str(toml), "--points", "1")}
    assert found["where"]["finding"] == "3 of 3 points remain; no condition drops any"


def test_a_rehearsal_names_a_parameter_that_could_be_meant_as_a_condition(on_sqlite: Project) -> None:
    toml = on_sqlite.write(grid={"x": [1, 2], "where": ["left", "right"]})
    found = {one["check"]: one for one in on_sqlite.told("check", str(toml), "--points", "1")}
    assert found["definition"]["finding"] == "4 configurations, 3 folds, 2 epochs"
    said = "a parameter of the grid, as its values compare nothing: left, right"
    assert found["where"]["finding"] == said


def test_a_study_has_the_points_that_its_conditions_leave(here: Project) -> None:
    grid = {"x": {"log": [1, 100], "count": 3}, "y": {"integers": [1, 3]}}
    toml = here.write(grid=grid | {"where": "x * y <= 10"}, epochs=1, folds=1)
    code = 'def fit(params, run, report):\n    report(1, loss=params["x"] + params["y"])\n'
    (here.folder / "mine.py").write_text(code)
    assert here.search(toml) == Tally(finished=4)
    keys = ["x=1.0 y=1", "x=1.0 y=2", "x=1.0 y=3", "x=10.0 y=1"]
    assert sorted(values(here.rows("configurations", "key"))) == keys
    assert here.study().choices == {"x": (1.0, 10.0), "y": (1, 2, 3)}


def test_a_condition_may_be_loosened_and_no_point_taken_away(here: Project) -> None:
    grid = {"x": [1, 2, 3], "y": [1, 2]}
    toml = here.write(grid=grid | {"where": "x + y <= 3"}, epochs=1)
    here.create()
    # The same points in other words.
    here.write(grid=grid | {"where": "x + y < 4"}, epochs=1)
    assert len(here.create(toml).definition.grid) == 3
    here.write(grid=grid | {"where": "x + y <= 4"}, epochs=1)
    assert len(here.create(toml).definition.grid) == 5
    here.write(grid=grid, epochs=1)
    here.create(toml)
    assert here.states() == {"pending": 6}
    here.write(grid=grid | {"where": "(x, y) != (3, 2)"}, epochs=1)
    complaint = here.run("create", str(toml)).complaint
    assert "grid no longer has 1 points, for example x 3, y 2 (a grid only grows)" in complaint


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sampler_that_proposes_what_is_no_point_gets_another(on_sqlite: Project, sampler: str) -> None:
    grid = {"x": [1, 2, 3, 4], "y": [1, 2, 3, 4], "where": "x < y"}
    toml = on_sqlite.write(grid=grid, epochs=1, folds=1, sampler=sampler)
    assert on_sqlite.search(toml) == Tally(finished=6)


def test_the_report_and_the_note_show_conditions(on_sqlite: Project) -> None:
    toml = on_sqlite.write(grid={"x": [1, 2, 3], "where": "x != 2"}, epochs=1)
    assert on_sqlite.search(toml) == Tally(finished=2)
    assert on_sqlite.run("report", "mine", "--out", "page").code == 0
    assert "x 1, 2, 3; where x != 2" in (on_sqlite.folder / "page" / "pairsearch-report.html").read_text()
    study = on_sqlite.study()
    assert "| x | 1, 3 |\n| where | x \\!\\= 2 |" in note(study.definition, study.traits)
