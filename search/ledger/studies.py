"""The studies of a database: created once, bound to what their results depend on, refused where they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import studies as study_rows
from pairsearch.search.errors import StudyError
from pairsearch.studies.configuration import Configuration, Value, shown
from pairsearch.studies.definition import NAME_PATTERN, Definition, parse, read, shipped
from pairsearch.studies.errors import DefinitionError

Choices = dict[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study as the database holds it."""

    id: int
    name: str
    optuna_study_id: int
    definition: Definition
    choices: Choices
    source_name: str
    source_fingerprint: str
    training_version: int


def find_definition(given: str, database: Database | None = None) -> Definition:
    """The definition that a STUDY argument means.

    Args:
        given: a path ending in `.toml`, the name of a shipped definition, or of a study in the database.
        database: where to look for a study that is not shipped.

    Raises:
        StudyError: unknown, or not a name.
        DefinitionError: a file that is unreadable or invalid.
    """
    if given.endswith(".toml"):
        return read(Path(given))
    known = shipped()
    if given in known:
        return read(known[given])
    stored: list[str] = []
    if database is not None:
        study = find_study(database, given)
        if study is not None:
            return study.definition
        stored = [study.name for study in list_studies(database)]
    names = ", ".join(dict.fromkeys([*known, *stored]))
    # ascii() shows control characters and undecodable bytes of a hostile name harmlessly.
    raise StudyError(f"unknown study {given!a}: expected one of {names}, or a path to a .toml definition")


def read_choices(connection: Connection, study_id: int) -> Choices:
    """The values of each hyperparameter of a study, in the order in which they came into its grid."""
    stored = connection.execute(select(study_rows.c.choices).where(study_rows.c.id == study_id)).scalar_one()
    return {parameter: tuple(values) for parameter, values in json.loads(stored).items()}


def stored_study(database: Database, given: str) -> StoredStudy:
    """The study in the database that a STUDY argument means, a `.toml` file by the name in it.

    Raises:
        StudyError: there is none.
        DefinitionError: a file that is unreadable or invalid.
    """
    return get_study(database, read(Path(given)).name if given.endswith(".toml") else given)


def list_studies(database: Database) -> list[StoredStudy]:
    """All studies of a database, by name."""
    with database.read() as connection:
        rows = connection.execute(select(study_rows).order_by(study_rows.c.name)).all()
    return [_stored(row._asdict()) for row in rows]


def find_study(database: Database, name: str) -> StoredStudy | None:
    """The study of that name, or None."""
    with database.read() as connection:
        return _find(connection, name)


def get_study(database: Database, name: str) -> StoredStudy:
    """The study of that name.

    Raises:
        StudyError: there is none.
    """
    study = find_study(database, name)
    if study is None:
        raise StudyError(f"study {name} is not in {database.label}: `pairsearch create {name}` makes it")
    return study


def seen_by(connection: Connection, study: StoredStudy) -> StoredStudy:
    """The study as a transaction sees it: its grid may have grown since it was looked up.

    Raises:
        StudyError: it is gone.
    """
    seen = _find(connection, study.name)
    if seen is None:
        raise StudyError(f"study {study.name} has been deleted from the database")
    return seen


def check_same(
    study: StoredStudy, definition: Definition, source: tuple[str, str] | None, training_version: int
) -> None:
    """Refuse a definition, data or program whose results would not belong to the stored study.

    Args:
        source: name and fingerprint of the data at hand, None to leave them unchecked.

    Raises:
        StudyError: naming every difference, with what the study has and what was given.
    """
    held, given = study.definition.results_depend_on, definition.results_depend_on
    dropped = {
        name: [value for value in values if value not in definition.grid.choices.get(name, values)]
        for name, values in study.choices.items()
    }
    differences = [
        f"grid.{name} no longer has {', '.join(map(shown, values))} (a grid only grows)"
        for name, values in dropped.items()
        if values
    ]
    differences += [
        f"{name} is {held.get(name)!r} there and {given.get(name)!r} here"
        for name in sorted(held.keys() | given.keys())
        if held.get(name) != given.get(name)
    ]
    if source is not None and source != (study.source_name, study.source_fingerprint):
        differences.append(
            f"its data are {study.source_name} {study.source_fingerprint[:12]} and those given are "
            f"{source[0]} {source[1][:12]}"
        )
    if training_version != study.training_version:
        differences.append(
            f"its training version is {study.training_version}, this program's {training_version}"
        )
    if differences:
        raise StudyError(
            f"study {study.name} in the database differs: {'; '.join(differences)}. "
            "Use what it was created with, another study name or another database"
        )


def merge_choices(held: Mapping[str, Sequence[Value]], grid: Mapping[str, Sequence[Value]]) -> Choices:
    """The values that a study knows, new ones of the grid appended, so that the place of the old ones stays."""
    return {
        name: tuple(dict.fromkeys([*held.get(name, ()), *(type(values[0])(value) for value in values)]))
        for name, values in grid.items()
    }


def layout_order(definition: Definition) -> list[Configuration]:
    """The grid in the order of claims: the paper's configuration first, the others shuffled by the study's seed.

    So the first N of them are a random subset of the grid that contains the paper's configuration.
    """
    # NumPy is slow to import for commands that create nothing.
    import numpy as np  # noqa: PLC0415

    from pairsearch.studies.seeds import Stream, derive  # noqa: PLC0415

    points = definition.grid.configurations()
    order = np.random.default_rng(derive(definition.seed, Stream.LAYOUT)).permutation(len(points))
    shuffled = [points[index] for index in order]
    if definition.paper is not None and definition.paper.configuration in shuffled:
        shuffled.remove(definition.paper.configuration)
        shuffled.insert(0, definition.paper.configuration)
    return shuffled


def insert_study(
    connection: Connection,
    definition: Definition,
    optuna_study_id: int,
    source: tuple[str, str],
    training_version: int,
) -> StoredStudy:
    """Add the row of a new study; the caller holds the creation lock."""
    connection.execute(
        insert(study_rows).values(
            name=definition.name,
            optuna_study_id=optuna_study_id,
            definition=definition.model_dump_json(),
            choices=json.dumps(merge_choices({}, definition.grid.choices)),
            source_name=source[0],
            source_fingerprint=source[1],
            training_version=training_version,
            created_at=now(),
        )
    )
    study = _find(connection, definition.name)
    assert study is not None, "a row just inserted in this transaction"  # noqa: S101
    return study


def update_study(
    connection: Connection, study: StoredStudy, definition: Definition, choices: Choices
) -> None:
    """Keep the latest definition, with its larger grid; the caller has checked that the results fit."""
    connection.execute(
        update(study_rows)
        .where(study_rows.c.id == study.id)
        .values(definition=definition.model_dump_json(), choices=json.dumps(choices))
    )


def valid_name(name: str) -> bool:
    """Whether a text can be a study's name."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def _find(connection: Connection, name: str) -> StoredStudy | None:
    if not valid_name(name):
        return None
    row = connection.execute(select(study_rows).where(study_rows.c.name == name)).first()
    return None if row is None else _stored(row._asdict())


def _stored(row: Mapping[str, object]) -> StoredStudy:
    name = str(row["name"])
    # Others may be able to write to the database: a name goes into messages, commands and file names.
    if not valid_name(name):
        raise StudyError(f"the database has a study named {name!a}, which pairsearch cannot have written")
    try:
        choices = json.loads(str(row["choices"]))
        return StoredStudy(
            id=int(str(row["id"])),
            name=name,
            optuna_study_id=int(str(row["optuna_study_id"])),
            definition=parse(json.loads(str(row["definition"])), f"study {name} in the database"),
            choices={parameter: tuple(values) for parameter, values in choices.items()},
            source_name=str(row["source_name"]),
            source_fingerprint=str(row["source_fingerprint"]),
            training_version=int(str(row["training_version"])),
        )
    except DefinitionError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(
            f"study {name} in the database is damaged ({type(error).__name__}): restore it or use another database"
        ) from None
