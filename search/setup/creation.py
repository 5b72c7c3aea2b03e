"""Creates a study once, however many processes try at the same time: its row, its Optuna study and its ledger."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED
from pairsearch.search.ledger.configurations import Ledger
from pairsearch.search.ledger.studies import (
    StoredStudy,
    check_same,
    find_study,
    get_study,
    insert_study,
    layout_order,
    merge_choices,
    update_study,
)
from pairsearch.search.mirror.description import describe_study, note
from pairsearch.search.mirror.presence import mirrored
from pairsearch.search.mirror.restoring import restore
from pairsearch.search.mirror.storage import TrialStorage
from pairsearch.search.mirror.study import create_optuna_study, extend_choices, translated
from pairsearch.search.mirror.trials import open_storage
from pairsearch.studies.loading import Loaded, check_trainable


@dataclass(frozen=True, slots=True)
class Creation:
    """What `create_study` did."""

    study: StoredStudy
    created: bool
    """Whether the study is new."""
    inserted: int
    """Number of configurations added to the ledger."""
    restored: int = 0
    """Number of Optuna's trials restored after someone had deleted them."""


def create_study(database: Database, loaded: Loaded, storage: TrialStorage | None = None) -> Creation:
    """Create a study, or complete it: insert new points of its grid and restore what was deleted in Optuna's tables.

    A second call changes nothing. While a study has no results, the files of its problem may change.

    Args:
        storage: Optuna's storage in that database; None to open it for this call.

    Raises:
        StudyError: results of this definition, problem or data would not belong to the study in the database.
        DefinitionError: the definition cannot be trained with these data.
    """
    definition = loaded.definition
    known = find_study(database, definition.name)
    if known is not None:
        _check_same(database, known, loaded)
        if known.definition == definition and known.traits == loaded.traits and mirrored(database, known):
            return Creation(known, created=False, inserted=0)
    check_trainable(loaded)
    with database.creation_lock():
        return _create(database, loaded, storage)


def _check_same(database: Database, known: StoredStudy, loaded: Loaded) -> None:
    traits = loaded.traits
    if known.traits.files != traits.files and not Ledger(database, known.id).count(*COVERED):
        known = dataclasses.replace(known, traits=dataclasses.replace(known.traits, files=traits.files))
    check_same(known, loaded.definition, traits)


def _create(database: Database, loaded: Loaded, storage: TrialStorage | None) -> Creation:
    definition, traits = loaded.definition, loaded.traits
    opened = storage or open_storage(database)
    try:
        known = find_study(database, definition.name)
        # Optuna's study is written first, so its text is checked too.
        database.check_storable(note(definition, traits), definition.model_dump_json())
        if known is None:
            maximise = traits.metrics[definition.metric].maximise
            optuna_study_id = create_optuna_study(database, opened, definition.name, maximise=maximise)
            with translated(database):
                describe_study(opened, optuna_study_id, definition, traits)
            with database.write() as connection:
                study = insert_study(connection, definition, traits, optuna_study_id)
                added = Ledger(database, study.id).insert(connection, layout_order(definition))
            return Creation(study, created=True, inserted=added)
        _check_same(database, known, loaded)
        restored = 0
        if not mirrored(database, known):
            restored = restore(database, opened, known)
            known = get_study(database, definition.name)
        choices = merge_choices(known.choices, definition.grid.choices)
        # Optuna's study is described first: if this call is interrupted, the next one completes it.
        with translated(database):
            describe_study(opened, known.optuna_study_id, definition, traits)
        with database.write() as connection:
            extend_choices(connection, known, choices)
            update_study(connection, known, definition, traits, choices)
            added = Ledger(database, known.id).insert(connection, layout_order(definition))
        return Creation(get_study(database, definition.name), False, added, restored)
    finally:
        if storage is None:
            opened.engine.dispose()
