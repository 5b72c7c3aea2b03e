"""A user's own problem, whose folds train in turn, under a crowd of workers that are killed at random moments."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import programs
import promise
import psutil
import pytest
import tiny
from chaos import Chaos, Plan

from pairsearch.search.database.connection import open_database

PLAN = Plan(kills=12, early_kills=2, pause=0.0)
SHORT_PLAN = Plan(kills=5, early_kills=1, pause=0.0)
LONG_PLAN = Plan(kills=45, early_kills=5, pause=0.0)


@pytest.mark.parametrize(
    ("database_url", "plan", "problem"),
    [
        ("sqlite", PLAN, "Climb"),
        ("sqlite", SHORT_PLAN, "objective"),
        pytest.param("sqlite", LONG_PLAN, "Climb", marks=pytest.mark.soak),
        pytest.param("postgresql", LONG_PLAN, "Climb", marks=pytest.mark.soak),
        pytest.param("postgresql", LONG_PLAN, "objective", marks=pytest.mark.soak),
    ],
    ids=[
        "sqlite",
        "sqlite, Optuna",
        "sqlite, 50 kills",
        "postgresql, 50 kills",
        "postgresql, Optuna, 50 kills",
    ],
    indirect=["database_url"],
)
def test_the_promise_is_kept_for_a_problem_of_a_user_s_own(
    database_url: str,
    tmp_path: Path,
    show: Callable[[str], None],
    at_leisure: list[tuple[object, ...]],
    plan: Plan,
    problem: str,
) -> None:
    """`test_chaos` kills workers on PostgreSQL."""
    expected = at_leisure
    if problem != "Climb":
        expected = promise.undisturbed(tmp_path / "alone", promise.create_own, rest=0, problem=problem)
    study = promise.create_own(tmp_path / "study", database_url, problem=problem)
    database = open_database(database_url)
    seed = random.SystemRandom().randrange(1_000_000)
    show(f"kills over a user's own problem: seed {seed}")
    chaos = Chaos(None, database, study, tmp_path, workers=3, lease=1.0, seed=seed)
    damage = chaos.run(plan)
    promise.assert_kept(database, expected, promise.OWN_POINTS)
    assert damage.codes[-9] == plan.kills + plan.early_kills
    assert set(damage.codes) == {0, -9}, "\n".join(damage.complaints)
    assert damage.holding >= plan.kills / 2
    [(lapses,)] = tiny.rows(database, "configurations", "sum(lapses)")
    assert lapses >= damage.holding
    database.close()


@pytest.mark.parametrize(
    "database_url", [pytest.param("sqlite", marks=pytest.mark.soak), "postgresql"], indirect=True
)
def test_long_runs_go_on_from_their_checkpoints_whoever_is_killed(
    database_url: str, tmp_path: Path, show: Callable[[str], None]
) -> None:
    # Resting takes the time in which they are killed: an epoch with its checkpoint costs more than that of a network.
    epochs = 20
    expected = promise.undisturbed(tmp_path / "alone", promise.create_long, rest=0.0, epochs=epochs)
    study = promise.create_long(tmp_path / "study", database_url, rest=0.04, epochs=epochs)
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
    trained = len((study.parent / "walk.py.epochs").read_text(encoding="utf-8").splitlines())
    needed = 4 * 2 * epochs
    assert needed <= trained <= 1.2 * needed
    database.close()


@pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)], indirect=True
)
def test_programs_go_on_from_their_checkpoints_and_none_outlives_its_worker(
    database_url: str, tmp_path: Path, show: Callable[[str], None]
) -> None:
    expected = promise.undisturbed(tmp_path / "alone", promise.create_script, rest=0.0)
    study = promise.create_script(tmp_path / "study", database_url)
    database = open_database(database_url)
    seed = random.SystemRandom().randrange(1_000_000)
    show(f"kills over programs: seed {seed}")
    chaos = Chaos(None, database, study, tmp_path, workers=3, lease=1.0, seed=seed)
    damage = chaos.run(Plan(kills=8, early_kills=0, pause=0.2))
    promise.assert_kept(database, expected, points=4)
    assert damage.codes[-9] == 8
    assert tiny.rows(database, "checkpoints") == []

    def left() -> list[psutil.Process]:
        return [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(study.parent)]

    programs.wait_for(lambda: not left(), "the end of all programs")
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
