"""Checks of an installation: database, data, versions, threads, subnormals, compiled kernels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data.errors import DataError
from data.mnist import missing
from data.sources import default_root, load
from search import threads
from search.catalogue import list_studies
from search.database import open_database
from search.errors import PairsearchError
from search.provenance import PACKAGES, git_commit, package_version, processor
from search.session import DataChoice
from search.tables import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; `good` is None for a fact that cannot be wrong."""

    name: str
    good: bool | None
    finding: str


def examine(storage: str, choice: DataChoice) -> Iterator[Check]:
    """Run every check; nothing is created or downloaded."""
    yield Check("versions", None, ", ".join(f"{name} {package_version(name)}" for name in PACKAGES))
    yield Check(
        "program", None, f"git commit {git_commit()}, processor {processor()}, {threads.cores()} cores"
    )
    yield _guarded("database", lambda: _database(storage))
    yield _guarded("data", lambda: _data(choice))
    yield _guarded("threads", _threads)
    yield _guarded("subnormals", _subnormals)
    yield _guarded("kernels", _kernels)


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, good=True, finding=check())
    except (PairsearchError, DataError, ValueError, OSError, ImportError) as error:
        return Check(name, good=False, finding=str(error))


def _database(storage: str) -> str:
    database = open_database(storage)
    try:
        studies = ", ".join(
            f"{study.name} ({study.source_name} {study.source_fingerprint[:12]})"
            for study in list_studies(database)
        )
        return f"{database.label}, schema version {SCHEMA_VERSION}, studies: {studies or 'none'}"
    finally:
        database.close()


def _data(choice: DataChoice) -> str:
    kind = choice.kind or "mnist"
    folder = choice.folder or default_root()
    if kind == "auto":
        kind = "digits" if missing(folder) else "mnist"
    source = load(kind, choice.folder, download=False)
    return (
        f"{source.name}{f' in {folder}' if kind == 'mnist' else ''}, {len(source.train_images):,} training and "
        f"{len(source.test_images):,} test images, fingerprint {source.fingerprint}"
    )


def _threads() -> str:
    import numpy  # noqa: F401, PLC0415 - loads the pools that are looked at
    import torch  # noqa: PLC0415
    from threadpoolctl import threadpool_info  # noqa: PLC0415

    pools = [f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info()]
    wide = [pool for pool in pools if not pool.endswith(" 1")]
    if wide or torch.get_num_threads() != 1:
        raise OSError(
            f"pools wider than one thread: {', '.join(wide) or 'torch'}; workers would get in each other's way"
        )
    return f"one in each pool ({', '.join(pools)}, torch {torch.get_num_threads()})"


def _subnormals() -> str:
    from models.subnormals import supported  # noqa: PLC0415

    if not supported():
        raise OSError("PyTorch cannot flush them on this processor; training with weight decay may be slow")
    return "flushed to zero while training"


def _kernels() -> str:
    import torch  # noqa: PLC0415

    from models import fused, nets  # noqa: PLC0415
    from models.training import Member, TrainingJob  # noqa: PLC0415

    class Pairs:
        images = torch.zeros(2, 2, 14, 14)
        target = torch.zeros(2, dtype=torch.int64)
        classes = torch.zeros(2, 2, dtype=torch.int64)

    start, backends = time.perf_counter(), []
    for name, architecture in nets.ARCHITECTURES.items():
        member = Member(Pairs, {"validation": Pairs}, 0, 0, 1e-3)
        job = TrainingJob(name, (member,), 1, 1, architecture.default_hidden_units)
        fused.train(job)
        backends.append(f"{name} {fused.choose_backend(job)}")
    seconds = time.perf_counter() - start
    return f"{', '.join(backends)}: loaded and run in {seconds:.1f} s (compiled where not cached)"
