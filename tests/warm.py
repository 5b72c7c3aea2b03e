"""What programs do at their first step, done once in the process that they are forked from (`programs`).

Optuna and SQLAlchemy set classes up when they are first used, and Numba loads compiled kernels: without this, each
program would spend most of its processor time there.
"""

from __future__ import annotations

import gc
import tempfile
import threading
from pathlib import Path

import tiny
from filelock import FileLock

from pairsearch.search.database.connection import open_database
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.pairs import problem


def warm() -> None:
    """Create a tiny study on SQLite and train one of its configurations."""
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'study.db'}", create=True)
        loaded = tiny.loaded()
        study = create_study(database, loaded).study
        Worker(database, study, CrossValidation(loaded), stopping=threading.Event(), patience=0.0).run(1)
        database.close()
    # Programs read their data themselves.
    problem._SOURCES.clear()


# In a fresh clone the kernels are compiled here: by one of the test processes, for all of them.
with FileLock(Path(tempfile.gettempdir()) / "pairsearch-tests-kernels.lock"):
    warm()
gc.collect()
gc.freeze()
