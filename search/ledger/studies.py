"""The studies of a database. Each is created once and bound to everything that its results depend on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from pairsearch.search.common.errors import StudyError
from pairsearch.search.common.files import working_directory
from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import studies as study_rows
from pairsearch.studies.configuration import Value
from pairsearch.studies.definition import NAME_PATTERN, Definition, parse, read, shipped
from pairsearch.studies.differences import other_problem, other_results
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.problem import Metric, Traits

Choices = dict[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study as it is stored in the database."""

    id: int
    name: str
    optuna_study_id: int
    definition: Definition
    choices: Choices
    traits: Traits
    """The traits of its problem when the study was last created."""
    created_at: float = 0.0
    """When it was created, which tells it from those of its name in other databases; 0 where it is in none."""

    @property
    def metric(self) -> Metric:
        """The metric by which configurations are compared."""
        return self.traits.metrics[self.definition.metric]

    @property
    def folds_apart(self) -> bool:
        """Whether each fold is a job of its own: none train together, and no pruner looks at them in their order."""
        return not self.traits.together and self.definition.pruner == "none"

    @property
    def report_steps(self) -> tuple[int, ...]:
        """The steps after which the metric is shown, and pruners are asked.

        A step is an epoch if folds train together or there is one, else a fold, from 1.
        """
        if not self.definition.steps_are_epochs(self.traits.together):
            return tuple(range(1, self.definition.folds + 1))
        return self.definition.reported_epochs


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


def read_choices(connection: Connection, study_id: int) -> Choices:
    """Read the values of each parameter of a study, in the order in which they were added to its grid."""
    stored = connection.execute(select(study_rows.c.choices).where(study_rows.c.id == study_id)).scalar_one()
    return _choices(stored)


def list_studies(database: Database) -> list[StoredStudy]:
    """Read all studies of a database, sorted by name."""
    with database.read() as connection:
        rows = connection.execute(select(study_rows).order_by(study_rows.c.name)).all()
    return [_stored(row) for row in rows]


def find_study(database: Database, name: str) -> StoredStudy | None:
    """Read a study by its name; None if there is none."""
    with database.read() as connection:
        return _find(connection, name)


def get_study(database: Database, name: str) -> StoredStudy:
    """Read a study by its name.

    Raises:
        StudyError: there is none.
    """
    study = find_study(database, name)
    if study is None:
        raise StudyError(f"study {name} is not in {database.label}: `pairsearch create {name}` makes it")
    return study


def seen_by(connection: Connection, study: StoredStudy) -> StoredStudy:
    """Read a study again in a transaction: its grid may have grown since it was first read.

    Raises:
        StudyError: the study was deleted.
    """
    seen = _find(connection, study.name)
    if seen is None:
        raise StudyError(f"study {study.name} has been deleted from the database")
    return seen


def check_same(study: StoredStudy, definition: Definition, traits: Traits | None = None) -> None:
    """Check that results of a definition, its problem and its data would belong to the stored study.

    Args:
        traits: the traits of the problem; None to leave the problem and its data unchecked.

    Raises:
        StudyError: they differ; the message names every difference with both values.
    """
    differences = [*other_results(study.definition, definition)]
    if traits is not None:
        changed = definition.allow_changed_files
        differences += other_problem(study.traits, traits, changed_files=changed)
    if differences:
        raise StudyError(
            f"study {study.name} in the database differs: {'; '.join(differences)}. "
            "Use what it was created with, another study name or another database"
        )


def merge_choices(stored: Mapping[str, Sequence[Value]], grid: Mapping[str, Sequence[Value]]) -> Choices:
    """Append the new values of a grid to a study's values, whose positions stay the same."""
    return {
        name: tuple({repr(value): value for value in [*stored.get(name, ()), *grid.get(name, ())]}.values())
        for name in dict.fromkeys([*stored, *grid])
    }


def insert_study(connection: Connection, definition: Definition, traits: Traits) -> StoredStudy:
    """Insert the row of a new study, which Optuna does not have yet; the caller holds the creation lock."""
    new = insert(study_rows).values(
        name=definition.name,
        optuna_study_id=0,
        definition=definition.model_dump_json(),
        choices=json.dumps(merge_choices({}, definition.grid.choices)),
        problem=json.dumps(traits.to_json()),
        created_at=now(),
    )
    return _stored(connection.execute(new.returning(*study_rows.c)).one())


def update_study(
    connection: Connection, study: StoredStudy, definition: Definition, traits: Traits, choices: Choices
) -> None:
    """Store the latest definition, with its larger grid; the caller has called `check_same`."""
    connection.execute(
        update(study_rows)
        .where(study_rows.c.id == study.id)
        .values(
            definition=definition.model_dump_json(),
            problem=json.dumps(traits.to_json()),
            choices=json.dumps(choices),
        )
    )


def valid_name(name: str) -> bool:
    """Whether a text can be a study's name."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def _find(connection: Connection, name: str) -> StoredStudy | None:
    if not valid_name(name):
        return None
    row = connection.execute(select(study_rows).where(study_rows.c.name == name)).first()
    return None if row is None else _stored(row)


def _stored(row: Any) -> StoredStudy:
    # Others may be able to write to the database, and the name is used in messages, commands and file names.
    if not valid_name(row.name):
        raise StudyError(f"the database has a study named {row.name!a}, which pairsearch cannot have written")
    try:
        study = StoredStudy(
            id=row.id,
            name=row.name,
            optuna_study_id=row.optuna_study_id,
            definition=parse(json.loads(row.definition), f"study {row.name} in the database", stored=True),
            choices=_choices(row.choices),
            traits=Traits.from_json(json.loads(row.problem)),
            created_at=row.created_at,
        )
        if study.definition.metric not in study.traits.of_folds:
            raise ValueError("a metric that is not reported")
        return study
    except DefinitionError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StudyError(
            f"study {row.name} in the database is damaged ({type(error).__name__}): restore it or use another database"
        ) from None


def _choices(text: str) -> Choices:
    return {parameter: tuple(values) for parameter, values in json.loads(text).items()}
