"""What must hold of a study when all is over, whatever happened on the way; and the studies that tests search."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import programs
import psutil
import tiny
import walking
from optuna.trial import FrozenTrial, TrialState

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.mirror.tables import open_optuna

FIELDS: dict[str, Any] = {
    "name": "hardy",
    "epochs": 5,
    "folds": 3,
    "sample_size": 60,
    "validation_size": 20,
    "grid": {
        "batch_size": [10, 25],
        "learning_rate": [1e-4, 1e-3, 1e-2],
        "weight_decay": [0.0, 0.1],
    },
}
"""12 points that train in some ten milliseconds each."""

OWN = Path(__file__).parent / "own_problem"
"""A user's definition, and the file with its problem beside it."""

HUNGRY = """
import numpy as np
from pairsearch import Metric, OneByOne

class Hungry(OneByOne):
    metrics = {"loss": Metric()}

    def fit(self, params, run, report):
        report(1, loss=float(np.ones(params["bytes"], "uint8")[0]))
"""
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
"""A problem whose runs are long, with a checkpoint after each epoch."""

POINTS = 12
OWN_POINTS = 48
LONG_POINTS = 4
ONE_POINT = {"batch_size": [10], "learning_rate": [1e-3], "weight_decay": [0.0]}


def create(
    folder: Path, url: str, *, data: str = "digits", data_dir: Path | None = None, **changes: object
) -> Path:
    """Create the study; its file."""
    file = tiny.write_toml(folder / "hardy.toml", **(FIELDS | changes))
    where = () if data_dir is None else ("--data-dir", str(data_dir))
    return _created(folder, url, file, "--data", data, *where)


def create_own(folder: Path, url: str, *, rest: float = 0.02, problem: str = "Climb") -> Path:
    """Create the study of a user's own problem; its file.

    Args:
        problem: `Climb` or `objective`.
        rest: seconds that it sleeps after an epoch.
    """
    shutil.copytree(OWN, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "climb.toml"
    text = file.read_text(encoding="utf-8").replace("rest = 0.02", f"rest = {rest}")
    file.write_text(text.replace("py:Climb", f"py:{problem}"), encoding="utf-8")
    return _created(folder, url, file)


def create_hungry(folder: Path, url: str, sizes: list[int]) -> Path:
    """Create a study whose points are the bytes that training takes."""
    (folder / "hungry.py").write_text(HUNGRY, encoding="utf-8")
    fields = {"name": "hungry", "problem": "hungry.py:Hungry", "metric": "loss", "epochs": 1, "folds": 2}
    file = folder / "hungry.toml"
    file.write_text(tiny.as_toml(fields | {"grid": {"bytes": sizes}}), encoding="utf-8")
    return _created(folder, url, file)


def create_long(folder: Path, url: str, *, rest: float = 0.02, epochs: int = 40) -> Path:
    """Create a study of long runs, with a checkpoint after each epoch."""
    folder.mkdir(exist_ok=True)
    (folder / "walk.py").write_text(LONG, encoding="utf-8")
    fields = {"name": "walk", "problem": "walk.py:Walk", "metric": "place", "epochs": epochs, "folds": 2}
    file = folder / "walk.toml"
    tables = {"settings": {"rest": rest}, "grid": {"x": [1.0, 2.0, 3.0, 4.0]}}
    file.write_text(tiny.as_toml(fields | tables), encoding="utf-8")
    return _created(folder, url, file)


def create_script(folder: Path, url: str, *, rest: float = 0.05) -> Path:
    """Create a study of a program whose runs have forty epochs."""
    folder.mkdir(exist_ok=True)
    (folder / "walk.py").write_text(walking.SCRIPT, encoding="utf-8")
    fields = {"name": "walk", "problem": "command", "metric": "loss", "epochs": 40, "folds": 2}
    file = folder / "walk.toml"
    settings = {"command": walking.command("walk.py", every=10, rest=rest)}
    tables = {"settings": settings, "grid": {"x": [1.0, 2.0, 3.0, 4.0]}}
    file.write_text(tiny.as_toml(fields | tables), encoding="utf-8")
    return _created(folder, url, file)


def _created(folder: Path, url: str, file: Path, *options: str) -> Path:
    made = programs.run(folder, "create", str(file), *options, PAIRSEARCH_STORAGE=url)
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


def ask_for_rounds(folder: Path, url: str, file: Path, *options: str) -> None:
    """Leave the rounds of the best configurations to workers."""
    asked = programs.run(
        folder,
        *("evaluate", str(file), "--no-wait", "--no-models", "--quiet"),
        *options,
        PAIRSEARCH_STORAGE=url,
    )
    assert asked.code == 0, asked.err


def figures(database: Database) -> list[tuple[object, ...]]:
    """Every figure of every configuration: its state, value and means, and of each fold and round the curves with their
    last points, facts and model."""
    return tiny.rows(
        database,
        "runs",
        "c.key, c.state, c.value, c.figures, r.kind, r.run, r.figures, r.diverged_epoch, r.facts, p.figure, p.points, "
        "m.content",
        "r join pairsearch_configurations c on c.study_id = r.study_id and c.key = r.key "
        "join pairsearch_curves p on p.run_id = r.id left join pairsearch_models m on m.run_id = r.id "
        "order by c.key, r.kind, r.run, p.figure",
    )


def undisturbed(
    folder: Path,
    creating: Callable[..., Path] = create,
    rounds: Sequence[str] | None = None,
    **changes: object,
) -> list[tuple[object, ...]]:
    """The figures that one worker computes in peace.

    Args:
        creating: makes the study.
        rounds: options of `evaluate`, whose rounds it trains too; None for no rounds.
    """
    folder.mkdir()
    url = f"sqlite:///{folder / 'alone.db'}"
    file = creating(folder, url, **changes)
    _work_in_peace(folder, url, file)
    if rounds is not None:
        ask_for_rounds(folder, url, file, *rounds)
        _work_in_peace(folder, url, file)
    database = open_database(url)
    try:
        return figures(database)
    finally:
        database.close()


def _work_in_peace(folder: Path, url: str, file: Path) -> None:
    # The studies of a soak are large.
    done = programs.ended(start(folder, url, file), folder, patience=300)
    assert done.code == 0, done.err


def trials(database: Database) -> list[FrozenTrial]:
    """All that Optuna has of the database's first study."""
    storage = open_optuna(database)
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
    folds = tiny.rows(database, "runs", "key, count(*)", "where kind = 'fold' group by key")
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
