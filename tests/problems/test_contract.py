"""`pairsearch.check_contract` accepts problems that keep the contract, and names what others break."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from project import FIT, Project

import pairsearch
from pairsearch.search.common.machine import Machine
from pairsearch.search.setup.arguments import look_up
from pairsearch.search.setup.opening import load
from pairsearch.search.workers.rehearsal import Rehearsal

IRIS = {
    "name": "iris",
    "problem": "estimator",
    "metric": "neg_log_loss",
    "folds": 3,
    "settings": {"data": "iris", "estimator": "sklearn.linear_model.LogisticRegression"},
    "grid": {"C": [0.1, 1.0], "max_iter": [200]},
}


def iris(folder: Path) -> Path:
    """A study of an estimator of scikit-learn's."""
    path = folder / "iris.toml"
    path.write_text(tiny.as_toml(IRIS), encoding="utf-8")
    return path


def broken_here(toml: Path) -> list[str]:
    """The same as `broken`, but this process also answers for the other one."""
    rehearsed = Rehearsal(load(None, look_up(str(toml)), Machine()), points=1)
    return [check.finding for check in rehearsed.promises(rehearsed.measure()) if not check.good]


def broken(toml: Path) -> list[str]:
    with pytest.raises(AssertionError) as raised:
        pairsearch.check_contract(toml)
    return str(raised.value).splitlines()


def test_good_problems_keep_the_contract(on_sqlite: Project) -> None:
    """The paper's problem: `tests/search/workers/test_check.py`; a class that trains with PyTorch: the tutorial's."""
    pairsearch.check_contract(on_sqlite.write(FIT))
    assert broken_here(iris(on_sqlite.folder)) == []


GLOBAL = """
import random
import numpy as np
import torch
def fit(params, run, report):
    report(1, loss={draw})
"""


@pytest.mark.parametrize("draw", ["random.random()", "np.random.rand()", "torch.rand(1).item()"])
def test_global_random_numbers_are_the_run_s_own_and_those_of_the_service_stay_apart(
    on_sqlite: Project, draw: str
) -> None:
    before = random.getstate()
    assert broken_here(on_sqlite.write(GLOBAL.format(draw=draw), epochs=1)) == []
    assert random.getstate() == before
    on_sqlite.search()
    figures = on_sqlite.rows("runs", "run, figures", "order by run")
    assert len(set(figures)) == 3, "each fold has its own, whatever the configuration"


def test_other_random_numbers_are_told_with_what_differs_and_what_it_costs(on_sqlite: Project) -> None:
    (line,) = broken_here(on_sqlite.write(GLOBAL.format(draw="random.SystemRandom().random()"), epochs=1))
    assert line.startswith(
        "x 2 gives other figures trained twice in one process (loss of fold 0 after epoch 1: "
    )
    assert "results will depend on which worker computes them" in line


RESUMED = """
import torch
from pairsearch import Metric, OneByOne

class Mine(OneByOne):
    metrics = {{"loss": Metric()}}

    def fit(self, params, run, report):
        chance = torch.Generator().manual_seed(run.stream("data"))
        weight = torch.nn.Parameter(torch.ones(3))
        optimiser = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        done = 0
        if (found := run.checkpoint.load()) is not None:
            done, state = found
            {load}
        for epoch in range(done + 1, run.epochs + 1):
            optimiser.zero_grad()
            loss = (weight * torch.rand(3, generator=chance)).square().sum()
            loss.backward()
            optimiser.step()
            report(epoch, loss=loss.item())
            state = {{"chance": chance.get_state(), "weight": weight.data, "optimiser": optimiser.state_dict()}}
            run.checkpoint.save(epoch, state)
"""
LOADS = {
    "chance": "chance.set_state(state['chance'])",
    "weight": "weight.data.copy_(state['weight'])",
    "optimiser": "optimiser.load_state_dict(state['optimiser'])",
}


INTERRUPTED = "interrupted after epoch 1 and resumed in another process"
WALK = """
import random
from pairsearch import Metric, OneByOne

class Mine(OneByOne):
    metrics = {"loss": Metric()}

    def fit(self, params, run, report):
        chance = random.Random(run.stream("steps"))
        done, state = run.checkpoint.load() or (0, {"chance": chance.getstate()})
        chance.setstate(state["chance"])
        for epoch in range(done + 1, run.epochs + 1):
            report(epoch, loss=chance.random())
            if run.checkpoint.wanted:
                run.checkpoint.save(epoch, {"chance": chance.getstate()})
"""


def test_a_fold_that_a_fresh_process_interrupted_is_resumed_here(on_sqlite: Project) -> None:
    toml = on_sqlite.write(WALK, problem="mine.py:Mine", epochs=3)
    (checked,) = [check for check in pairsearch.check(toml, points=1) if check.name == "checkpoint"]
    assert checked.good
    assert INTERRUPTED in checked.finding


@pytest.mark.parametrize("forgotten", LOADS)
def test_what_a_resumed_fold_forgot_shows_in_its_figures(on_sqlite: Project, forgotten: str) -> None:
    load = "; ".join(line for name, line in LOADS.items() if name != forgotten)
    (line,) = broken_here(on_sqlite.write(RESUMED.format(load=load), problem="mine.py:Mine", epochs=3))
    assert INTERRUPTED in line
    assert "gives other figures (loss of fold 0 after epoch" in line


BAD = """
from pairsearch import Metric, OneByOne
import itertools

class Bad(OneByOne):
    metrics = {name: Metric() for name in ("loss", "error", "depth", "brier")}
    evaluated = ["error", "brier", "depth"]
    calls = itertools.count()

    def fit(self, params, run, report):
        for epoch in range(1, run.epochs + 1):
            try:
                report(epoch, loss=float(next(self.calls)))
            except:
                pass
        return {"weights": [1.0, 2.0]}

    def describe(self, params):
        return {"parameters": 3}

    def fingerprint(self):
        return f"{next(self.calls):064x}"
"""


WORSE = """
from pairsearch import Metric, OneByOne
import itertools
import numpy

class Worse(OneByOne):
    metrics = {"loss": Metric()}
    calls = itertools.count()

    def fit(self, params, run, report):
        for epoch in range(1, run.epochs + 1 - next(self.calls) // 2 % 2):
            try:
                report(epoch, loss=1.0)
            except BaseException:
                raise ValueError("not now")
        return {"weights": numpy.zeros(2)}

    def card(self, params, run):
        return {"mean": float("nan")}

    def describe(self, params):
        raise LookupError("no facts")
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(
            WORSE,
            [
                "gives other figures trained twice in one process (loss of fold 0: 1 and 2 epochs)",
                "stopped by `report`, it raises ValueError: not now (mine.py, line 15): let Stopped pass",
                "card gives no JSON: ValueError: ",
                "describe raises LookupError: no facts",
            ],
            id="by raising",
        ),
        pytest.param(
            BAD,
            [
                "trained twice in one process (loss of fold 0 after epoch 1: ",
                "it goes on after `report` raised Stopped (1 more reports): let Stopped pass",
                "a round does not report brier, depth, error, which the problem says are evaluated",
                "weights: expected arrays or tensors by name, or None, got list for 'weights'",
                "describe gives {'parameters': 3}: expected texts by name",
                "fingerprint gives '0000",
            ],
            id="every promise",
        ),
    ],
)
def test_a_problem_that_breaks_promises_is_told_each_in_a_line(
    on_sqlite: Project, code: str, expected: list[str]
) -> None:
    name = "Worse" if code == WORSE else "Bad"
    lines = broken_here(on_sqlite.write(code, problem=f"mine.py:{name}", folds=2, epochs=2))
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "def fit(params, run, report):\n    report(1, los=1.0)",
            "figure 'los' is not one of the problem's metrics",
        ),
        (
            "class fit:\n    def check(self, params): raise ValueError('x: never')\n"
            "    def fit(self, params, run, report): report(1, loss=1.0)",
            "x: never",
        ),
        ("def fit(params, run): pass", "expected fit(params, run, report)"),
    ],
)
def test_a_problem_that_cannot_be_trained_breaks_the_contract(
    on_sqlite: Project, code: str, expected: str
) -> None:
    (line,) = broken(on_sqlite.write(code))
    assert expected in line


def test_folds_that_depend_on_their_neighbours_and_rounds_that_fail_are_told(on_sqlite: Project) -> None:
    lines = broken_here(
        on_sqlite.write(
            """
            from pairsearch import Problem
            class Bad(Problem):
                def train(self, params, runs, report):
                    if runs[0].kind == "round":
                        raise RuntimeError("no data for rounds")
                    report(1, [{"loss": float(len(runs))} for _ in runs])
            """,
            problem="mine.py:Bad",
            epochs=1,
        )
    )
    assert (
        "its first fold beside the others and alone (loss of fold 0 after epoch 1: 3.0 and 1.0)" in lines[0]
    )
    assert "(run.kind 'round') raises RuntimeError: no data for rounds (mine.py, line 6)" in lines[1]


TRAINED = """
from pairsearch import Metric, OneByOne, Problem

TRAINED = []

class Mine(OneByOne):
    metrics = {"loss": Metric()}
    def fit(self, params, run, report):
        TRAINED.append((params["x"], run.kind, run.index, run.epochs))
        done, state = run.checkpoint.load() or (0, None)
        for epoch in range(done + 1, run.epochs + 1):
            report(epoch, loss=1.0 / epoch)
            if run.checkpoint.wanted:
                run.checkpoint.save(epoch, None)

class Together(Problem):
    metrics = {"loss": Metric()}
    def train(self, params, runs, report):
        TRAINED.append((params["x"], runs[0].kind, [run.index for run in runs], runs[0].epochs))
        for epoch in range(1, runs[0].epochs + 1):
            report(epoch, [{"loss": 1.0 / epoch}] * len(runs))
"""


@pytest.mark.parametrize("together", [False, True])
def test_a_check_trains_a_few_epochs_of_a_few_points_and_no_more(on_sqlite: Project, together: bool) -> None:
    name = "Together" if together else "Mine"
    toml = on_sqlite.write(TRAINED, problem=f"mine.py:{name}", epochs=6, grid={"x": [1, 2, 3]})
    rehearsed = Rehearsal(load(None, look_up(str(toml)), Machine()), points=2)
    first, second = (point.params["x"] for point in rehearsed.points)
    trained: list[Any] = sys.modules[type(rehearsed._loaded.problem).__module__].TRAINED  # type: ignore[attr-defined]

    def folds(x: int, epochs: int = 2) -> list[Any]:
        if together:
            return [(x, "fold", [0, 1, 2], epochs)]
        return [(x, "fold", fold, epochs) for fold in range(3)]

    def only(kind: str, epochs: int = 2) -> tuple[Any, ...]:
        return (first, kind, [0] if together else 0, epochs)

    measured = rehearsed.measure()
    warmed = [only("fold"), *folds(first), *folds(second)]
    # In its middle a fold of four epochs is interrupted, where that can be resumed.
    assert trained == (warmed if together else [*warmed, only("fold", 4)])
    trained.clear()
    assert all(check.good for check in rehearsed.promises(measured))
    same = [*folds(first), *folds(first), only("fold")]
    if together:
        assert trained == [*same, *folds(first), (first, "round", [0, 1], 2)]
    else:
        assert trained == [*same, *[only("fold", 4)] * 2, only("fold"), only("round")]


@pytest.mark.parametrize(
    ("epochs", "rounds", "trained", "expected"),
    [
        (6, None, 6, (True, "a fold, trained to its end, has no more than 6")),
        (6, 4, 4, (True, "a round, trained to its end, has no more than 4")),
        (6, 9, 6, (True, "a fold, trained to its end, has no more than 6")),
        (6, None, 7, (False, "x 1: ReportError: report: expected an epoch of at most 6, got 7: ")),
        (2, None, 2, None),
    ],
)
def test_a_problem_that_ends_by_itself_is_trained_to_its_end(
    on_sqlite: Project, epochs: int, rounds: int | None, trained: int, expected: tuple[bool, str] | None
) -> None:
    evaluation = {"rounds": 2, "epochs": rounds} if rounds else {"rounds": 2}
    toml = on_sqlite.write(
        f"""
        from pairsearch import Metric, OneByOne
        class Mine(OneByOne):
            metrics = {{"loss": Metric()}}
            ends_by_itself = True
            def fit(self, params, run, report):
                for epoch in range(1, {trained} + 1 if run.epochs > 2 else run.epochs + 1):
                    report(epoch, loss=1.0)
        """,
        problem="mine.py:Mine",
        epochs=epochs,
        grid={"x": [1]},
        evaluation=evaluation,
    )
    rehearsed = Rehearsal(load(None, look_up(str(toml)), Machine()), points=1)
    found = [
        (check.good, check.finding)
        for check in rehearsed.promises(rehearsed.measure())
        if check.name == "epochs"
    ]
    assert len(found) == (expected is not None)
    for (good, said), whole in zip(found, [expected], strict=False):
        assert whole is not None
        assert (good, said[: len(whole[1])]) == whole


def test_check_says_the_same_and_exits_1(on_sqlite: Project) -> None:
    on_sqlite.write(GLOBAL.format(draw="random.SystemRandom().random()"), epochs=1)
    ended = on_sqlite.run("check", "mine.toml", "--points", "1")
    assert ended.code == 1
    assert "WARN same bits: x 2 gives other figures trained twice in one process" in ended.out
    assert "ok   contract: ends when it is stopped" in ended.out
    assert not list(on_sqlite.folder.glob("*.db*"))
