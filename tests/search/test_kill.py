"""A study that four worker processes share, two of them killed at work, ends as if one had done it in peace."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import programs
import pytest
import tiny
from optuna.trial import TrialState

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.mirror.trials import open_storage

SHARED = {
    "name": "shared",
    "architecture": "ws",
    "epochs": 8,
    "folds": 4,
    "sample_size": 200,
    "validation_size": 50,
    "grid": {
        "batch_size": [10, 25, 50],
        "learning_rate": [1e-4, 1e-3],
        "weight_decay": [0.0, 0.1],
        "hidden_units": [10, 50],
    },
}
"""24 points, on real MNIST."""


def holders(database: Database) -> Counter[int]:
    """Process ids of the workers that hold a configuration and have its trial; their names are HOST:PID:RANDOM."""
    held = tiny.rows(database, "configurations", "worker", "where state = 'running' and trial_id is not null")
    return Counter(int(worker.split(":")[1]) for (worker,) in held)


def kill_two_at_work(database: Database, workers: list[subprocess.Popen[str]]) -> None:
    """SIGKILL two workers while each holds a configuration and results of others are in."""

    def part_way() -> bool:
        return tiny.states(database)["finished"] >= 4

    def caught(worker: subprocess.Popen[str]) -> bool:
        # Stopped first, so that it cannot finish between the look and the kill.
        os.kill(worker.pid, signal.SIGSTOP)
        if worker.pid in holders(database):
            return True
        os.kill(worker.pid, signal.SIGCONT)
        return False

    programs.wait_for(part_way, "four finished configurations")
    for worker in workers[:2]:
        programs.wait_for(lambda worker=worker: caught(worker), "a worker with a configuration in its hands")
        worker.kill()
        worker.wait()


def curves(database: Database) -> list[tuple[object, ...]]:
    """Every curve with the bits of its points, by configuration."""
    return tiny.rows(
        database,
        "curves",
        "r.key, c.state, c.value, r.run, r.epochs, p.figure, p.points",
        "p join pairsearch_runs r on r.id = p.run_id join pairsearch_configurations c "
        "on c.study_id = r.study_id and c.key = r.key order by r.key, r.run, p.figure",
    )


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_of_four_workers_killed_leave_no_trace_in_the_figures(
    database_url: str, sqlite_url: str, tmp_path: Path, mnist_root: Path
) -> None:
    study = str(tiny.write_toml(tmp_path / "shared.toml", **SHARED))
    data = {"PAIRSEARCH_DATA": str(mnist_root)}
    arguments = ["worker", study, "--lease", "2"]
    shared = data | {"PAIRSEARCH_STORAGE": database_url}
    assert programs.run(tmp_path, "create", study, **shared).code == 0
    database = open_database(database_url)
    workers = [programs.start(tmp_path, *arguments, **shared) for _ in range(4)]
    try:
        kill_two_at_work(database, workers)
        ends = [(worker.communicate(timeout=programs.PATIENCE)[1], worker.returncode) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [code for _, code in ends] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0], ends

    assert tiny.states(database) == {"finished": 24}
    claims = tiny.rows(database, "configurations", "claims")
    assert sum(count for (count,) in claims) >= 26, "two configurations were claimed again"
    assert len(tiny.rows(database, "runs")) == 24 * 4
    storage = open_storage(database)
    trials = storage.get_all_trials(1)
    storage.remove_session()
    storage.engine.dispose()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == 24
    assert len({trial.user_attrs["configuration"] for trial in complete}) == 24
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.FAIL}

    alone = data | {"PAIRSEARCH_STORAGE": sqlite_url}
    assert programs.run(tmp_path, "create", study, **alone).code == 0
    assert programs.run(tmp_path, *arguments, **alone).code == 0
    undisturbed = open_database(sqlite_url)
    assert curves(database) == curves(undisturbed)
    assert len(curves(undisturbed)) == 24 * 4 * 3
    database.close()
    undisturbed.close()
