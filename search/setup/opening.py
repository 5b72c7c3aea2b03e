"""What a command works with: the database that it names, its studies, and their problems.

PyTorch and Optuna take seconds to import. What needs them is imported once all that can be refused without them has
been accepted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from pairsearch.search.database.connection import Database, check_creatable, find_database, open_database
from pairsearch.search.errors import InputError, StudyError
from pairsearch.search.ledger.configurations import Ledger
from pairsearch.search.ledger.studies import Given, StoredStudy, check_same, find_study, get_study, look_up

if TYPE_CHECKING:
    from pairsearch.search.setup.creation import Creation
    from pairsearch.studies.loading import Loaded


def look_all_up(database: Database | None, texts: Sequence[str]) -> list[Given]:
    """The definitions of STUDY arguments, without repetition.

    Raises:
        StudyError: an unknown study, or two definitions of one name that differ.
    """
    found: dict[str, Given] = {}
    for text in texts:
        given = look_up(text, database)
        if found.setdefault(given.name, given).definition != given.definition:
            raise StudyError(f"two different definitions are named {given.name!r}: rename one")
    return list(found.values())


def look_stored_up(database: Database, texts: Sequence[str]) -> list[Given]:
    """The definitions of STUDY arguments, as `look_all_up` gives them, of studies that the database holds.

    Raises:
        StudyError: as there; also a study that was not created, or was with another definition.
    """
    found = look_all_up(database, texts)
    for given in found:
        check_same(get_study(database, given.name), given.definition)
    return found


def load(
    database: Database | None,
    given: Given,
    options: Mapping[str, str],
    say: Callable[[str], None] | None = None,
) -> Loaded:
    """The problem of a study, with the settings that the study remembers where it is in the database.

    Args:
        options: settings of this machine.
        say: told what the problem chose.

    Raises:
        ProblemError: it cannot be loaded, or not with these settings.
    """
    from pairsearch.studies import loading  # noqa: PLC0415

    known = None if database is None else find_study(database, given.name)
    remembered = {} if known is None else known.traits.remember
    loaded = loading.load(given.definition, given.folder, options, remembered)
    if say is not None:
        for note in loaded.problem.notes:
            say(note)
    return loaded


@dataclass(frozen=True, slots=True)
class Opened:
    """What a command that creates studies works with."""

    database: Database
    loaded: list[Loaded]


def open_to_create(
    storage: str, texts: Sequence[str], options: Mapping[str, str], say: Callable[[str], None] | None = None
) -> Opened:
    """Open a database, and make it where there is none, once all that was given has turned out to be usable.

    Args:
        options, say: as for `load`.

    Raises:
        StorageError, StudyError, DefinitionError: something given cannot be used; nothing was made.
    """
    there = find_database(storage)
    found = look_all_up(there, texts)
    # Loading a problem may download its data: all else is looked at first.
    if there is None:
        check_creatable(storage)
    else:
        for given in found:
            if (known := find_study(there, given.name)) is not None:
                check_same(known, given.definition)
    loaded = [load(there, given, options, say) for given in found]
    if there is None:
        from pairsearch.search.setup.creation import check_trainable  # noqa: PLC0415

        for one in loaded:
            check_trainable(one)
    return Opened(there or open_database(storage, create=True), loaded)


# What PyTorch's own device names begin with: others are refused before it is loaded.
DEVICES = (
    *("cpu", "cuda", "ipu", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve"),
    *("fpga", "maia", "xla", "lazy", "vulkan", "mps", "meta", "hpu", "mtia", "privateuseone"),
)


def check_device(name: str) -> None:
    """Refuse a device that PyTorch cannot compute on here.

    Raises:
        InputError: saying why.
    """
    if name == "cpu":
        return
    try:
        # Extensions of PyTorch bring devices of their own.
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
    database: Database, texts: Sequence[str], options: Mapping[str, str], say: Callable[[str], None]
) -> deque[tuple[StoredStudy, Loaded]]:
    """The studies that a worker goes through, with their problems.

    Args:
        options, say: as for `load`.

    Raises:
        StudyError: one is not there, or differs from the definition, the problem or the data at hand.
        DefinitionError: as for `load`.
    """
    found = look_stored_up(database, texts)
    loaded = [load(database, given, options, say) for given in found]
    from pairsearch.search.setup.creation import existing  # noqa: PLC0415

    return deque((existing(database, one), one) for one in loaded)


def create_all(database: Database, loaded: Sequence[Loaded]) -> list[Creation]:
    """Create every study, or leave it as it is."""
    from pairsearch.search.setup.creation import create_study  # noqa: PLC0415

    return [create_study(database, one) for one in loaded]


def reconcile(database: Database, studies: Sequence[StoredStudy]) -> None:
    """Reap the leases that ran out and close the trials that dead workers left."""
    from pairsearch.search.mirror.trials import Mirror, open_storage  # noqa: PLC0415

    storage = open_storage(database)
    try:
        for study in studies:
            ledger = Ledger(database, study.id)
            ledger.reap()
            Mirror(database, storage, study, ledger).reconcile()
    finally:
        storage.engine.dispose()
