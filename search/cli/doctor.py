"""Checks of an installation: database, data, versions, memory, threads, subnormals, compiled kernels.

Each check imports what it looks at: a library that is missing or broken is a finding, as all that goes wrong is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pairsearch.data.errors import DataError
from pairsearch.search import machine
from pairsearch.search.checks import Check
from pairsearch.search.errors import PairsearchError
from pairsearch.search.provenance import PACKAGES, git_commit, package_version, processor
from pairsearch.search.workers.proof import train_a_little


def examine(storage: str, kind: str | None, folder: Path | None) -> Iterator[Check]:
    """Run every check; nothing is created or downloaded.

    Args:
        kind: of the data, None for `mnist`.
        folder: torchvision root, None for the per-user folder.
    """
    yield Check("versions", None, ", ".join(f"{name} {package_version(name)}" for name in PACKAGES))
    yield Check("program", None, f"commit {git_commit()}, processor {processor()}, {machine.cores()} cores")
    yield _guarded("database", lambda: _database(storage))
    yield _guarded("data", lambda: _data(kind, folder))
    yield _guarded("memory", _memory)
    yield _guarded("threads", _threads)
    yield _guarded("subnormals", _subnormals)
    yield _guarded("kernels", _kernels)


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, good=True, finding=check())
    except (PairsearchError, DataError, ValueError, OSError) as error:
        return Check(name, good=False, finding=str(error))
    except Exception as error:
        return Check(name, good=False, finding=f"{type(error).__name__}: {error}")


def _database(storage: str) -> str:
    from pairsearch.search.database.connection import open_database
    from pairsearch.search.database.tables import SCHEMA_VERSION
    from pairsearch.search.ledger.studies import list_studies

    database = open_database(storage)
    try:
        studies = ", ".join(
            f"{study.name} ({study.source_name} {study.source_fingerprint[:12]})"
            for study in list_studies(database)
        )
        return f"{database.label}, schema version {SCHEMA_VERSION}, studies: {studies or 'none'}"
    finally:
        database.close()


def _data(kind: str | None, given: Path | None) -> str:
    from pairsearch.data.mnist import missing
    from pairsearch.data.sources import default_root, load

    kind, folder = kind or "mnist", given or default_root()
    if kind == "auto":
        kind = "digits" if missing(folder) else "mnist"
    source = load(kind, given, download=False)
    return (
        f"{source.name}{f' in {folder}' if kind == 'mnist' else ''}, {len(source.train_images):,} training and "
        f"{len(source.test_images):,} test images, fingerprint {source.fingerprint}"
    )


def _threads() -> str:
    import numpy  # noqa: F401 - loads the pools that are looked at
    import torch
    from threadpoolctl import threadpool_info

    pools = [f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info()]
    wide = [pool for pool in pools if not pool.endswith(" 1")]
    if wide or torch.get_num_threads() != 1:
        raise OSError(
            f"pools wider than one thread: {', '.join(wide) or 'torch'}; workers would get in each other's way"
        )
    return f"one in each pool ({', '.join(pools)}, torch {torch.get_num_threads()})"


def _subnormals() -> str:
    from pairsearch.models.subnormals import supported

    if not supported():
        raise OSError("PyTorch cannot flush them on this processor; training with weight decay may be slow")
    return "flushed to zero while training"


def _kernels() -> str:
    from pairsearch.models import nets

    start, said = time.perf_counter(), _Said()
    log = logging.getLogger("pairsearch.models.kernels")
    log.addHandler(said)
    try:
        backends = [f"{name} {train_a_little(name)}" for name in nets.ARCHITECTURES]
    finally:
        log.removeHandler(said)
    seconds = time.perf_counter() - start
    notes = "".join(f"; {line}" for line in dict.fromkeys(said.lines))
    return f"{', '.join(backends)}: loaded and run in {seconds:.1f} s (compiled where not cached){notes}"


class _Said(logging.Handler):
    """Keeps what is logged, for a finding."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _memory() -> str:
    available, each = machine.available_memory(), machine.WORKER_BYTES
    if available is None:
        return "the system does not say how much is free"
    found = f"{available / 2**30:.1f} GiB free, for some {available // each} workers"
    if available < each:
        raise OSError(f"{found}: each takes some {each / 2**30:.1f} GiB")
    return found
