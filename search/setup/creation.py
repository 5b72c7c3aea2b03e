"""Creates a study: its row, its Optuna study and its ledger, once, however many processes ask."""

from __future__ import annotations

from dataclasses import dataclass

from pairsearch.data.sources import Source
from pairsearch.models.training import TRAINING_VERSION
from pairsearch.search.database.connection import Database
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
from pairsearch.studies.architecture import check
from pairsearch.studies.definition import Definition
from pairsearch.studies.jobs import round_pairs, search_folds


@dataclass(frozen=True, slots=True)
class Creation:
    """What creating a study did."""

    study: StoredStudy
    created: bool
    laid_out: int
    """Configurations added to the ledger; 0 where all were there."""
    restored: int = 0
    """Trials of Optuna's that somebody had deleted."""


def create_study(
    database: Database, definition: Definition, source: Source, storage: TrialStorage | None = None
) -> Creation:
    """Create a study, or add what its grid has gained since and what others deleted of Optuna's.

    Run again, it changes nothing more.

    Raises:
        StudyError: the database holds the study with other results-relevant settings, data or training version.
        DefinitionError, DataError: the definition cannot be trained, or not with these data.
    """
    identity = (source.name, source.fingerprint)
    known = find_study(database, definition.name)
    if known is not None:
        check_same(known, definition, identity, TRAINING_VERSION)
        if known.definition == definition and mirrored(database, known):
            return Creation(known, created=False, laid_out=0)
    check_trainable(definition, source)
    with database.creation_lock():
        return _create(database, definition, identity, storage)


def check_trainable(definition: Definition, source: Source) -> None:
    """Show all that can be wrong with a definition before anything is written.

    Raises:
        DefinitionError, DataError: it cannot be trained, or not with these data.
    """
    check(definition)
    search_folds(definition, source)
    round_pairs(definition, source, 0)


def _create(
    database: Database, definition: Definition, identity: tuple[str, str], storage: TrialStorage | None
) -> Creation:
    opened = storage or open_storage(database)
    try:
        known = find_study(database, definition.name)
        # Optuna's study is written before ours.
        database.check_storable(note(definition, identity), definition.model_dump_json())
        if known is None:
            optuna_study_id = create_optuna_study(database, opened, definition.name)
            with translated(database):
                describe_study(opened, optuna_study_id, definition, identity)
            with database.write() as connection:
                study = insert_study(connection, definition, optuna_study_id, identity, TRAINING_VERSION)
                added = Ledger(database, study.id).lay_out(connection, layout_order(definition))
            return Creation(study, created=True, laid_out=added)
        check_same(known, definition, identity, TRAINING_VERSION)
        restored = 0
        if not mirrored(database, known):
            restored = restore(database, opened, known)
            known = get_study(database, definition.name)
        choices = merge_choices(known.choices, definition.grid.choices)
        # First, so that a creation that is cut off here is completed by the next one.
        with translated(database):
            describe_study(opened, known.optuna_study_id, definition, identity)
        with database.write() as connection:
            extend_choices(connection, known, choices)
            update_study(connection, known, definition, choices)
            added = Ledger(database, known.id).lay_out(connection, layout_order(definition))
        return Creation(get_study(database, definition.name), False, added, restored)
    finally:
        if storage is None:
            opened.engine.dispose()
