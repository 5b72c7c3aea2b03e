"""What a command works with: the database that it names, its studies, and their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.sources import Source, resolve
from models.training import TRAINING_VERSION
from search.catalogue import StoredStudy, check_same, find_definition, find_study, get_study
from search.creation import Creation, check_trainable, create_study
from search.database import Database, check_creatable, find_database, open_database
from search.errors import InputError, StudyError
from search.ledger import Ledger
from search.trials import Mirror, open_storage
from studies.definition import Definition

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
    if kind is None:
        known = [] if database is None else [find_study(database, d.name) for d in definitions]
        bound = {study.source_name for study in known if study is not None}
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
                check_same(known, definition, None, TRAINING_VERSION)
    source, kind = load_source(there, definitions, choice, say)
    if there is None:
        for definition in definitions:
            check_trainable(definition, source)
    return Opened(there or open_database(storage, create=True), definitions, source, kind)


def check_device(name: str) -> None:
    """Refuse a device that PyTorch cannot compute on here.

    Raises:
        InputError: saying why.
    """
    import torch  # noqa: PLC0415 - takes a while

    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--device {name!a} cannot be used here ({reason}): expected cpu, or cuda where PyTorch finds a GPU"
        ) from None


def create_all(database: Database, definitions: Sequence[Definition], source: Source) -> list[Creation]:
    """Create every study, or leave it as it is."""
    return [create_study(database, definition, source) for definition in definitions]


def existing(
    database: Database, definitions: Sequence[Definition], source: Source | None
) -> list[StoredStudy]:
    """The studies as the database holds them.

    Args:
        source: None to leave the data unchecked, before they are loaded or even downloaded.

    Raises:
        StudyError: one is not there, or differs from the definition, the data or the training version at hand.
    """
    studies = []
    for definition in definitions:
        study = get_study(database, definition.name)
        identity = None if source is None else (source.name, source.fingerprint)
        check_same(study, definition, identity, TRAINING_VERSION)
        studies.append(study)
    return studies


def reconcile(database: Database, studies: Sequence[StoredStudy]) -> None:
    """Reap the leases that ran out and close the trials that dead workers left."""
    storage = open_storage(database)
    try:
        for study in studies:
            ledger = Ledger(database, study.id)
            ledger.reap()
            Mirror(database, storage, study, ledger).reconcile()
    finally:
        storage.engine.dispose()
