"""The studies of a database: created once, bound to what their results depend on, refused where they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import studies as study_rows
from pairsearch.search.errors import StudyError
from pairsearch.studies.configuration import Configuration, Value, describe, shown
from pairsearch.studies.definition import NAME_PATTERN, Definition, parse, read, shipped
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.problem import Metric, Traits

Choices = dict[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study as the database holds it."""

    id: int
    name: str
    optuna_study_id: int
    definition: Definition
    choices: Choices
    traits: Traits
    """What its problem said of itself."""

    @property
    def metric(self) -> Metric:
        """How the figure reads by which configurations are compared."""
        return self.traits.metrics[self.definition.metric]


@dataclass(frozen=True, slots=True)
class Given:
    """A STUDY argument, looked up.

    Args:
        text: as it was given, for other processes.
        folder: of the definition's file; None for a definition from the database.
    """

    text: str
    definition: Definition
    folder: Path | None

    @property
    def name(self) -> str:
        """The study's."""
        return self.definition.name


def look_up(given: str, database: Database | None = None) -> Given:
    """The definition that a STUDY argument means.

    Args:
        given: a path ending in `.toml`, the name of a shipped definition, or of a study in the database.
        database: where to look for a study that is not shipped.

    Raises:
        StudyError: unknown, or not a name.
        DefinitionError: a file that is unreadable or invalid.
    """
    known = shipped()
    file = Path(given) if given.endswith(".toml") else known.get(given)
    if file is not None:
        return Given(given, read(file), file.absolute().parent)
    stored: list[str] = []
    if database is not None:
        study = find_study(database, given)
        if study is not None:
            return Given(given, study.definition, None)
        stored = [study.name for study in list_studies(database)]
    names = ", ".join(dict.fromkeys([*known, *stored]))
    # ascii() shows control characters and undecodable bytes of a hostile name harmlessly.
    raise StudyError(f"unknown study {given!a}: expected one of {names}, or a path to a .toml definition")


def read_choices(connection: Connection, study_id: int) -> Choices:
    """The values of each parameter of a study, in the order in which they came into its grid."""
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


def check_same(study: StoredStudy, definition: Definition, traits: Traits | None = None) -> None:
    """Refuse a definition, problem or data whose results would not belong to the stored study.

    Args:
        traits: of the problem at hand, None to leave it unchecked.

    Raises:
        StudyError: naming every difference, with what the study has and what was given.
    """
    held, given = study.definition.results_depend_on, definition.results_depend_on
    differences = (
        [] if study.definition.grid == definition.grid else _lost_points(study.definition, definition)
    )
    differences += [
        f"{name} is {held.get(name)!r} there and {given.get(name)!r} here"
        for name in sorted(held.keys() | given.keys())
        # As texts, in which 1, 1.0 and true differ.
        if json.dumps(held.get(name), sort_keys=True) != json.dumps(given.get(name), sort_keys=True)
    ]
    if traits is not None:
        differences += _other_problem(study.traits, traits, changed_files=definition.allow_changed_files)
    if differences:
        raise StudyError(
            f"study {study.name} in the database differs: {'; '.join(differences)}. "
            "Use what it was created with, another study name or another database"
        )


def _lost_points(held: Definition, given: Definition) -> list[str]:
    """What the grid no longer has: values, or points."""
    dropped = {
        name: [value for value in values if repr(value) not in map(repr, given.grid.choices.get(name, ()))]
        for name, values in held.grid.choices.items()
    }
    lost = [
        f"grid.{name} no longer has {', '.join(map(shown, values))} (a grid only grows)"
        for name, values in dropped.items()
        if values
    ]
    if lost:
        return lost
    points = set(given.grid.points())
    left = [point for point in held.grid.points() if point not in points]
    if not left:
        return []
    return [
        f"grid no longer has {len(left)} points, for example {describe(left[0].params)} (a grid only grows)"
    ]


def _other_problem(held: Traits, given: Traits, *, changed_files: bool) -> Iterator[str]:
    if held.fingerprint != given.fingerprint:
        yield f"its data are {held.data} and those given are {given.data}"
    if held.version != given.version:
        yield f"its problem's version is {held.version}, that of the problem here {given.version}"
    if not changed_files:
        for name in sorted(held.files.keys() | given.files.keys()):
            there, here = held.files.get(name, "absent"), given.files.get(name, "absent")
            if there != here:
                yield f"{name} is {there} there and {here} here (allow_changed_files = true lets results mix)"
    for name in sorted(held.metrics.keys() & given.metrics.keys()):
        if held.metrics[name].maximise != given.metrics[name].maximise:
            yield f"{name} is {'maximised' if held.metrics[name].maximise else 'minimised'} there"


def merge_choices(held: Mapping[str, Sequence[Value]], grid: Mapping[str, Sequence[Value]]) -> Choices:
    """The values that a study knows, new ones of the grid appended, so that the place of the old ones stays."""
    return {
        name: tuple({repr(value): value for value in [*held.get(name, ()), *grid.get(name, ())]}.values())
        for name in dict.fromkeys([*held, *grid])
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
    traits: Traits,
    optuna_study_id: int,
) -> StoredStudy:
    """Add the row of a new study; the caller holds the creation lock."""
    connection.execute(
        insert(study_rows).values(
            name=definition.name,
            optuna_study_id=optuna_study_id,
            definition=definition.model_dump_json(),
            choices=json.dumps(merge_choices({}, definition.grid.choices)),
            problem=json.dumps(traits.to_json()),
            created_at=now(),
        )
    )
    study = _find(connection, definition.name)
    assert study is not None, "a row just inserted in this transaction"  # noqa: S101
    return study


def update_study(
    connection: Connection, study: StoredStudy, definition: Definition, traits: Traits, choices: Choices
) -> None:
    """Keep the latest definition, with its larger grid; the caller has checked that the results fit."""
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
    return None if row is None else _stored(row._asdict())


def _stored(row: Mapping[str, object]) -> StoredStudy:
    name = str(row["name"])
    # Others may be able to write to the database: a name goes into messages, commands and file names.
    if not valid_name(name):
        raise StudyError(f"the database has a study named {name!a}, which pairsearch cannot have written")
    try:
        choices = json.loads(str(row["choices"]))
        found = StoredStudy(
            id=int(str(row["id"])),
            name=name,
            optuna_study_id=int(str(row["optuna_study_id"])),
            definition=parse(json.loads(str(row["definition"])), f"study {name} in the database"),
            choices={parameter: tuple(values) for parameter, values in choices.items()},
            traits=Traits.from_json(json.loads(str(row["problem"]))),
        )
        if found.definition.metric not in found.traits.of_folds:
            raise ValueError("a metric that is not reported")
        return found
    except DefinitionError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StudyError(
            f"study {name} in the database is damaged ({type(error).__name__}): restore it or use another database"
        ) from None
