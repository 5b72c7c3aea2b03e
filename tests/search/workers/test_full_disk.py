"""The real worker on a disk that fills up: one line, exit code 1, and the study can be finished afterwards."""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path

import programs
import tiny
from optuna.trial import TrialState

from pairsearch.search.database.connection import open_database
from pairsearch.search.mirror.tables import open_optuna

GRID = {"batch_size": [50], "learning_rate": [1e-5, 1e-4, 1e-3], "weight_decay": [0.0]}


def leave(room: int) -> None:
    """Let no file grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))


def test_a_worker_ends_cleanly_and_the_next_one_finishes(tmp_path: Path) -> None:
    # Long curves, so that it is a result that finds no room.
    tiny.write_toml(tmp_path / "tiny.toml", epochs=500, grid=GRID)
    assert programs.run(tmp_path, "create", "tiny.toml", "--data", "digits").code == 0
    room = (tmp_path / "pairsearch.db").stat().st_size + 60_000
    full = programs.run(tmp_path, "worker", "tiny.toml", "--lease", "1", prepare=partial(leave, room))
    assert full.code == 1
    *warnings, line = full.err.splitlines()
    assert line == "error: database sqlite:///pairsearch.db: the disk is full: make room and start again"
    assert all(warning.startswith("WARNING: ") for warning in warnings), full.err

    database = open_database(f"sqlite:///{tmp_path / 'pairsearch.db'}")
    done = tiny.states(database)["finished"]
    assert done < 3
    ended = programs.run(tmp_path, "worker", "tiny.toml", "--lease", "1")
    assert f"worker ends: {3 - done} finished, 0 handed back, 0 superseded, 0 failed" in ended.out
    assert tiny.states(database) == {"finished": 3}
    assert tiny.rows(database, "configurations", "sum(errors)") == [(0,)]
    storage = open_optuna(database)
    trials = storage.get_all_trials(1)
    assert TrialState.RUNNING not in {trial.state for trial in trials}
    storage.remove_session()
    storage.engine.dispose()
    database.close()
