"""Opens what a command works with: the database that it names, its studies and their problems.

PyTorch and Optuna take seconds to import. Everything is checked first that can be checked without them, so that they
are imported here where they are needed, and not at the top.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from pairsearch.search.common.errors import InputError
from pairsearch.search.common.files import working_directory
from pairsearch.search.common.machine import LEASE_SECONDS, Machine
from pairsearch.search.database.connection import Database, find_database, open_database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy, check_same, find_study, get_study, list_studies
from pairsearch.search.mirror import presence
from pairsearch.search.setup.arguments import StudyArgument, look_all_up, look_stored_up
from pairsearch.studies import loading
from pairsearch.studies.definition import read
from pairsearch.studies.loading import Loaded, check_trainable

if TYPE_CHECKING:
    from pairsearch.search.setup.creation import Creation


def open_stored(storage: str, texts: Sequence[str] = ()) -> tuple[Database, list[StoredStudy]]:
    """Open a database, and read studies in it, each once: those of STUDY arguments, or all if there are none."""
    database = open_database(storage)
    with _closed_on_error(database):
        if not texts:
            return database, list_studies(database)
        # A file stands for the name in it.
        names = [read(Path(text)).name if text.endswith(".toml") else text for text in texts]
        return database, [get_study(database, name) for name in dict.fromkeys(names)]


_kept: dict[str, Loaded] = {}


def keep(loaded: dict[str, Loaded]) -> None:
    """Have `load` return each of these problems once, by the name of its study; the argument is emptied.

    A process that was forked from the one that has loaded them need not load them again.
    """
    _kept.update(loaded)
    loaded.clear()


def load(
    database: Database | None,
    given: StudyArgument,
    machine: Machine,
    say: Callable[[str], None] | None = None,
) -> Loaded:
    """Load the problem of a study, with the settings that are stored with the study in the database.

    Args:
        database: where the study may be; None if there is no database yet.
        say: called with each note of the problem, for example which data it chose.
    """
    check_device(machine.device)
    if (kept := _kept.pop(given.name, None)) is not None and kept.definition == given.definition:
        return kept
    known = None if database is None else find_study(database, given.name)
    remembered = {} if known is None else known.traits.remember
    before = working_directory()
    os.chdir(given.here)  # another problem may have left it
    try:
        loaded = loading.load(given.definition, given.folder, machine.settings, remembered)
    finally:
        if working_directory() == given.here:
            os.chdir(before)
    if say is not None:
        for note in loaded.problem.notes:
            say(note)
    return loaded


@dataclass(frozen=True, slots=True)
class Checked:
    """Studies that can be created, and their database, which may not exist yet (`check`)."""

    database: Database
    given: list[StudyArgument]
    loaded: dict[str, Loaded]
    """Definitions and problems by the name of the study."""
    is_new: bool

    def create(self) -> list[Creation]:
        """Create the studies, or complete those that exist (`create_study`), and the database at need.

        It is open afterwards.
        """
        from pairsearch.search.setup.creation import create_study  # noqa: PLC0415

        with _closed_on_error(self.database):
            if self.is_new:
                for one in self.loaded.values():
                    check_trainable(one)
                open_database(self.database, create=True)
            return [create_study(self.database, one) for one in self.loaded.values()]


@contextmanager
def _closed_on_error(database: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise


def check(
    storage: str, texts: Sequence[str], machine: Machine, say: Callable[[str], None] | None = None
) -> Checked:
    """Check that studies can be created or completed, and load their problems; nothing is written."""
    found = find_database(storage)
    # A problem may change the working directory, so the path of a new file is settled before it is loaded.
    database = found or Database(storage)
    with _closed_on_error(database):
        studies = look_all_up(found, texts)
        # Loading a problem may download its data, so that it comes last.
        if found is None:
            database.check_folder(writable=True)
        else:
            for given in studies:
                if (known := find_study(found, given.name)) is not None:
                    check_same(known, given.definition)
        loaded = {given.name: load(found, given, machine, say) for given in studies}
    return Checked(database, studies, loaded, found is None)


# The beginnings of PyTorch's device names, by which other names are refused before PyTorch is imported.
DEVICES = (
    *("cpu", "cuda", "ipu", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve"),
    *("fpga", "maia", "xla", "lazy", "vulkan", "mps", "meta", "hpu", "mtia", "privateuseone"),
)


def check_device(name: str) -> None:
    """Check that PyTorch can compute on a device of this machine; raises InputError, which says why it cannot."""
    if name == "cpu":
        return
    try:
        # Extensions of PyTorch add devices of their own.
        if name.partition(":")[0] not in DEVICES and not entry_points(group="torch.backends"):
            raise RuntimeError("PyTorch has none of this name")
        import torch  # noqa: PLC0415

        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--device {name!a} cannot be used here ({reason}): expected cpu, or cuda where PyTorch finds a GPU"
        ) from None


def open_to_work(
    database: Database, texts: Sequence[str], machine: Machine, say: Callable[[str], None]
) -> deque[tuple[StoredStudy, Loaded]]:
    """Load the studies of a worker with their problems, as they have to be in the database."""
    loaded = [load(database, given, machine, say) for given in look_stored_up(database, texts)]
    return deque((existing(database, one), one) for one in loaded)


def existing(database: Database, loaded: Loaded) -> StoredStudy:
    """Read a study from the database, and check that results of this problem belong to it (`check_same`)."""
    study = get_study(database, loaded.definition.name)
    check_same(study, loaded.definition, loaded.traits)
    return study


def open_ledger(database: Database, study: StoredStudy, lease: float = LEASE_SECONDS) -> Ledger:
    """Return the ledger of a study with its view in Optuna's tables (`open_view`)."""
    from pairsearch.search.mirror.trials import open_view  # noqa: PLC0415

    return Ledger(database, study, lease, open_view(database, study))


def reconcile(database: Database, studies: Sequence[StoredStudy]) -> bool:
    """Reap leases that ran out, and make what Optuna's tables lack; return whether they lacked something."""
    whole = [presence.shown(database, study) for study in studies]
    for study, shown in zip(studies, whole, strict=True):
        if not shown or Ledger(database, study).expired():
            open_ledger(database, study).reap()
    return not all(whole)


def open_optuna(storage: str) -> object:
    """Open a database as Optuna's own storage, for its dashboard; raises what `known_here` raises."""
    from pairsearch.search.mirror import tables  # noqa: PLC0415

    database = open_database(storage)
    tables.known_here(database)
    return tables.open_optuna(database)
