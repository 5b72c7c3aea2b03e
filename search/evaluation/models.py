"""Keeps the trained models of the final evaluation as files: which round has which, and those that are missing.

A file holds no time and no host, so that a round trained again gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from pairsearch.data.pairs import scale_of
from pairsearch.data.sources import Source
from pairsearch.models.training import EpochReport
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import rounds as round_rows
from pairsearch.search.errors import InputError, WorkError
from pairsearch.search.evaluation.model_file import (
    Data,
    Hyperparameters,
    ModelCard,
    Standardisation,
    read_card,
    write_model,
)
from pairsearch.search.evaluation.rounds import Request, TrainedRound, train_rounds
from pairsearch.search.files import made_folder, usable_folder
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.jobs import round_pairs

# What a round's figures may depend on beside the study: equal here, they are equal to the last bit.
ORIGIN = ("versions", "processor", "backend", "device")
FIGURES = ("train_loss", "train_error", "test_loss", "test_error")


def file_name(study: StoredStudy, configuration: Configuration, index: int) -> str:
    """A name that no other round of the study has: letters, digits and `-_=.+`, no separator of any system."""
    return f"{study.name}-{configuration.key.replace(' ', '-')}-round={index}.safetensors"


class ModelFolder:
    """A folder of models; it is made when the first one comes.

    Raises:
        InputError: on construction, where it cannot be written to or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = usable_folder(path)

    def file(self, study: StoredStudy, configuration: Configuration, index: int) -> Path:
        """Where the model of a round is, or would be."""
        return self.path / file_name(study, configuration, index)

    def holds(self, study: StoredStudy, configuration: Configuration, index: int) -> bool:
        """Whether the model of a round is here: the file is whole, and of this study, definition and data."""
        try:
            card = read_card(self.file(study, configuration, index))
        except InputError:
            return False
        like = ModelCard.model_validate(card.model_dump() | _identity(study, configuration, index))
        return card == like and (card.standardisation is not None) == study.definition.standardise

    def keep(
        self,
        study: StoredStudy,
        source: Source,
        configuration: Configuration,
        trained: Sequence[TrainedRound],
    ) -> None:
        """Write the models of rounds that did not diverge; a file that was there is replaced.

        Raises:
            InputError, WorkError: a file cannot be written.
        """
        made_folder(self.path)
        for finished in trained:
            if finished.diverged is None:
                card = _card(study, source, configuration, finished)
                write_model(self.file(study, configuration, finished.index), finished.parameters, card)


def _identity(study: StoredStudy, configuration: Configuration, index: int) -> dict[str, object]:
    definition = study.definition
    return {
        "study": study.name,
        "round": index,
        "architecture": definition.architecture,
        "hyperparameters": Hyperparameters.model_validate(configuration.params),
        "optimiser": definition.optimiser,
        "epochs": definition.evaluation.epochs,
        "train_pairs": definition.evaluation.train_pairs,
        "test_pairs": definition.evaluation.test_pairs,
        "seed": definition.seed,
        "training_version": study.training_version,
        "data": Data(name=study.source_name, fingerprint=study.source_fingerprint),
    }


def _card(
    study: StoredStudy, source: Source, configuration: Configuration, trained: TrainedRound
) -> ModelCard:
    standardisation = None
    if study.definition.standardise:
        raw = study.definition.model_copy(update={"standardise": False})
        scale = scale_of(round_pairs(raw, source, trained.index)[0])
        standardisation = Standardisation(mean=scale.mean, deviation=scale.deviation)
    kept = (*ORIGIN, "git_commit")
    return ModelCard.model_validate(
        _identity(study, configuration, trained.index)
        | trained.final
        | {
            "standardisation": standardisation,
            "provenance": {name: trained.provenance[name] for name in kept},
        }
    )


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A round as the database has it."""

    final: dict[str, float | None]
    diverged: bool
    origin: dict[str, str]


def stored_rounds(
    database: Database, study: StoredStudy, configuration: Configuration
) -> dict[int, StoredRound]:
    """The finished rounds of a configuration."""
    columns = round_rows.c
    with database.read() as connection:
        rows = connection.execute(
            select(round_rows).where(columns.study_id == study.id, columns.key == configuration.key)
        ).all()
    return {
        row.round: StoredRound(
            {name: getattr(row, name) for name in FIGURES},
            row.diverged_epoch is not None,
            {name: json.loads(row.provenance).get(name, "") for name in ORIGIN},
        )
        for row in rows
    }


def rounds_without_model(
    database: Database, study: StoredStudy, configuration: Configuration, rounds: int, folder: ModelFolder
) -> tuple[int, ...]:
    """The stored rounds below `rounds` whose model is not in the folder; one that diverged has none to keep."""
    stored = stored_rounds(database, study, configuration)
    return tuple(
        index
        for index in sorted(stored)
        if index < rounds and not stored[index].diverged and not folder.holds(study, configuration, index)
    )


def train_again(
    database: Database,
    study: StoredStudy,
    source: Source,
    request: Request,
    folder: ModelFolder,
    *,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: Callable[[EpochReport], bool] | None = None,
) -> int | None:
    """Train stored rounds again for their models, and hold the figures against the stored ones; nothing is stored.

    Returns:
        How many models have other figures than the database, which only another processor, device or version makes;
        their files hold their own. None where `on_epoch` stopped the training.

    Raises:
        WorkError: other figures on the same processor with the same versions; no file is written then.
    """
    trained = train_rounds(
        study.definition, source, request, device=device, threads=threads, on_epoch=on_epoch
    )
    if not trained:
        return None
    stored = stored_rounds(database, study, request.configuration)
    others = [finished for finished in trained if finished.final != stored[finished.index].final]
    for finished in others:
        before = stored[finished.index]
        if before.origin == {name: finished.provenance[name] for name in ORIGIN}:
            raise WorkError(
                f"study {study.name}, round {finished.index} of {request.configuration.key}: trained again it gave "
                f"{finished.final}, stored is {before.final}, from the same processor and versions: this should "
                "not happen; no model was written"
            )
    folder.keep(study, source, request.configuration, trained)
    return len(others)
