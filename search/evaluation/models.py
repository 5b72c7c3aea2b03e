"""Keeps the trained models of the final evaluation as files, and finds the rounds whose model is missing.

A file contains neither time nor host, so that training a round again gives the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairsearch.search.database.connection import Database
from pairsearch.search.errors import WorkError
from pairsearch.search.evaluation.rounds import OnEpoch, Request, TrainedRound, train_rounds
from pairsearch.search.files import made_folder, usable_folder, whole_file
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.machine import ONE_CORE, Machine
from pairsearch.search.results.evaluations import Round, rounds_within
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.loading import Loaded
from pairsearch.studies.model_card import ModelCard, as_bytes, read_card

# What the figures of a round may depend on beside the study. Where all of these agree, the figures do bit for bit.
ORIGIN = ("versions", "processor", "backend", "device")
LONGEST_NAME = 200


def file_name(study: StoredStudy, configuration: Configuration, index: int) -> str:
    """Return a unique file name for the model of a round, of letters, digits and `-_=.+` only."""
    key = configuration.key.replace(" ", "-")
    if not re.fullmatch(r"[\w=.+-]+", key, re.ASCII) or len(key) > LONGEST_NAME:
        key = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{study.name}-{key}-round={index}.safetensors"


class ModelFolder:
    """A folder of models, which is created with the first model.

    Raises:
        InputError: the folder is not writable or cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = usable_folder(path)
        # A problem may change the working directory.
        self._folder = path.absolute()

    def file(self, study: StoredStudy, configuration: Configuration, index: int) -> Path:
        """Return the path of the model of a round, which need not exist."""
        return self._folder / file_name(study, configuration, index)

    def holds(self, study: StoredStudy, configuration: Configuration, index: int) -> bool:
        """Whether the folder has the model of a round: a complete file from this study, definition and data."""
        try:
            card = read_card(self.file(study, configuration, index))
        except ProblemError:
            return False
        like = card.model_dump() | _identity(study, configuration, index)
        return card == ModelCard.model_validate(like)

    def keep(self, study: StoredStudy, configuration: Configuration, trained: Sequence[TrainedRound]) -> int:
        """Write the models of the rounds that did not diverge and returned weights; existing files are replaced.

        Returns:
            The number of files written.

        Raises:
            InputError: the folder cannot be created or is not writable.
            WorkError: writing failed.
            ProblemError: weights cannot be stored.
        """
        written = 0
        for finished in trained:
            if finished.result.diverged is None and finished.weights is not None:
                card = _card(study, configuration, finished)
                content = as_bytes(finished.weights, card)
                made_folder(self._folder)
                with whole_file(self.file(study, configuration, finished.index)) as file:
                    file.write(content)
                written += 1
        return written


def _identity(study: StoredStudy, configuration: Configuration, index: int) -> dict[str, Any]:
    definition = study.definition
    return {
        "study": study.name,
        "round": index,
        "problem": definition.problem,
        "settings": definition.settings,
        "params": dict(configuration.params),
        "epochs": definition.evaluation_epochs,
        "seed": definition.seed,
        "version": study.traits.version,
        "data": study.traits.fingerprint,
        "files": dict(study.traits.files),
    }


def _card(study: StoredStudy, configuration: Configuration, trained: TrainedRound) -> ModelCard:
    kept = (*ORIGIN, "git_commit")
    return ModelCard.model_validate(
        _identity(study, configuration, trained.index)
        | {
            "figures": trained.result.final,
            "about": dict(trained.about),
            "provenance": {name: trained.provenance[name] for name in kept},
        }
    )


def stored_rounds(
    database: Database, study: StoredStudy, configuration: Configuration
) -> Mapping[int, Round]:
    """Read the finished rounds of a configuration, by index."""
    with database.read() as connection:
        return {entry.index: entry for entry in rounds_within(connection, study, configuration.key)}


def rounds_without_model(
    database: Database, study: StoredStudy, configuration: Configuration, rounds: int, folder: ModelFolder
) -> tuple[int, ...]:
    """List the stored rounds below `rounds` whose model is not in the folder, without those that diverged."""
    stored = stored_rounds(database, study, configuration)
    return tuple(
        index
        for index in stored
        if index < rounds and stored[index].diverged is None and not folder.holds(study, configuration, index)
    )


def train_again(
    database: Database,
    study: StoredStudy,
    loaded: Loaded,
    request: Request,
    folder: ModelFolder,
    *,
    machine: Machine = ONE_CORE,
    on_epoch: OnEpoch = lambda _: True,
) -> int | None:
    """Train stored rounds again for their models, and compare the figures; the database is not changed.

    Args:
        folder: where to write the models.
        on_epoch: called after each epoch; it stops the training by returning False.

    Returns:
        The number of rounds whose figures differ from the stored ones because processor, device or versions differ;
        their files contain the new figures. None if `on_epoch` stopped the training.

    Raises:
        WorkError: figures differ although processor, device and versions are the same; no file is written.
    """
    trained = train_rounds(loaded, request, machine=machine, on_epoch=on_epoch)
    if not trained:
        return None
    stored = stored_rounds(database, study, request.configuration)
    others = [finished for finished in trained if finished.result.final != stored[finished.index].figures]
    for finished in others:
        before = stored[finished.index]
        if all(before.provenance.get(name) == finished.provenance[name] for name in ORIGIN):
            raise WorkError(
                f"study {study.name}, round {finished.index} of {request.configuration.key}: trained again it gave "
                f"{finished.result.final}, stored is {before.figures}, from the same processor and versions: this "
                "should not happen; no model was written"
            )
    folder.keep(study, request.configuration, trained)
    return len(others)
