"""The command `doctor`, which checks an installation, and for each study what its problem needs.

Each check imports the libraries that it needs, so that a missing or broken library is a finding like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pairsearch.search.cli import options
from pairsearch.search.cli.terminal import show_checks
from pairsearch.search.common.errors import NoStudiesError, PairsearchError
from pairsearch.search.common.machine import Machine, available_memory, cores
from pairsearch.search.common.provenance import PACKAGES, git_commit, package_version, processor
from pairsearch.studies.checks import Check

if TYPE_CHECKING:
    from pairsearch.search.database.connection import Database
    from pairsearch.search.ledger.studies import StoredStudy
    from pairsearch.search.setup.arguments import StudyArgument


def doctor(
    study: options.SomeStudies = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    setting: options.Set = None,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    device: options.Device = "cpu",
    as_json: options.AsJson = False,
) -> None:
    """A problem is loaded as by a worker, which may download its data. Code of your own is run if you name its .toml
    file.
    """
    here = options.machine(setting, data, data_dir, device=device)
    show_checks(examine(storage, study or [], here), as_json=as_json)


def examine(storage: str, texts: Sequence[str], machine: Machine) -> Iterator[Check]:
    """Check the machine, the database and the studies that STUDY arguments name, or else those in the database.

    Nothing is created, but a problem is loaded as by a worker, and may download its data.
    """
    yield Check("versions", None, ", ".join(f"{name} {package_version(name)}" for name in PACKAGES))
    yield Check("program", None, f"commit {git_commit()}, processor {processor()}, {cores()} cores")
    check, database, stored = _database(storage)
    yield check
    free = available_memory()
    yield Check("memory", None, "the system does not say" if free is None else f"{free / 2**30:.1f} GiB free")
    yield _guarded("threads", _threads)
    try:
        yield from _of_studies(texts, database, stored, machine)
    finally:
        if database is not None:
            database.close()


def _of_studies(
    texts: Sequence[str], database: Database | None, stored: Sequence[StoredStudy], machine: Machine
) -> Iterator[Check]:
    try:
        from pairsearch.search.setup.arguments import look_all_up
        from pairsearch.studies.loading import LOADED
    except Exception as error:
        yield Check("studies", False, _reason(error))
        return
    # Nothing can be trained of a study whose results were loaded.
    names = texts or [study.name for study in stored if study.definition.problem != LOADED]
    if not names:
        yield Check("studies", None, "`pairsearch doctor STUDY` checks what the problem of a study needs")
    for given in look_all_up(database, names):
        yield from _of_study(given, database, machine, named=bool(texts))


def _of_study(
    given: StudyArgument, database: Database | None, machine: Machine, *, named: bool
) -> Iterator[Check]:
    """Check what a worker would meet before it claims anything, and what the problem itself checks."""
    from pairsearch.search.ledger.studies import check_same, find_study
    from pairsearch.search.setup.opening import load
    from pairsearch.studies.loading import OF_PROGRAMS, SHIPPED

    problem, known = given.definition.problem, None if database is None else find_study(database, given.name)
    theirs = problem not in SHIPPED or problem in OF_PROGRAMS
    if not named and given.folder is None and known and (known.traits.files or theirs):
        yield Check(
            given.name, None, "has code of yours, which `pairsearch doctor FILE.toml` runs and checks"
        )
        return
    try:
        loaded = load(database, given, machine)
        traits = loaded.traits
        if known is not None:
            check_same(known, loaded.definition, traits)
        for name, check in loaded.problem.examine().items():
            yield _guarded(f"{given.name} {name}", check)
        loaded.problem.prove(machine.device)
        data = f", data {traits.data}" if traits.data else ""
        finding = f"problem {problem}{data}, can be trained on {machine.device}"
        fits, free = True, available_memory()
        if traits.worker_bytes and free is not None:
            fits = free >= traits.worker_bytes
            finding += f"; memory for some {free // traits.worker_bytes} workers"
        yield Check(given.name, fits, finding)
    except Exception as error:
        yield Check(given.name, False, _reason(error))


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, good=True, finding=check())
    except Exception as error:
        return Check(name, good=False, finding=_reason(error))


def _reason(error: Exception) -> str:
    ours = isinstance(error, PairsearchError | ValueError | OSError)
    return str(error) if ours else f"{type(error).__name__}: {error}"


def _database(storage: str) -> tuple[Check, Database | None, list[StoredStudy]]:
    try:
        from pairsearch.search.database.connection import open_database
        from pairsearch.search.database.tables import SCHEMA_VERSION
        from pairsearch.search.ledger.studies import list_studies

        database = open_database(storage)
        stored = list_studies(database)
    except NoStudiesError as error:
        # A new installation has none yet, and nothing is wrong with it.
        return Check("database", None, str(error)), None, []
    except Exception as error:
        return Check("database", False, _reason(error)), None, []
    studies = ", ".join(
        f"{study.name} ({study.traits.data})" if study.traits.data else study.name for study in stored
    )
    finding = f"{database.label}, schema version {SCHEMA_VERSION}, studies: {studies or 'none'}"
    return Check("database", True, finding), database, stored


def _threads() -> str:
    import numpy  # noqa: F401 - loads the pools that are checked
    import torch
    from threadpoolctl import threadpool_info

    pools = [f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info()]
    wide = [pool for pool in pools if not pool.endswith(" 1")]
    if wide or torch.get_num_threads() != 1:
        raise OSError(
            f"pools wider than one thread: {', '.join(wide) or 'torch'}; workers would get in each other's way"
        )
    return f"one in each pool ({', '.join(pools)}, torch {torch.get_num_threads()})"
