"""An objective of Optuna's is a problem as it is: its trial answers from the grid, what it returns is the metric."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from project import Project, values

from pairsearch.search.mirror.tables import open_optuna
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.rounds import Rounds
from pairsearch.search.workers.tally import Tally
from pairsearch.studies.definition import Definition, parse
from pairsearch.studies.errors import DefinitionError, ProblemError, ReportError
from pairsearch.studies.loading import Loaded, load
from pairsearch.studies.problem import Impossible, Run, Stopped
from pairsearch.studies.trial_function import Trial, TrialFunction

PRUNING = """
import optuna


def objective(trial):
    x = trial.suggest_float("x", 0, 10)
    for step in range(4):
        trial.report(x / (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned()
    return x / 4


if __name__ == "__main__":
    study = optuna.create_study()
    study.optimize(objective, n_trials=100)
"""
PARAMS = {"x": 0.5, "n": 3, "kind": "a", "on": True, "none": "None", "big": 1e6}


class Reports:
    """Records what is reported, and stops the training after an epoch."""

    def __init__(self, stop: int = 0) -> None:
        self.said: list[tuple[int, dict[str, float]]] = []
        self.stop = stop

    def __call__(self, epoch: int, **figures: float) -> None:
        self.said.append((epoch, figures))
        if epoch == self.stop:
            raise Stopped


def fit(
    objective: Callable[[Trial], Any],
    epochs: int = 4,
    stop: int = 0,
    values: tuple[str, ...] = (),
    of: int = 0,
) -> list[tuple[int, dict[str, float]]]:
    """Train one run, of fewer epochs than the definition's where those are given, and return what it reported."""
    reports = Reports(stop)
    lengths = {"fold": of or epochs, "round": of or epochs}
    TrialFunction(objective, {}, "loss", values, lengths).fit(PARAMS, Run("fold", 0, 1, epochs), reports)
    return reports.said


def trial(**params: Any) -> Trial:
    """A trial of a point."""
    return Trial(params or PARAMS, Run("fold", 0, 1, 4), "loss", Reports())


def definition(**changes: object) -> Definition:
    raw = {"name": "mine", "problem": "mine.py:objective", "metric": "loss", "grid": {"x": [1.0]}, "folds": 2}
    return parse(raw | changes, "mine.toml")


def loaded(folder: Path, code: str, **changes: object) -> Loaded:
    (folder / "mine.py").write_text(code)
    return load(definition(**changes), folder)


def test_suggestions_are_the_values_of_the_point_in_the_objective_s_types() -> None:
    one = trial()
    assert repr(one.suggest_float("x", 0, 1)) == "0.5"
    assert repr(one.suggest_float("n", 1, 3, log=True)) == "3.0"
    assert repr(one.suggest_float("x", 0.1, 1.0, step=0.1)) == "0.5"
    assert repr(one.suggest_int("n", 1, 9, step=2)) == "3"
    assert repr(one.suggest_int("big", 1, 10**6, log=True)) == "1000000"
    assert one.suggest_categorical("kind", ["a", "b"]) == "a"
    assert repr(one.suggest_categorical("n", [1, 3.0])) == "3.0"
    assert one.suggest_categorical("on", [1, True]) is True
    assert one.suggest_categorical("none", ["x", None]) is None
    assert one.suggest_categorical("none", [None, "None"]) == "None"
    assert one.params == {"x": 0.5, "n": 3.0, "big": 1000000, "kind": "a", "on": True, "none": "None"}
    of_old = [one.suggest_uniform("x", 0, 1), one.suggest_loguniform("x", 0.1, 1)]
    assert [*of_old, one.suggest_discrete_uniform("x", 0.1, 1.0, 0.1)] == [0.5] * 3


@pytest.mark.parametrize(
    ("suggest", "message"),
    [
        (
            lambda t: t.suggest_float("y", 0, 1),
            "the objective suggests 'y', which the point lacks: it has x, n, kind, on, none, big",
        ),
        (
            lambda t: t.suggest_float("x", 1, 2),
            "the grid has x = 0.5, and the objective suggests from 1 to 2",
        ),
        (lambda t: t.suggest_float("x", 0, 0.4), "the grid has x = 0.5, and .* from 0 to 0.4"),
        (lambda t: t.suggest_float("x", 0, 1, step=0.3), "suggests from 0 to 1 in steps of 0.3"),
        (
            lambda t: t.suggest_float("kind", 0, 1),
            "the grid has kind = 'a', and the objective suggests from 0 to 1",
        ),
        (lambda t: t.suggest_float("on", 0, 1), "the grid has on = True"),
        (
            lambda t: t.suggest_int("x", 0, 1),
            "the grid has x = 0.5, and the objective suggests an integer from 0 to 1",
        ),
        (lambda t: t.suggest_int("n", 4, 9), "an integer from 4 to 9"),
        (lambda t: t.suggest_int("n", 0, 2), "an integer from 0 to 2"),
        (lambda t: t.suggest_int("n", 2, 8, step=2), "an integer from 2 to 8 in steps of 2"),
        (lambda t: t.suggest_int("kind", 0, 9), "the grid has kind = 'a'"),
        (
            lambda t: t.suggest_categorical("kind", ["b", None]),
            "the grid has kind = 'a', and .* one of 'b', None",
        ),
        (lambda t: t.suggest_categorical("on", [1, 0]), "the grid has on = True"),
    ],
)
def test_what_the_grid_lacks_or_has_outside_of_what_is_suggested_is_a_line(
    suggest: Callable[[Trial], Any], message: str
) -> None:
    with pytest.raises(Impossible, match=f"^{message}|{message}$") as caught:
        suggest(trial())
    assert "\n" not in str(caught.value)


def test_what_a_trial_has_not_says_what_it_has() -> None:
    with pytest.raises(
        AttributeError, match=r"trial\.study: a trial has suggest_categorical, .* and run here"
    ):
        _ = trial().study


def test_the_number_belongs_to_the_point_and_the_run_alone() -> None:
    numbers = [
        Trial({"x": x}, Run(kind, index, 2, 1), "loss", Reports()).number
        for x in (1, 1.0)
        for kind in ("fold", "round")
        for index in (0, 1)
        for _ in range(2)
    ]
    assert numbers[::2] == numbers[1::2]
    assert len(set(numbers)) == 8
    assert all(number < 2**31 for number in numbers), "it may be a seed"


def of_steps(first: int, last: int, every: int = 1) -> Callable[[Trial], float]:
    """An objective that reports ten times its step, and returns 7."""

    def objective(trial: Trial) -> float:
        for step in range(first, last + 1, every):
            trial.report(10 * step, step)
            assert not trial.should_prune()
        return 7.0

    return objective


@pytest.mark.parametrize(
    ("objective", "reported"),
    [
        (lambda _: 7.0, {4: 7.0}),
        (lambda _: [7.0], {4: 7.0}),
        (of_steps(0, 3), {1: 0, 2: 10, 3: 20, 4: 7.0}),
        (of_steps(1, 4), {1: 10, 2: 20, 3: 30, 4: 7.0}),
        (of_steps(0, 1), {1: 0, 2: 10, 4: 7.0}),
        (of_steps(2, 4, 2), {2: 20, 4: 7.0}),
    ],
)
def test_the_returned_value_is_the_metric_after_the_last_epoch_and_reports_are_the_curve(
    objective: Callable[[Trial], Any], reported: dict[int, float]
) -> None:
    assert fit(objective) == [(epoch, {"loss": value}) for epoch, value in reported.items()]


def test_a_step_that_is_reported_again_is_left_out_and_a_lower_one_refused() -> None:
    def again(trial: Trial) -> float:
        trial.report(1.0, 1)
        trial.report(2.0, 1)
        return 3.0

    def back(trial: Trial) -> float:
        trial.report(1.0, 2)
        trial.report(2.0, 1)
        return 3.0

    assert fit(again) == [(1, {"loss": 1.0}), (4, {"loss": 3.0})]
    with pytest.raises(ReportError, match="expected a step above that of the last report, got 1"):
        fit(back)


@pytest.mark.parametrize(
    "value",
    [np.float32(0.5), np.array(0.5), np.array([[0.5]]), torch.tensor(0.5), torch.tensor([0.5]), "0.5"],
)
def test_a_value_is_what_float_makes_of_it(value: Any) -> None:
    def objective(trial: Trial) -> Any:
        trial.report(value, 1)
        return value

    assert fit(objective) == [(1, {"loss": 0.5}), (4, {"loss": 0.5})]


def test_several_values_have_their_names_in_order() -> None:
    assert fit(lambda _: (1.0, 2.0), values=("loss", "latency")) == [(4, {"loss": 1.0, "latency": 2.0})]
    for returned, count in (((1.0,), 1), (1.0, 1), ((1.0, 2.0, 3.0), 3)):
        with pytest.raises(
            ReportError, match=rf"returned {count} values, expected 2 \(loss, latency\): `values`"
        ):
            fit(lambda _, given=returned: given, values=("loss", "latency"))
    with pytest.raises(ReportError, match="returned 2 values, expected 1"):
        fit(lambda _: (1.0, 2.0))


class TrialPruned(Exception):  # noqa: N818 - Optuna's name
    """What an objective raises; the real one is used in the files below."""


class Special(TrialPruned):
    """One of somebody's own."""


@pytest.mark.parametrize("raised", [TrialPruned, Special, None])
def test_should_prune_is_true_once_the_training_has_to_end(raised: type[Exception] | None) -> None:
    asked: list[bool] = []

    def objective(trial: Trial) -> float:
        for step in range(4):
            trial.report(step, step)
            asked.append(trial.should_prune())
            if asked[-1]:
                assert trial.should_prune()
                if raised is None:
                    return 0.0
                raise raised
        return 1.0

    with pytest.raises(Stopped):
        fit(objective, stop=2)
    assert asked == [False, True]


def test_who_never_asks_is_stopped_by_the_next_report() -> None:
    seen: list[int] = []

    def objective(trial: Trial) -> float:
        for step in range(4):
            seen.append(step)
            trial.report(step, step)
        return 1.0

    with pytest.raises(Stopped):
        fit(objective, stop=2)
    assert seen == [0, 1, 2]


def test_who_goes_on_after_should_prune_is_stopped_by_the_next_report() -> None:
    def objective(trial: Trial) -> float:
        trial.report(0.0, 0)
        assert trial.should_prune()
        trial.report(0.0, 1)
        raise AssertionError("it goes on")

    with pytest.raises(Stopped):
        fit(objective, stop=1)


def test_a_point_that_the_objective_prunes_by_itself_is_impossible() -> None:
    def objective(trial: Trial) -> float:
        raise TrialPruned(*said)

    said: list[str] = ["too wide"]
    with pytest.raises(Impossible, match=r"^too wide$"):
        fit(objective)
    said.clear()
    with pytest.raises(Impossible, match=r"^raised TrialPruned, though should_prune\(\) was false$"):
        fit(objective)


@pytest.mark.parametrize("raised", [TrialPruned, RuntimeError, None])
def test_a_suggestion_that_was_refused_is_told_though_the_objective_caught_it(
    raised: type[Exception] | None,
) -> None:
    def objective(trial: Trial) -> float:
        try:
            return trial.suggest_float("y", 0, 1)
        except Exception:
            if raised is None:
                return float("inf")
            raise raised from None

    with pytest.raises(Impossible, match=r"^the objective suggests 'y', which the point lacks"):
        fit(objective)


def test_an_exception_of_its_own_passes() -> None:
    def objective(trial: Trial) -> float:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        fit(objective)


@pytest.mark.parametrize(
    ("objective", "reported"),
    [
        (of_steps(0, 19), [(1, 0), (2, 10)]),
        (of_steps(1, 20), [(1, 10), (2, 20)]),
        (of_steps(5, 20, 5), [(2, 50)]),
        (lambda _: 7.0, [(2, 7.0)]),
    ],
)
def test_a_rehearsal_ends_after_its_fewer_epochs(
    objective: Callable[[Trial], Any], reported: list[tuple[int, float]]
) -> None:
    assert fit(objective, epochs=2, of=20) == [(epoch, {"loss": value}) for epoch, value in reported]


@pytest.mark.parametrize(
    ("signature", "settings", "is_one"),
    [
        ("trial", {}, True),
        ("anything", {}, True),
        ("trial, scale=2.0", {}, True),
        ("trial, scale", {"scale": 2.0}, True),
        ("trial, *, scale", {"scale": 2.0}, True),
        ("trial, a, b, c", {"a": 1, "b": 2, "c": 3}, True),
        ("trial, **settings", {"scale": 2.0}, True),
        ("trial, folds=3, scale=2.0", {}, True),
        ("trial, *arguments", {}, True),
        ("params, run, report", {}, False),
        ("params, run=None, report=None", {}, False),
        ("params, run, report, scale", {"scale": 2.0}, False),
        ("*arguments", {}, False),
    ],
)
def test_an_objective_is_told_by_its_signature(
    tmp_path: Path, signature: str, settings: dict[str, Any], is_one: bool
) -> None:
    one = loaded(tmp_path, f"def objective({signature}):\n    return 1.0\n", settings=settings)
    assert isinstance(one.problem, TrialFunction) == is_one


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        (
            "def objective(params, run): pass",
            {},
            r"expected objective\(params, run, report\), or an objective of Optuna's of one argument",
        ),
        ("def objective(): pass", {}, r"objective\(\): expected objective\(params, run, report\), or"),
        ("def objective(trial): pass", {"scale": 2}, "its .settings. and --set do not fit its arguments"),
        (
            "def objective(trial, x, y): pass",
            {},
            "its .settings. and --set do not fit its arguments: missing a required argument: 'x'",
        ),
        (
            "def objective(trial, *, scale): pass",
            {},
            "its .settings. and --set do not fit its arguments: missing",
        ),
        ("class objective:\n    pass", {}, "the class has no method fit"),
        (
            "import optuna\ndef objective(trial): pass\nstudy = optuna.create_study()\nstudy.optimize(objective)",
            {},
            r"mine\.py, line 4, calls optimize whenever the file is imported: put the call below if __name__ ==",
        ),
        (
            "import optuna\ndef objective(trial): pass\nwith open('/dev/null'):\n    optuna.create_study().optimize(1)",
            {},
            r"mine\.py, line 4, calls optimize",
        ),
    ],
)
def test_what_is_no_objective_is_refused(
    tmp_path: Path, code: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProblemError, match=message):
        loaded(tmp_path, code, settings=settings)


def test_a_class_that_is_called_with_a_trial_is_an_objective(tmp_path: Path) -> None:
    code = """
class objective:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, trial):
        return self.scale * trial.suggest_float("x", 0, 1)
"""
    one = loaded(tmp_path, code, settings={"scale": 3.0})
    outcome = CrossValidation(one)(one.definition.grid.configurations()[0])
    assert outcome is not None
    assert outcome.value == 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": ["latency"]}, "values: expected distinct names with 'loss', the metric, among them"),
        ({"values": ["loss", "loss"]}, "values: expected distinct names with 'loss'"),
        ({"values": "loss"}, "values: expected a list, got 'loss'"),
        ({"values": ["a b"]}, "values.0: expected a name"),
    ],
)
def test_names_of_values_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        definition(**changes)


def test_results_depend_on_the_names_of_values_where_there_are_any(tmp_path: Path) -> None:
    assert "values" not in definition().results_depend_on
    both = [definition(values=names) for names in (["loss", "latency"], ["latency", "loss"])]
    assert len({one.fingerprint for one in [definition(), *both]}) == 3
    with pytest.raises(ProblemError, match=r"values: problem mine\.py:objective reports its figures by name"):
        loaded(tmp_path, "def objective(params, run, report): pass", values=["loss"])


def test_several_values_are_figures_with_their_own_directions(tmp_path: Path) -> None:
    metrics = {"score": {"maximise": True}, "latency": {"unit": "s"}}
    code = "def objective(trial):\n    return trial.suggest_float('x', 0, 9), 3.0\n"
    one = loaded(tmp_path, code, metric="score", values=["score", "latency"], metrics=metrics)
    assert {name: metric.maximise for name, metric in one.traits.metrics.items()} == {
        "score": True,
        "latency": False,
    }
    outcome = CrossValidation(one)(one.definition.grid.configurations()[0])
    assert outcome is not None
    assert outcome.figures == {"score": 1.0, "latency": 3.0}


def test_user_attributes_of_a_round_are_facts_about_its_configuration(tmp_path: Path) -> None:
    code = """
def objective(trial):
    trial.set_user_attr("weights", 1234567)
    trial.set_user_attr("best", trial.params == {} and trial.run.kind)
    assert trial.user_attrs["weights"] == 1234567
    return trial.suggest_float("x", 0, 9)
"""
    one = loaded(tmp_path, code, grid={"x": [1.0, 2.0]})
    first, second = one.definition.grid.configurations()
    [trained] = Rounds(one)(first, [0])
    assert trained.result.facts == {"weights": "1234567", "best": "round"}
    outcome = CrossValidation(one)(first)
    assert outcome is not None
    assert {fold.facts["best"] for fold in outcome.folds if fold.facts} == {"fold"}
    assert one.problem.describe(second.params) == {}


def test_a_parameter_that_is_never_suggested_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = loaded(
        tmp_path,
        "def objective(trial):\n    return trial.suggest_float('x', 0, 9)\n",
        grid={"x": [1], "y": [2]},
    )
    CrossValidation(one)(one.definition.grid.configurations()[0])
    assert [record.message for record in caplog.records] == [
        "the objective does not suggest y at every point: points that differ in nothing else are trained for nothing; "
        "a [[grid]] of its own, or `where`, leaves them out"
    ]


def test_a_run_shows_what_its_workers_warn_of_once(on_sqlite: Project) -> None:
    on_sqlite.write(
        "def objective(trial):\n    return trial.suggest_float('x', 0, 9)\n",
        problem="mine.py:objective",
        grid={"x": [1, 2, 3], "y": [2]},
    )
    ended = on_sqlite.run("run", "mine.toml", "--workers", "2", "--quiet")
    assert (ended.code, ended.err.count("\n")) == (0, 1)
    assert ended.err.startswith("warning: the objective does not suggest y at every point: ")


def test_optuna_s_own_example_is_searched_and_evaluated(project: Project) -> None:
    changes: dict[str, Any] = {"problem": "mine.py:objective", "epochs": 4, "grid": {"x": [1, 2.5]}}
    toml = project.write(PRUNING, **changes)
    assert project.search(toml) == Tally(finished=2)
    assert sorted(values(project.rows("configurations", "value", "where state = 'finished'"))) == [
        0.25,
        0.625,
    ]
    curves = {json.dumps(json.loads(text)) for text in values(project.rows("curves", "points"))}
    assert curves == {"[1.0, 0.5, 0.3333333333333333, 0.25]", "[2.5, 1.25, 0.8333333333333334, 0.625]"}
    ended = project.run("evaluate", str(toml), "--workers", "1", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)[0]["rounds"] == 2


def test_a_rehearsal_finds_an_objective_good(on_sqlite: Project) -> None:
    toml = on_sqlite.write(PRUNING, problem="mine.py:objective", epochs=4, grid={"x": [1, 2.5]})
    found = {one["check"]: one for one in on_sqlite.told("check", str(toml))}
    assert found["training"]["finding"] == "2 points, 2 epochs each"
    assert found["same bits"]["good"] is found["contract"]["good"] is True


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_single_repetition_is_pruned_between_its_epochs(project: Project, pruner: str) -> None:
    grid = {"x": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}
    toml = project.write(PRUNING, problem="mine.py:objective", epochs=4, folds=1, pruner=pruner, grid=grid)
    tally = project.search(toml)
    states = project.states()
    assert (tally.finished, sum(states.values())) == (10, 10)
    assert states["pruned"] > 0
    reasons = values(project.rows("configurations", "reason", "where state = 'pruned'"))
    assert {reason.split(" after ")[1] for reason in reasons} <= {
        f"epoch {epoch} by pruner {pruner}" for epoch in (1, 2, 3)
    }
    assert project.rows("configurations", "value", "where key = 'x=1'") == [(0.25,)]
    storage = open_optuna(project.database)
    try:
        trials = optuna.load_study(study_name="mine", storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()
    ended = {name: trial for trial in trials if (name := trial.state.name) in ("COMPLETE", "PRUNED")}
    assert sorted(ended["COMPLETE"].intermediate_values) == [1, 2, 3, 4]
    assert sorted(ended["PRUNED"].intermediate_values) in ([1], [1, 2], [1, 2, 3])


def test_repetitions_are_pruned_between_each_other(on_sqlite: Project) -> None:
    grid = {"x": [float(value) for value in range(1, 11)]}
    toml = on_sqlite.write(
        PRUNING, problem="mine.py:objective", epochs=4, folds=4, pruner="wilcoxon", grid=grid
    )
    on_sqlite.search(toml)
    assert "pruned" in on_sqlite.states()


def test_an_objective_whose_grid_lacks_a_name_fails_at_once_and_says_it(on_sqlite: Project) -> None:
    toml = on_sqlite.write(PRUNING, problem="mine.py:objective", epochs=4, grid={"lr": [1, 2]})
    line = "the objective suggests 'x', which the point lacks: it has lr (mine.py, line 6)"
    ended = on_sqlite.run("check", str(toml))
    assert ended.code == 1
    assert line in ended.err
    ended = on_sqlite.run("run", str(toml), "--workers", "1")
    assert ended.code == 1
    assert line in ended.err
    assert on_sqlite.states() == {"failed": 2}


def test_more_steps_than_epochs_are_refused(on_sqlite: Project) -> None:
    toml = on_sqlite.write(PRUNING, problem="mine.py:objective", epochs=3, grid={"x": [1, 2]})
    said = "expected an epoch of at most 3, got 4: the definition's `epochs` says how many there are"
    ended = on_sqlite.run("run", str(toml), "--workers", "1")
    assert ended.code == 1
    assert said in ended.err
    ended = on_sqlite.run("check", str(toml))
    assert ended.code == 1
    [line] = [line for line in ended.out.splitlines() if "epochs:" in line]
    assert said in line


def test_a_time_limit_ends_an_objective(on_sqlite: Project) -> None:
    code = """
import time

def objective(trial):
    for step in range(1000):
        time.sleep(0.01)
        trial.report(1.0, step)
        if trial.should_prune():
            return 0.0
    return 1.0
"""
    changes: dict[str, Any] = {
        "problem": "mine.py:objective",
        "epochs": 1000,
        "time_limit": 0.1,
        "grid": {"x": [1]},
    }
    toml = on_sqlite.write(code, **changes)
    assert on_sqlite.search(toml) == Tally(failed=1)
    [reason] = values(on_sqlite.rows("configurations", "reason"))
    assert "longer than the time limit of 0.1 s" in reason
