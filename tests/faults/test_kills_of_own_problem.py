"""A user's own problem, whose folds train in turn, under a crowd of workers that are killed at random moments."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import programs
import promise
import pytest
import tiny
from chaos import Chaos, Plan

from pairsearch.search.database.connection import open_database

PLAN = Plan(kills=12, early_kills=2, pause=0.0)
LONG_PLAN = Plan(kills=45, early_kills=5, pause=0.0)


@pytest.mark.parametrize(
    ("database_url", "plan"),
    [
        ("sqlite", PLAN),
        pytest.param("sqlite", LONG_PLAN, marks=pytest.mark.soak),
        pytest.param("postgresql", LONG_PLAN, marks=pytest.mark.soak),
    ],
    ids=["sqlite", "sqlite, 50 kills", "postgresql, 50 kills"],
    indirect=["database_url"],
)
def test_the_promise_is_kept_for_a_problem_of_a_user_s_own(
    database_url: str,
    tmp_path: Path,
    show: Callable[[str], None],
    at_leisure: list[tuple[object, ...]],
    plan: Plan,
) -> None:
    """`test_chaos` kills workers on PostgreSQL."""
    study = promise.create_own(tmp_path / "study", database_url)
    database = open_database(database_url)
    seed = random.SystemRandom().randrange(1_000_000)
    show(f"kills over a user's own problem: seed {seed}")
    chaos = Chaos(None, database, study, tmp_path, workers=3, lease=1.0, seed=seed)
    damage = chaos.run(plan)
    promise.assert_kept(database, at_leisure, promise.OWN_POINTS)
    assert damage.codes[-9] == plan.kills + plan.early_kills
    assert set(damage.codes) == {0, -9}, "\n".join(damage.complaints)
    assert damage.holding >= plan.kills / 2
    [(lapses,)] = tiny.rows(database, "configurations", "sum(lapses)")
    assert lapses >= damage.holding
    database.close()


LONG = """
import random, time
import numpy as np
from pairsearch import Metric, OneByOne

class Walk(OneByOne):
    metrics = {"place": Metric()}

    def __init__(self, rest=0.0):
        self.rest = rest

    def fit(self, params, run, report):
        chance = random.Random(run.stream("steps"))
        done, state = run.checkpoint.load() or (0, {"place": 0.0, "chance": chance.getstate()})
        place = state["place"]
        chance.setstate(state["chance"])
        for epoch in range(done + 1, run.epochs + 1):
            place += params["x"] * chance.gauss(0.0, 1.0)
            time.sleep(self.rest)
            with open(__file__ + ".epochs", "a") as file:
                file.write(f"{run.index} {epoch}\\n")
            report(epoch, place=place)
            # Half of the points have states that are large.
            ballast = np.zeros(200_000 if params["x"] > 2 else 1)
            run.checkpoint.save(epoch, {"place": place, "chance": chance.getstate(), "ballast": ballast})
"""


def create_long(folder: Path, url: str, *, rest: float = 0.02) -> Path:
    """Create a study of runs of forty epochs, with a checkpoint after each."""
    folder.mkdir(exist_ok=True)
    (folder / "walk.py").write_text(LONG, encoding="utf-8")
    fields = {"name": "walk", "problem": "walk.py:Walk", "metric": "place", "epochs": 40, "folds": 2}
    file = folder / "walk.toml"
    tables = {"settings": {"rest": rest}, "grid": {"x": [1.0, 2.0, 3.0, 4.0]}}
    file.write_text(tiny.as_toml(fields | tables), encoding="utf-8")
    made = programs.run(folder, "create", str(file), PAIRSEARCH_STORAGE=url)
    assert made.code == 0, made.err
    return file


def test_long_runs_go_on_from_their_checkpoints_whoever_is_killed(
    database_url: str, tmp_path: Path, show: Callable[[str], None]
) -> None:
    expected = promise.undisturbed(tmp_path / "alone", create_long, rest=0.0)
    study = create_long(tmp_path / "study", database_url)
    database = open_database(database_url)
    seed = random.SystemRandom().randrange(1_000_000)
    show(f"kills over long runs: seed {seed}")
    chaos = Chaos(None, database, study, tmp_path, workers=3, lease=1.0, seed=seed)
    shared = tmp_path / "shared"
    chaos.options = ("--checkpoints", str(shared))
    damage = chaos.run(Plan(kills=8, early_kills=0, pause=0.2))
    promise.assert_kept(database, expected, points=4)
    assert damage.codes[-9] == 8
    assert tiny.rows(database, "checkpoints") == []
    # Who is killed in the moment after a run was stored leaves its file.
    assert len(list(shared.iterdir())) <= 1
    epochs = len((study.parent / "walk.py.epochs").read_text(encoding="utf-8").splitlines())
    needed = 4 * 2 * 40
    assert needed <= epochs <= 1.2 * needed
    database.close()


def test_a_worker_whose_file_differs_is_turned_away_with_both_hashes_named(
    sqlite_url: str, tmp_path: Path
) -> None:
    study = promise.create_own(tmp_path, sqlite_url, rest=0)
    problem = tmp_path / "climb.py"
    hashes = [hashlib.sha256(problem.read_bytes()).hexdigest()]
    assert promise.work(tmp_path / "first", sqlite_url, study, "--max-trials", "1").code == 0
    problem.write_text(problem.read_text(encoding="utf-8") + "# Another one.\n", encoding="utf-8")
    hashes.append(hashlib.sha256(problem.read_bytes()).hexdigest())
    refused = promise.work(tmp_path / "second", sqlite_url, study)
    assert f"climb.py is {hashes[0]} there and {hashes[1]} here" in refused.complaint
    database = open_database(sqlite_url)
    assert tiny.states(database) == {"finished": 1, "pending": promise.OWN_POINTS - 1}
    database.close()
