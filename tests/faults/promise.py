"""What must hold of a study when all is over, whatever happened on the way; and the study that tests search."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import programs
import tiny
from optuna.trial import TrialState

from search.database import Database, open_database
from search.trials import open_storage

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


def create(folder: Path, url: str, **changes: object) -> Path:
    """Create the study on the digits; its file."""
    file = tiny.write_toml(folder / "hardy.toml", **(FIELDS | changes))
    made = programs.run(folder, "create", str(file), "--data", "digits", PAIRSEARCH_STORAGE=url)
    assert made.code == 0, made.err
    return file


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
    done = programs.run(folder, "worker", str(file), PAIRSEARCH_STORAGE=url)
    assert done.code == 0, done.err
    database = open_database(url)
    try:
        return figures(database)
    finally:
        database.close()


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
    storage = open_storage(database)
    try:
        trials = storage.get_all_trials(1, deepcopy=False)
    finally:
        storage.remove_session()
        storage.engine.dispose()
    complete = Counter(
        trial.user_attrs["configuration"] for trial in trials if trial.state == TrialState.COMPLETE
    )
    keys = {key for (key,) in tiny.rows(database, "configurations", "key")}
    assert complete == dict.fromkeys(keys, 1)
    left = {trial.state for trial in trials} - {TrialState.COMPLETE, TrialState.FAIL}
    assert not left, f"trials in state {left}"
    if expected is not None:
        assert figures(database) == expected
