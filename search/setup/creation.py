"""Creates a study: its row, its Optuna study and its ledger, once, however many processes ask."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

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
from pairsearch.studies.errors import DefinitionError, ProblemError
from pairsearch.studies.loading import Loaded, check_points
from pairsearch.studies.problem import Run


@dataclass(frozen=True, slots=True)
class Creation:
    """What creating a study did."""

    study: StoredStudy
    created: bool
    inserted: int
    """Configurations added to the ledger; 0 where all were there."""
    restored: int = 0
    """Trials of Optuna's that somebody had deleted."""


def create_study(database: Database, loaded: Loaded, storage: TrialStorage | None = None) -> Creation:
    """Create a study, or add what its grid has gained since and what others deleted of Optuna's.

    Run again, it changes nothing more. As long as a study has no results, its problem's files may change.

    Raises:
        StudyError: the database holds the study with other results-relevant settings, problem or data.
        DefinitionError: the definition cannot be trained, or not with these data.
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
    if known.traits.files != traits.files and not Ledger(database, known.id).has_results():
        known = dataclasses.replace(known, traits=dataclasses.replace(known.traits, files=traits.files))
    check_same(known, loaded.definition, traits)


def check_trainable(loaded: Loaded) -> None:
    """Show all that can be wrong with a definition before anything is written.

    Raises:
        DefinitionError: it cannot be trained, or not with these data.
    """
    definition, problem = loaded.definition, loaded.problem
    check_points(loaded)
    evaluation = definition.evaluation
    folds = [
        Run("fold", fold, definition.folds, definition.epochs, definition.seed)
        for fold in range(definition.folds)
    ]
    rounds = [Run("round", 0, evaluation.rounds, definition.evaluation_epochs, definition.seed)]
    try:
        for runs in (folds, rounds):
            problem.prepare(runs)
    except DefinitionError:
        raise
    except ValueError as error:
        raise ProblemError(f"study {definition.name}: {error}") from error


def _create(database: Database, loaded: Loaded, storage: TrialStorage | None) -> Creation:
    definition, traits = loaded.definition, loaded.traits
    opened = storage or open_storage(database)
    try:
        known = find_study(database, definition.name)
        # Optuna's study is written before ours.
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
        # First, so that a creation that is cut off here is completed by the next one.
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


def existing(database: Database, loaded: Loaded) -> StoredStudy:
    """The study as the database holds it.

    Raises:
        StudyError: it is not there, or differs from the definition, the problem or the data at hand.
    """
    study = get_study(database, loaded.definition.name)
    check_same(study, loaded.definition, loaded.traits)
    return study
