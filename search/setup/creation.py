"""Creates a study once, however many processes try at the same time: its row, its Optuna study and its ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import (
    StoredStudy,
    check_same,
    find_study,
    merge_choices,
    put_study,
    seen_by,
)
from pairsearch.search.mirror.projecting import extend_choices, make_study
from pairsearch.search.mirror.tables import make_tables
from pairsearch.search.mirror.trials import complete
from pairsearch.search.results.progress import read_progress
from pairsearch.studies.configuration import Value
from pairsearch.studies.definition import Definition
from pairsearch.studies.loading import Loaded, check_trainable
from pairsearch.studies.note import note
from pairsearch.studies.problem import Traits
from pairsearch.studies.seeds import layout_order


@dataclass(frozen=True, slots=True)
class Creation:
    """What `create_study` did."""

    study: StoredStudy
    created: bool
    inserted: int
    """Number of configurations added to the ledger."""
    restored: int = 0
    """Number of Optuna's trials restored after someone had deleted them."""


def create_study(database: Database, loaded: Loaded) -> Creation:
    """Create a study, or complete it: insert new points of its grid and restore what was deleted in Optuna's tables.

    A second call changes nothing. While a study has no results, the files of its problem may change.
    """
    known, restored = find_study(database, loaded.definition.name), 0
    if known is not None:
        _check_same(database, known, loaded)
        restored = complete(database, known)
        if known.definition == loaded.definition and known.traits == loaded.traits:
            return Creation(known, False, 0, restored)
    check_trainable(loaded)
    with database.creation_lock():
        return _create(database, loaded, restored)


def _check_same(database: Database, known: StoredStudy, loaded: Loaded) -> None:
    traits = loaded.traits
    if known.traits.files != traits.files and not read_progress(database, known).covered:
        known = dataclasses.replace(known, traits=dataclasses.replace(known.traits, files=traits.files))
    check_same(known, loaded.definition, traits)


def _create(database: Database, loaded: Loaded, restored: int) -> Creation:
    definition, traits = loaded.definition, loaded.traits
    # Optuna's study gets the note, so its text is checked too.
    database.check_storable(note(definition, traits), definition.model_dump_json())
    shown = make_tables(database)
    known = find_study(database, definition.name)
    if known is not None:
        _check_same(database, known, loaded)
    with database.write() as connection:
        study = write_study(connection, known, definition, traits, definition.grid.choices, shown=shown)
        if shown:
            make_study(connection, study, new=known is None)
        added = Ledger(database, study).insert(connection, layout_order(definition))
        return Creation(seen_by(connection, study), known is None, added, restored)


def write_study(
    connection: Connection,
    known: StoredStudy | None,
    definition: Definition,
    traits: Traits,
    choices: Mapping[str, Sequence[Value]],
    *,
    shown: bool,
) -> StoredStudy:
    """Write the row of a study, with further values of its parameters where it is known, and `shown` to Optuna."""
    every = merge_choices({} if known is None else known.choices, choices)
    study = put_study(connection, known, definition, traits, every)
    if known is not None and shown:
        extend_choices(connection, known, every)
    return study
