"""What must hold of a study when all is over, whatever happened on the way; and the study that tests search."""

from __future__ import annotations

import os
import signal
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import programs
import psutil
import tiny
from optuna.trial import FrozenTrial, TrialState

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.mirror.trials import open_storage

FIELDS: dict[str, Any] = {
    "name": "hardy",
    "epochs": 5,
    "folds": 3,
    "sample_size": 60,
    "validation_size": 20,
    "grid": {
        "batch_size": [10, 25],
        "learning_rate": [1e-4, 1e-3, 1e-2],
        "weight_decay": [0.0, 0.001, 0.01, 0.1],
    },
}
"""24 points that train in some ten milliseconds each."""

POINTS = 24
ONE_POINT = {"batch_size": [10], "learning_rate": [1e-3], "weight_decay": [0.0]}


def create(
    folder: Path, url: str, *, data: str = "digits", data_dir: Path | None = None, **changes: object
) -> Path:
    """Create the study; its file."""
    file = tiny.write_toml(folder / "hardy.toml", **(FIELDS | changes))
    where = () if data_dir is None else ("--data-dir", str(data_dir))
    made = programs.run(folder, "create", str(file), "--data", data, *where, PAIRSEARCH_STORAGE=url)
    assert made.code == 0, made.err
    return file


def work(
    folder: Path, url: str, file: Path, *options: str, prepare: programs.Prepare | None = None
) -> programs.Ended:
    """Be a worker of the study in a process of its own, to its end."""
    folder.mkdir(exist_ok=True)
    return programs.run(folder, "worker", str(file), *options, prepare=prepare, PAIRSEARCH_STORAGE=url)


def start(
    folder: Path, url: str, file: Path, *options: str, prepare: programs.Prepare | None = None
) -> ForkServerProcess:
    """The same, left running."""
    folder.mkdir(exist_ok=True)
    return programs.start_forked(
        folder, "worker", str(file), *options, prepare=prepare, PAIRSEARCH_STORAGE=url
    )


def wait_until_stopped(worker: ForkServerProcess) -> None:
    """Wait for a worker that stops itself."""
    process = psutil.Process(worker.pid)
    programs.wait_for(lambda: process.status() == psutil.STATUS_STOPPED, "the worker to stop")


def go_on(worker: ForkServerProcess) -> None:
    """Let a stopped worker go on."""
    send(worker, signal.SIGCONT)


def send(worker: ForkServerProcess, number: int) -> None:
    """Send a worker a signal."""
    assert worker.pid is not None
    os.kill(worker.pid, number)


def figures(database: Database) -> list[tuple[object, ...]]:
    """Every figure of every configuration: its state and value, and each point of its curves."""
    return tiny.rows(
        database,
        "curves",
        "c.key, c.state, c.value, p.fold, p.epoch, p.train_loss, p.val_loss, p.val_error",
        "p join pairsearch_configurations c on c.id = p.configuration_id order by c.key, p.fold, p.epoch",
    )


def undisturbed(folder: Path, **changes: object) -> list[tuple[object, ...]]:
    """The figures that one worker computes in peace."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'alone.db'}"
    file = create(folder, url, **changes)
    done = work(folder, url, file)
    assert done.code == 0, done.err
    database = open_database(url)
    try:
        return figures(database)
    finally:
        database.close()


def trials(database: Database) -> list[FrozenTrial]:
    """All that Optuna has of the database's first study."""
    storage = open_storage(database)
    try:
        return storage.get_all_trials(1, deepcopy=False)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def trial_states(database: Database) -> Counter[str]:
    """How many of them are in each state."""
    return Counter(trial.state.name for trial in trials(database))


def assert_kept(
    database: Database, expected: list[tuple[object, ...]] | None = None, points: int = POINTS
) -> None:
    """Every configuration finished exactly once, its figures those expected bit for bit, no trial RUNNING."""
    assert tiny.states(database) == {"finished": points}
    folds = tiny.rows(
        database, "folds", "configuration_id, count(*)", "group by configuration_id order by configuration_id"
    )
    assert len(folds) == points
    assert len({count for _, count in folds}) == 1
    known = trials(database)
    complete = Counter(
        trial.user_attrs["configuration"] for trial in known if trial.state == TrialState.COMPLETE
    )
    keys = {key for (key,) in tiny.rows(database, "configurations", "key")}
    assert complete == dict.fromkeys(keys, 1)
    left = {trial.state for trial in known} - {TrialState.COMPLETE, TrialState.FAIL}
    assert not left, f"trials in state {left}"
    if expected is not None:
        assert figures(database) == expected
