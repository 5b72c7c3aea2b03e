"""Finds the definitions that STUDY arguments of commands name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pairsearch.search.common.errors import StudyError
from pairsearch.search.common.files import working_directory
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import check_same, find_study, get_study, list_studies
from pairsearch.studies.definition import Definition, read, shipped


@dataclass(frozen=True, slots=True)
class StudyArgument:
    """A STUDY argument with the definition that it names.

    Args:
        folder: the folder of the definition's file; None for a definition from the database.
        here: the working directory, to which the argument and settings of this machine are relative. A problem may
            change it when it is loaded.
    """

    text: str
    definition: Definition
    folder: Path | None
    here: Path = field(default_factory=working_directory)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.definition.name


def look_up(given: str, database: Database | None = None) -> StudyArgument:
    """Find the definition that a STUDY argument names.

    Args:
        given: a path that ends in `.toml`, the name of a shipped definition, or that of a study in the database.
        database: where to look for a study that is not shipped; None to look nowhere.

    Raises:
        StudyError: there is no such study.
        DefinitionError: the file is unreadable or invalid.
    """
    known = shipped()
    file = Path(given) if given.endswith(".toml") else known.get(given)
    if file is not None:
        return StudyArgument(given, read(file), file.absolute().parent)
    stored: list[str] = []
    if database is not None:
        study = find_study(database, given)
        if study is not None:
            return StudyArgument(given, study.definition, None)
        stored = [study.name for study in list_studies(database)]
    names = ", ".join(dict.fromkeys([*known, *stored]))
    # ascii() escapes control characters and undecodable bytes in a hostile name.
    raise StudyError(f"unknown study {given!a}: expected one of {names}, or a path to a .toml definition")


def each_once(given: Iterable[StudyArgument]) -> list[StudyArgument]:
    """Return arguments, each study once; raises StudyError where two different definitions share a name."""
    by_name: dict[str, StudyArgument] = {}
    for one in given:
        if by_name.setdefault(one.name, one).definition != one.definition:
            raise StudyError(f"two different definitions are named {one.name!r}: rename one")
    return list(by_name.values())


def look_all_up(database: Database | None, texts: Sequence[str]) -> list[StudyArgument]:
    """Find the definitions of STUDY arguments as `look_up` does, each study once as `each_once` does."""
    return each_once(look_up(text, database) for text in texts)


def look_stored_up(database: Database, texts: Sequence[str]) -> list[StudyArgument]:
    """Find the definitions of STUDY arguments as `look_all_up` does, and check that they are those in the database."""
    studies = look_all_up(database, texts)
    for given in studies:
        check_same(get_study(database, given.name), given.definition)
    return studies
