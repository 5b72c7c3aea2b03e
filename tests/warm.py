"""What programs do at their first step, done once in the process that they are forked from (`programs`).

Optuna and SQLAlchemy set classes up when they are first used, and Numba loads compiled kernels: without this, each
program would spend most of its processor time there.
"""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
import threading
from functools import cache
from pathlib import Path

import tiny
from alembic.util import pyfiles
from filelock import FileLock

from pairsearch.data import sources
from pairsearch.search.database.connection import open_database
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.pairs import problem


def warm() -> None:
    """Create a tiny study on SQLite and train one of its configurations."""
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'study.db'}", create=True)
        loaded = tiny.loaded()
        study = create_study(database, loaded).study
        Worker(open_ledger(database, study), CrossValidation(loaded), stopping=threading.Event()).run(1)
        database.close()
    # Programs resolve their data themselves.
    problem._SOURCES.clear()


LARGE = 2 * 2**20
"""Bytes of a large page; 512 usual ones."""
COLLAPSE = 25
"""`MADV_COLLAPSE` of Linux 6.1 and later."""


def use_large_pages() -> None:
    """Put the memory of this process into large pages where the system can, which halves what a fork costs.

    A fork copies the table of all pages of half a gigabyte; for most programs of the tests that is the largest part.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    advise = ctypes.CDLL(None).madvise
    for line in maps.read_text(encoding="utf-8").splitlines():
        place, access, *_, name = [*line.split(maxsplit=5), ""][:6]
        if access == "rw-p" and name in ("", "[heap]"):
            first, end = (int(address, 16) for address in place.split("-"))
            for start in range(-(-first // LARGE) * LARGE, end - LARGE + 1, LARGE):
                advise(
                    ctypes.c_void_p(start), ctypes.c_size_t(LARGE), COLLAPSE
                )  # where it fails nothing changes


# Alembic executes all revisions of Optuna's tables whenever a storage is opened, the same ones each time.
pyfiles.load_module_py = cache(pyfiles.load_module_py)
# scikit-learn's images are read and resized once for all programs.
sources._digits = cache(sources._digits)

# In a fresh clone the kernels are compiled here: by one of the test processes, for all of them. Of other users of this
# machine nobody can lock the file.
with FileLock(Path(tempfile.gettempdir()) / f"pairsearch-tests-kernels-{os.getuid()}.lock"):
    warm()
gc.collect()
gc.freeze()
use_large_pages()
