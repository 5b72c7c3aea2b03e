"""A user's own problem in a file beside its definition works in every form, with values of every type."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
import pyarrow.parquet
import pytest
from optuna.trial import FrozenTrial
from project import FIT, Project, values
from safetensors.numpy import load_file

from pairsearch.search.mirror.tables import open_optuna
from pairsearch.studies.configuration import LONGEST_KEY
from pairsearch.studies.errors import DefinitionError

CLASS = """
class Mine:
    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, params, run, report):
        for epoch in range(1, run.epochs + 1):
            report(epoch, loss=self.scale * params["x"] * (1 + run.index) / epoch)
"""
TOGETHER = """
from pairsearch import Metric, Problem

class Mine(Problem):
    metrics = {"loss": Metric("loss"), "other": Metric()}

    def __init__(self, scale=1.0):
        self.scale = scale

    def train(self, params, runs, report):
        for epoch in range(1, runs[0].epochs + 1):
            report(epoch, [{"loss": self.scale * params["x"] * (1 + run.index) / epoch} for run in runs])
        return [None for _ in runs]
"""
FUNCTION = """
def Mine(params, run, report, scale=1.0):
    for epoch in range(1, run.epochs + 1):
        report(epoch, loss=scale * params["x"] * (1 + run.index) / epoch)
"""


@contextmanager
def optuna_study(project: Project) -> Iterator[optuna.Study]:
    """Optuna's view of the study."""
    storage = open_optuna(project.database)
    try:
        yield optuna.load_study(study_name="mine", storage=storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def trials_of(project: Project) -> list[FrozenTrial]:
    with optuna_study(project) as study:
        return study.trials


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        pytest.param(TOGETHER, "mine.py:Mine", id="together"),
        pytest.param(FUNCTION, "mine.py:Mine", id="function"),
        pytest.param(CLASS, "{module}:Mine", id="module"),
    ],
)
def test_a_problem_of_any_form_is_searched(on_sqlite: Project, code: str, problem: str) -> None:
    module = f"module_{abs(hash(on_sqlite.folder))}"
    file = "mine.py" if problem.startswith("mine") else f"{module}.py"
    on_sqlite.write(code, file, problem=problem.format(module=module), settings={"scale": 0.5})
    assert on_sqlite.search().finished == 2
    found = dict(on_sqlite.rows("configurations", "key, value"))
    # The means over folds, which multiply by 1, 2 and 3, after the second epoch.
    assert found == {"x=1": pytest.approx(0.5), "x=2": pytest.approx(1.0)}
    assert on_sqlite.study().traits.files.keys() == {file}


@pytest.mark.parametrize(
    ("project", "sampler"), [("sqlite", "grid"), ("postgresql", "tpe")], indirect=["project"]
)
def test_values_that_python_takes_for_equal_stay_different(project: Project, sampler: str) -> None:
    project.write(
        """
        def fit(params, run, report):
            kinds = {bool: 1, int: 2, float: 3, str: 4}
            report(1, loss=kinds[type(params["x"])] + kinds[type(params["plain"])] / 10)
        """,
        grid={"x": [1, 1.0, True, "1"], "plain": [False, True]},
        sampler=sampler,
        epochs=1,
    )
    assert project.search().finished == 8
    found = dict(project.rows("configurations", "key, value"))
    expected = {"1": 2.1, "1.0": 3.1, "True": 1.1, "'1'": 4.1}
    assert found == {
        f"plain={plain} x={x}": pytest.approx(value)
        for x, value in expected.items()
        for plain in (False, True)
    }
    complete = [trial for trial in trials_of(project) if trial.state.name == "COMPLETE"]
    of_optuna = {trial.user_attrs["configuration"]: trial.params for trial in complete}
    assert of_optuna.keys() == found.keys()
    assert len({(repr(p["x"]), p["plain"]) for p in of_optuna.values()}) == 8
    best = project.told("best", "mine", "--top", "8")["ranked"]
    assert sorted(f"plain={e['params']['plain']!r} x={e['params']['x']!r}" for e in best) == sorted(found)
    for kind in ("csv", "parquet", "json"):
        assert project.run("export", "mine", "--format", kind).code == 0
    for rows in (
        pyarrow.parquet.read_table(project.folder / "mine-configurations.parquet").to_pylist(),
        json.loads((project.folder / "mine-configurations.json").read_text()),
        list(csv.DictReader((project.folder / "mine-configurations.csv").read_text("utf-8").splitlines())),
    ):
        # A column has one type, so a parameter with values of several types is exported as JSON.
        told = {row["configuration"]: repr(json.loads(row["x"])) for row in rows}
        assert all(key.endswith(f" x={x}") for key, x in told.items()), told


UNION = [
    {"kind": ["linear"], "x": [1, 2]},
    {"kind": ["deep"], "x": [1, 2], "depth": [2, 3]},
    {"kind": ["linear"], "x": [2, 3]},
]


@pytest.mark.parametrize(
    ("project", "sampler"),
    [("sqlite", "tpe"), ("postgresql", "grid")],
    indirect=["project"],
)
def test_a_union_of_grids_has_each_point_once_without_what_it_has_not(project: Project, sampler: str) -> None:
    code = """
    def fit(params, run, report):
        assert ("depth" in params) == (params["kind"] == "deep")
        report(1, loss=params["x"] / params.get("depth", 1))
    """
    project.write(code, grid=UNION[:2], sampler=sampler, epochs=1)
    assert project.search().finished == 6
    # The grid grows by a table that shares a point with the first.
    project.write(code, grid=UNION, sampler=sampler, epochs=1)
    assert project.search().finished == 1
    keys = values(project.rows("configurations", "key"))
    assert len(keys) == len(set(keys)) == 7
    assert sum("depth" in key for key in keys) == 4
    # A point that a sampler proposes again gets the result that is stored.
    complete = [
        trial
        for trial in trials_of(project)
        if trial.values and not trial.user_attrs.get("answered_from_ledger")
    ]
    assert len(complete) == 7
    assert all(("depth" in trial.params) == (trial.params["kind"] == "deep") for trial in complete)
    assert project.run("export", "mine", "--format", "json").code == 0
    rows = json.loads((project.folder / "mine-configurations.json").read_text())
    assert sorted(row["configuration"] for row in rows if row["depth"] is None) == sorted(
        key for key in keys if "depth" not in key
    )
    for entry in project.told("best", "mine", "--top", "7")["ranked"]:
        assert ("depth" in entry["params"]) == (entry["params"]["kind"] == "deep")
    ended = project.run("report", "mine")
    assert (ended.code, ended.err) == (0, "")


FOLDS_OF = "(select count(*) from pairsearch_runs r where r.key = pairsearch_configurations.key)"
"""How many folds of a configuration are stored, for a query of configurations."""


@pytest.mark.parametrize("code", [FIT, TOGETHER], ids=["in turn", "together"])
@pytest.mark.parametrize(("sampler", "pruner"), [("tpe", "median"), ("random", "hyperband")])
def test_samplers_and_pruners_work_on_problems_of_both_kinds(
    on_sqlite: Project, code: str, sampler: str, pruner: str
) -> None:
    together = code is TOGETHER
    on_sqlite.write(
        code,
        problem="mine.py:Mine" if together else "mine.py:fit",
        sampler=sampler,
        pruner=pruner,
        folds=6,
        epochs=6,
        grid={"x": list(range(1, 13))},
    )
    assert on_sqlite.search().finished == 12
    assert on_sqlite.states().keys() <= {"finished", "pruned"}
    assert on_sqlite.states()["finished"] > 0
    for reason, folds in on_sqlite.rows("configurations", f"reason, {FOLDS_OF}"):
        unit = "epoch" if together else "folds"
        assert (reason is None and folds == 6) or (f"pruner {pruner}" in reason and unit in reason)
        assert together or reason is None or f"after {folds} folds" in reason


@pytest.mark.parametrize("pruner", ["wilcoxon", "race"])
def test_pruners_that_compare_folds_refuse_those_that_train_together(on_sqlite: Project, pruner: str) -> None:
    on_sqlite.write(TOGETHER, problem="mine.py:Mine", pruner=pruner, folds=6)
    with pytest.raises(DefinitionError, match=f"{pruner} compares folds that are trained in turn"):
        on_sqlite.create()


def test_folds_in_turn_are_one_step_each_and_pruned_ones_are_not_trained(on_sqlite: Project) -> None:
    on_sqlite.write(
        """
        from pathlib import Path
        def fit(params, run, report):
            with (Path(__file__).parent / "trained").open("a") as file:
                file.write(f"{params['x']} {run.index}\\n")
            report(1, loss=params["x"] + run.index)
        """,
        pruner="wilcoxon",
        folds=8,
        epochs=1,
        grid={"x": [1, 2, 3, 4]},
    )
    assert on_sqlite.search().finished == 4
    trained = (on_sqlite.folder / "trained").read_text().splitlines()
    stored = on_sqlite.rows("runs", "key, run")
    assert sorted(f"x={line.split()[0]} {line.split()[1]}" for line in trained) == sorted(
        f"{key} {run}" for key, run in stored
    )
    assert on_sqlite.states().keys() == {"finished", "pruned"}
    for reason, count in on_sqlite.rows("configurations", f"reason, {FOLDS_OF}", "where state = 'pruned'"):
        assert "pruner wilcoxon" in reason
        assert f"after {count} folds" in reason
    folds = {
        key: values(on_sqlite.rows("runs", "run", f"where key = '{key}' order by run")) for key, _ in stored
    }
    for trial in trials_of(on_sqlite):
        mine = folds[trial.user_attrs["configuration"]]
        assert trial.intermediate_values == {fold + 1: trial.params["x"] + fold for fold in mine}


@pytest.mark.parametrize("maximise", [False, True])
def test_a_race_stops_what_is_plainly_worse_and_keeps_the_best(on_sqlite: Project, maximise: bool) -> None:
    on_sqlite.write(
        """
        import random
        def fit(params, run, report):
            noise = random.Random(f"{params['x']} {run.index}").gauss(0, 0.1)
            report(1, score=abs(params["x"]) + noise if params["x"] > 0 else noise + params["x"])
        """,
        metric="score",
        metrics={"score": {"maximise": maximise}},
        pruner="race",
        folds=8,
        epochs=1,
        grid={"x": [-8, -4, -2, 2, 4, 8]},
    )
    assert on_sqlite.search().finished == 6
    finished = values(on_sqlite.rows("configurations", "key", "where state = 'finished'"))
    assert ("x=8" if maximise else "x=-8") in finished
    assert len(finished) < 6
    for reason, count in on_sqlite.rows("configurations", f"reason, {FOLDS_OF}", "where state = 'pruned'"):
        assert "pruner race" in reason
        assert f"after {count} folds" in reason
        assert 3 <= count < 8


def test_a_race_of_too_few_folds_is_refused(on_sqlite: Project) -> None:
    on_sqlite.write(FIT, pruner="race", folds=3, epochs=1)
    with pytest.raises(DefinitionError, match="expected at least 4 folds, got 3"):
        on_sqlite.create()


MAXIMISED = """
def fit(params, run, report):
    report(1, score=params["x"] / 10, cost=float(params["x"]))
"""


def test_a_maximised_figure_has_the_highest_first_everywhere(on_sqlite: Project) -> None:
    metrics = {"score": {"label": "the score", "maximise": True, "percent": True}, "cost": {"unit": "s"}}
    on_sqlite.write(
        MAXIMISED, metric="score", metrics=metrics, epochs=1, sampler="tpe", grid={"x": [3, 9, 5]}
    )
    assert on_sqlite.search().finished == 3
    assert [entry["params"]["x"] for entry in on_sqlite.told("best", "mine")["ranked"]] == [9, 5, 3]
    with optuna_study(on_sqlite) as study:
        assert (study.direction.name, study.best_params) == ("MAXIMIZE", {"x": 9})
    status = on_sqlite.told("status", "mine")[0]
    assert status["best"]["params"]["x"] == 9
    ended = on_sqlite.run("evaluate", "mine.toml", "--json")
    assert ended.code == 0, ended.err
    (row,) = json.loads(ended.out)
    assert row["params"] == {"x": 9}
    assert on_sqlite.run("report", "mine").code == 0
    turned = on_sqlite.write(
        MAXIMISED,
        metric="score",
        metrics={"score": {}, "cost": {}},
        epochs=1,
        grid={"x": [3, 9, 5]},
        sampler="tpe",
    )
    assert "score is maximised there" in on_sqlite.run("create", str(turned)).complaint


WEIGHTS = """
import numpy as np
import torch
def fit(params, run, report):
    report(1, loss=float(params["x"]))
    if params["x"] == 1:
        return {"w": np.arange(3, dtype=np.float32) + run.index}
    if params["x"] == 2:
        return torch.nn.Linear(2, 1, dtype=torch.float64).state_dict()
    if params["x"] == 3:
        return None
    return {"w": [1.0, 2.0]}
"""


def test_weights_are_kept_as_arrays_or_tensors_or_not_at_all(on_sqlite: Project) -> None:
    on_sqlite.write(WEIGHTS, grid={"x": [1, 2, 3, 4]}, epochs=1)
    assert on_sqlite.search().finished == 4
    ended = on_sqlite.run("evaluate", "mine.toml", "--top", "3", "--rounds", "1")
    assert ended.code == 0, ended.err
    models = sorted((on_sqlite.folder / "pairsearch-models").iterdir())
    assert [model.name for model in models] == [
        "mine-x=1-round=0.safetensors",
        "mine-x=2-round=0.safetensors",
    ]
    assert np.array_equal(load_file(models[0])["w"], np.arange(3, dtype=np.float32))
    assert load_file(models[1])["weight"].dtype == np.float64
    ended = on_sqlite.run("evaluate", "mine.toml", "--top", "4", "--rounds", "1")
    assert ended.code != 0
    assert "list" in ended.err.splitlines()[-1], ended.err
    assert "Traceback" not in ended.err


def test_folders_of_models_and_keys_take_any_parameter_value(on_sqlite: Project, tmp_path: Path) -> None:
    on_sqlite.write(
        """
        def fit(params, run, report):
            report(1, loss=float(len(params["a name"]) if "a name" in params else 1))
            return None
        """,
        grid={"path": ["../../etc/passwd", "a=b c", "é", "", "'; drop table x; --"]},
        epochs=1,
    )
    assert on_sqlite.search().finished == 5
    assert on_sqlite.run("best", "mine").code == 0
    assert on_sqlite.run("report", "mine").code == 0


def test_values_may_be_longer_than_an_index_holds(project: Project) -> None:
    """Their letters do not repeat, for PostgreSQL packs what does."""
    letters = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(100))
    names = {f"parameter_{number}_{letters[:40]}": ["é" * 20] for number in range(40)}
    project.write(
        """
        def fit(params, run, report):
            report(1, loss=float(len(params["x"])))
        """,
        grid={"x": [letters, letters + "!", "short"], **names},
        epochs=1,
    )
    assert project.search().finished == 3
    rows = project.rows("configurations", "key, value", "order by value")
    assert [value for _, value in rows] == [5.0, 6400.0, 6401.0]
    assert len({key for key, _ in rows}) == 3
    assert max(len(key.encode()) for key, _ in rows) <= LONGEST_KEY
    assert project.told("evaluate", "mine.toml", "--top", "3")[2]["params"]["x"] == letters + "!"
    assert sorted(len(trial.params["x"]) for trial in trials_of(project)) == [5, 6400, 6401]
    assert project.run("report", "mine").code == 0
