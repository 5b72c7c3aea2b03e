"""The studies of a database. Each is created once and bound to everything that its results depend on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from pairsearch.search.common.errors import StudyError
from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import studies as study_rows
from pairsearch.studies.configuration import Value
from pairsearch.studies.definition import NAME_PATTERN, Definition, parse
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
    """Read a study by its name; raises StudyError where there is none."""
    study = find_study(database, name)
    if study is None:
        raise StudyError(f"study {name} is not in {database.label}: `pairsearch create {name}` makes it")
    return study


def seen_by(connection: Connection, study: StoredStudy) -> StoredStudy:
    """Read a study again in a transaction, as its grid may have grown; raises StudyError where it was deleted."""
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


def put_study(
    connection: Connection,
    known: StoredStudy | None,
    definition: Definition,
    traits: Traits,
    choices: Mapping[str, Sequence[Value]],
) -> StoredStudy:
    """Insert a new study, which Optuna does not have yet, or store the latest definition of a known one.

    The caller holds the creation lock, and has called `check_same`.
    """
    row = {
        "definition": definition.model_dump_json(),
        "choices": json.dumps(choices),
        "problem": json.dumps(traits.to_json()),
    }
    if known is None:
        new = insert(study_rows).values(row | {"name": definition.name, "optuna_study_id": 0})
        return _stored(connection.execute(new.values(created_at=now()).returning(*study_rows.c)).one())
    connection.execute(update(study_rows).where(study_rows.c.id == known.id).values(row))
    return seen_by(connection, known)


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
