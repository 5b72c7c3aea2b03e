"""Loads results that come from elsewhere into a database: all studies of a source in one transaction, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pairsearch.search.common.errors import InputError
from pairsearch.search.database.connection import Database, find_database, open_database
from pairsearch.search.database.states import COVERED
from pairsearch.search.ledger.incoming import Incoming, plan, store
from pairsearch.search.ledger.studies import find_study, get_study, seen_by
from pairsearch.search.mirror.projecting import add_by_optuna, project
from pairsearch.search.mirror.tables import make_tables
from pairsearch.search.results import foreign
from pairsearch.search.results.folder import SHIPPED, read_folder
from pairsearch.search.results.foreign import NOTHING, Told
from pairsearch.search.results.optuna_study import read_finished
from pairsearch.search.setup.creation import write_study


@dataclass(frozen=True, slots=True)
class LoadedStudy:
    """What `load` did with a study."""

    study: str
    """Name of the study."""
    created: bool
    """Whether the study is new in the database."""
    results: int
    """How many configurations got a result."""
    rounds: int
    """How many rounds of the final evaluation were added."""


def load(storage: str, source: Any, names: Sequence[str] = (), told: Told = NOTHING) -> list[LoadedStudy]:
    """Load a source into a database, which is created if it does not exist.

    Args:
        source: a folder of tables that `export` wrote, the name of one that comes with the package, a `.csv` or
            `.parquet` file, the URL of a database of Optuna's, or columns by name.
        names: the studies to load; all if there are none.
        told: what a source of another program does not say.
    """
    given = _read(source, names, told)
    database = find_database(storage) or Database(storage)
    database.check_folder(writable=True)
    try:
        return load_into(open_database(database, create=True), given)
    finally:
        database.close()


def _read(source: Any, names: Sequence[str], told: Told) -> list[Incoming]:
    if isinstance(source, str) and "://" in source:
        if len(names) > 1:
            raise InputError(f"expected one study of Optuna's, got {', '.join(names)}")
        metric = told.metric or foreign.SCORE
        name, minimise, judged = read_finished(source, names[0] if names else None, metric)
        of_study = replace(told, name=told.name or name, source=f"Optuna study {name}", minimise=minimise)
        return [foreign.incoming(judged, metric, of_study)]
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None and path.suffix not in foreign.TABLES:
        if told != NOTHING:
            raise InputError("--name, --metric, --minimise and --folds go with results of another program")
        shipped = SHIPPED.get(str(source))
        return read_folder(shipped or path, str(source) if shipped else path.name, names)
    if names:
        raise InputError(f"a table is one study, whose name --name gives: leave out {', '.join(names)}")
    cells = foreign.cells_of(source) if path is None else foreign.read_file(path)
    name = "cv_results" if path is None else path.stem
    label = "cv_results_" if path is None else path.name
    return [foreign.incoming_table(cells, replace(told, name=told.name or name, source=label))]


def load_into(database: Database, given: Sequence[Incoming]) -> list[LoadedStudy]:
    """Store studies in an opened database, and show them to Optuna; a second call changes nothing.

    Nothing is written either where a study there has another definition, problem or data, or other results (`plan`).
    """
    with database.creation_lock():
        shown = make_tables(database)
        known = [find_study(database, one.name) for one in given]
        for one in given:
            database.check_storable(one.definition.model_dump_json())
        with database.write() as connection:
            plans = [plan(connection, one, study) for one, study in zip(given, known, strict=True)]
            for one, made in zip(given, plans, strict=True):
                study = made.study
                if study is None or made.new:
                    study = write_study(
                        connection, study, made.definition, one.traits, one.choices, shown=shown
                    )
                store(connection, one, made, study)
                if shown:
                    project(connection, seen_by(connection, study))
        if not shown:
            for one in given:
                add_by_optuna(database, get_study(database, one.name))
    return [
        LoadedStudy(
            one.name,
            made.study is None,
            sum(one.configurations[key]["state"] in COVERED for key in (*made.new, *made.results)),
            made.rounds,
        )
        for one, made in zip(given, plans, strict=True)
    ]
