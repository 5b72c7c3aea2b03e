"""The same grid by four systems, each as its documentation shows: what `comparison.py` starts.

    python benchmarks/compared.py optuna FOLDER URL

searches the grid, and ends with code 0. Started again after it has died, it goes on as far as the system does that.
Where a system keeps no table in a database, `results.json` in the folder has what it gave in the end. Environment
variables say how long a point takes, how large the grid is, and which file is told when a point begins and ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Environment variables: the log, seconds of processor time of a point, and values of each of the two parameters.
LOG, SECONDS, SIDE = "COMPARED_LOG", "COMPARED_SECONDS", "COMPARED_SIDE"
NAME = "compared"
# Seconds of silence after which a worker counts as dead, for each system that has such a time; and of its heartbeat.
DEAD, BEAT = 3, 1


def work(x: int, y: int) -> float:
    """Keep a core busy for the time of a point, tell the log of its beginning and end, and return its loss."""
    note("begin", x, y)
    end = time.thread_time() + float(os.environ[SECONDS])
    matrix = np.full((64, 64), 1 / 64)
    while time.thread_time() < end:
        matrix = matrix @ matrix
    note("end", x, y)
    return float((x - 3) ** 2 + (y - 5) ** 2 + matrix[0, 0])


def note(what: str, x: int, y: int) -> None:
    """Append a line to the log: what, when on the machine's clock, the process, and the point."""
    # One write to a file that is only appended to: lines of several processes do not mix, and survive a kill.
    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, f"{what} {time.monotonic()} {os.getpid()} {x} {y}\n".encode())
    os.close(log)


class Log:
    """What the points have written.

    Attributes:
        begun: when each began, in which process, and the point; in their order.
        ended: the same of their ends.
    """

    def __init__(self, path: Path) -> None:
        text = path.read_text("utf-8") if path.exists() else ""
        rows = [line.split() for line in text.splitlines()]
        self.begun, self.ended = (
            [(float(at), int(pid), (int(x), int(y))) for kind, at, pid, x, y in rows if kind == what]
            for what in ("begin", "end")
        )

    def at_work(self) -> int | None:
        """Return the process that began a point last and has not ended it; None if there is none."""
        import psutil

        points = Counter(pid for _, pid, _ in self.begun) - Counter(pid for _, pid, _ in self.ended)
        return next(
            (pid for _, pid, _ in reversed(self.begun) if points[pid] and psutil.pid_exists(pid)), None
        )

    def trained_twice(self) -> int:
        """Count how often a point was trained to its end that had been before."""
        return len(self.ended) - len({point for _, _, point in self.ended})


def values() -> list[int]:
    """Return the values of each parameter."""
    return list(range(int(os.environ[SIDE])))


def fit(params: Mapping[str, int], run: object, report: Callable[..., None]) -> None:
    """The problem of pairsearch's definition, which `comparison.py` writes beside a copy of this file."""
    report(1, loss=work(params["x"], params["y"]))


def optuna(folder: Path, url: str) -> None:
    """Be one of several processes that share a study in a database; what a killed one trained is retried."""
    import optuna

    storage = optuna.storages.RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 10}} if url.startswith("sqlite") else None,
        heartbeat_interval=BEAT,
        grace_period=DEAD,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )
    # The same seed in each process is what its documentation recommends.
    sampler = optuna.samplers.GridSampler({"x": values(), "y": values()}, seed=0)
    study = optuna.load_study(study_name=NAME, storage=storage, sampler=sampler)
    most = max(values())
    study.optimize(lambda trial: work(trial.suggest_int("x", 0, most), trial.suggest_int("y", 0, most)))


def grid_search(folder: Path, url: str) -> None:
    """Search by scikit-learn, whose joblib has two processes; nothing is kept before the end."""
    from sklearn.base import BaseEstimator
    from sklearn.model_selection import GridSearchCV

    class Point(BaseEstimator):  # type: ignore[misc]
        def __init__(self, x: int = 0, y: int = 0) -> None:
            self.x, self.y = x, y

        def fit(self, data: object, target: object = None) -> Point:
            self.loss_ = work(self.x, self.y)
            return self

        def score(self, data: object, target: object = None) -> float:
            return -self.loss_

    both = np.arange(2)
    search = GridSearchCV(
        Point(), {"x": values(), "y": values()}, n_jobs=2, cv=[(both, both)], refit=False, error_score="raise"
    )
    search.fit(np.zeros((2, 1)))
    keep(folder, [(one["x"], one["y"]) for one in search.cv_results_["params"]], None)


def ray_tune(folder: Path, url: str) -> None:
    """Search by Ray Tune on two cores; trials of killed processes are retried, a search that was killed is restored."""
    import ray
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"loss": work(config["x"], config["y"])})

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    path = str(folder / NAME)
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, trainable, resume_unfinished=True, restart_errored=True)
    else:
        space = {"x": tune.grid_search(values()), "y": tune.grid_search(values())}
        failures = tune.FailureConfig(max_failures=-1)
        how = tune.RunConfig(name=NAME, storage_path=str(folder), failure_config=failures, verbose=0)
        # What its documentation advises where trials are short: processes go on with the next trial.
        reuse = tune.TuneConfig(reuse_actors=True)
        tuner = tune.Tuner(trainable, param_space=space, tune_config=reuse, run_config=how)
    results = tuner.fit()
    points = [
        (one.config["x"], one.config["y"])
        for one in (results[number] for number in range(len(results)))
        if one.config and one.metrics and "loss" in one.metrics
    ]
    keep(folder, points, len(results) - results.num_terminated - results.num_errors)


def keep(folder: Path, points: Sequence[tuple[int, int]], running: int | None) -> None:
    """Write which points have results in a system's own table, and how many of its trials count as running."""
    (folder / "results.json").write_text(json.dumps({"points": points, "running": running}), "utf-8")


if __name__ == "__main__":
    {"optuna": optuna, "grid-search": grid_search, "ray": ray_tune}[sys.argv[1]](
        Path(sys.argv[2]), sys.argv[3]
    )
