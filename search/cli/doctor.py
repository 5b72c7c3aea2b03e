"""Checks an installation: versions, database, memory, threads, and what the paper's problem needs.

Each check imports the libraries that it needs, so that a missing or broken library is a finding like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pairsearch.search import machine
from pairsearch.search.errors import NoStudiesError, PairsearchError
from pairsearch.search.provenance import PACKAGES, git_commit, package_version, processor
from pairsearch.studies.checks import Check
from pairsearch.studies.pairs import installation


def examine(storage: str, settings: Mapping[str, str]) -> Iterator[Check]:
    """Run every check; nothing is created or downloaded.

    Args:
        settings: settings of this machine for the paper's problem.
    """
    yield Check("versions", None, ", ".join(f"{name} {package_version(name)}" for name in PACKAGES))
    yield Check("program", None, f"commit {git_commit()}, processor {processor()}, {machine.cores()} cores")
    try:
        yield _guarded("database", lambda: _database(storage))
    except NoStudiesError as error:
        # A new installation has none yet, and nothing is wrong with it.
        yield Check("database", None, str(error))
    yield Check("memory", None, _memory())
    yield _guarded("threads", _threads)
    for name, check in installation.checks(settings.get("data"), settings.get("data_dir")).items():
        yield _guarded(name, check)


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, good=True, finding=check())
    except NoStudiesError:
        raise
    except (PairsearchError, ValueError, OSError) as error:
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
            f"{study.name} ({study.traits.data})" if study.traits.data else study.name
            for study in list_studies(database)
        )
        return f"{database.label}, schema version {SCHEMA_VERSION}, studies: {studies or 'none'}"
    finally:
        database.close()


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


def _memory() -> str:
    available = machine.available_memory()
    return "the system does not say" if available is None else f"{available / 2**30:.1f} GiB free"
