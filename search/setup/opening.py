"""What a command works with: the database that it names, its studies, and their data.

PyTorch and Optuna take seconds to import. What needs them is imported once all that can be refused without them has
been accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from pairsearch.data.sources import KINDS, Source, resolve
from pairsearch.search.database.connection import Database, check_creatable, find_database, open_database
from pairsearch.search.errors import InputError, StudyError
from pairsearch.search.ledger.configurations import Ledger
from pairsearch.search.ledger.studies import StoredStudy, check_same, find_definition, find_study, get_study
from pairsearch.studies.definition import Definition

if TYPE_CHECKING:
    from pairsearch.search.setup.creation import Creation

DEFAULT_DATA = "mnist"


@dataclass(frozen=True, slots=True)
class DataChoice:
    """Which data a command asks for.

    Args:
        kind: `mnist`, `digits` or `auto`; None for what the study is bound to, and `mnist` for a new one.
        folder: torchvision root, None for the per-user folder.
    """

    kind: str | None
    folder: Path | None


def definitions_of(database: Database | None, given: Sequence[str]) -> list[Definition]:
    """The definitions of STUDY arguments, without repetition.

    Raises:
        StudyError: an unknown study, or two definitions of one name that differ.
    """
    found: dict[str, Definition] = {}
    for text in given:
        definition = find_definition(text, database)
        if found.setdefault(definition.name, definition) != definition:
            raise StudyError(f"two different definitions are named {definition.name!r}: rename one")
    return list(found.values())


def stored_definitions(database: Database, given: Sequence[str]) -> list[Definition]:
    """The definitions of STUDY arguments, as `definitions_of` gives them, of studies that the database holds.

    Raises:
        StudyError: as there; also a study that was not created, or was with another definition.
    """
    definitions = definitions_of(database, given)
    for definition in definitions:
        study = get_study(database, definition.name)
        check_same(study, definition, None, study.training_version)
    return definitions


def load_source(
    database: Database | None,
    definitions: Sequence[Definition],
    choice: DataChoice,
    say: Callable[[str], None] | None = None,
) -> tuple[Source, str]:
    """The data of a command, and the kind to pass on to worker processes.

    Args:
        say: told which data were chosen and why, where the choice was left open by `auto`.

    Raises:
        StudyError: the studies named are bound to different data.
        DataError: missing, corrupt or unknown data.
    """
    kind = choice.kind
    found = [] if database is None else [find_study(database, d.name) for d in definitions]
    known = [study for study in found if study is not None]
    # What is missing is downloaded: not for a study that is bound to others.
    for study in known if kind in KINDS else []:
        if study.source_name != kind:
            raise StudyError(
                f"study {study.name} in the database differs: its data are {study.source_name} and those given are "
                f"{kind}. Use what it was created with, another study name or another database"
            )
    if kind is None:
        bound = {study.source_name for study in known}
        if len(bound) > 1:
            raise StudyError(
                f"these studies are bound to different data ({', '.join(sorted(bound))}): split the call"
            )
        kind = bound.pop() if bound else DEFAULT_DATA
    source, reason = resolve(kind, choice.folder)
    if say is not None and choice.kind == "auto":
        say(f"data: {reason}")
    return source, source.name


@dataclass(frozen=True, slots=True)
class Opened:
    """What a command that creates studies works with."""

    database: Database
    definitions: list[Definition]
    source: Source
    data: str
    """The kind of data, to pass on to worker processes."""


def open_to_create(
    storage: str, given: Sequence[str], choice: DataChoice, say: Callable[[str], None] | None = None
) -> Opened:
    """Open a database, and make it where there is none, once all that was given has turned out to be usable.

    Args:
        say: as for `load_source`.

    Raises:
        StorageError, StudyError, DefinitionError, DataError: something given cannot be used; nothing was made.
    """
    there = find_database(storage)
    definitions = definitions_of(there, given)
    # Loading the data may download them: all else is looked at first.
    if there is None:
        check_creatable(storage)
    else:
        for definition in definitions:
            if (known := find_study(there, definition.name)) is not None:
                check_same(known, definition, None, known.training_version)
    source, kind = load_source(there, definitions, choice, say)
    if there is None:
        from pairsearch.search.setup.creation import check_trainable  # noqa: PLC0415

        for definition in definitions:
            check_trainable(definition, source)
    return Opened(there or open_database(storage, create=True), definitions, source, kind)


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


def create_all(database: Database, definitions: Sequence[Definition], source: Source) -> list[Creation]:
    """Create every study, or leave it as it is."""
    from pairsearch.search.setup.creation import create_study  # noqa: PLC0415

    return [create_study(database, definition, source) for definition in definitions]


def existing(database: Database, definitions: Sequence[Definition], source: Source) -> list[StoredStudy]:
    """The studies as the database holds them.

    Raises:
        StudyError: one is not there, or differs from the definition, the data or the training version at hand.
    """
    from pairsearch.models.training import TRAINING_VERSION  # noqa: PLC0415

    studies = []
    for definition in definitions:
        study = get_study(database, definition.name)
        check_same(study, definition, (source.name, source.fingerprint), TRAINING_VERSION)
        studies.append(study)
    return studies


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
