"""Databases for the tests of the report: figures that nobody computed, in the ledger's and the evaluation's tables."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sqlalchemy import insert, update

from pairsearch.data.sources import load
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, round_curves, rounds
from pairsearch.search.ledger.configurations import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.trials import open_storage
from pairsearch.search.setup.creation import create_study
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import parse
from pairsearch.studies.jobs import Hyperparameters

FOLDS, EPOCHS = 3, 4

RAW: dict[str, Any] = {
    "name": "pairs",
    "title": "Weight sharing with an auxiliary loss",
    "architecture": "wsal",
    "epochs": EPOCHS,
    "folds": FOLDS,
    "sample_size": 20,
    "validation_size": 5,
    "grid": {
        "batch_size": [10, 25],
        "learning_rate": [1e-4, 1e-3],
        "weight_decay": [0.0, 0.1],
        "hidden_units": [10, 50],
        "aux_loss_weight": [1.0, 5.0],
    },
    "evaluation": {"rounds": 3, "train_pairs": 20, "test_pairs": 20, "epochs": EPOCHS},
    "paper": {
        "parameters": 51604,
        "train_error": 0.0,
        "train_std": 0.0,
        "test_error": 6.06,
        "test_std": 1.28,
        "batch_size": 10,
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "hidden_units": 50,
        "aux_loss_weight": 5.0,
    },
}
"""A grid of 32 points with every hyperparameter; its best by `value_of` is not the paper's."""


def create(database: Database, **changes: object) -> StoredStudy:
    """The study above with some fields of its definition replaced, nothing trained."""
    storage = open_storage(database)
    try:
        return create_study(database, parse(RAW | changes, "pairs"), load("digits"), storage).study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def value_of(configuration: Configuration) -> float:
    """A validation loss that falls with the auxiliary weight and the hidden units, lowest at 1e-3."""
    params = Hyperparameters.of(configuration)
    return (
        0.5
        + 0.1 * abs(np.log10(params.learning_rate) + 3)
        + params.weight_decay
        + params.batch_size / 1000
        - 0.02 * (params.aux_loss_weight or 0)
        - (params.hidden_units or 0) / 1000
    )


def outcome(configuration: Configuration, host: str = "here") -> Outcome:
    """A finished outcome whose last validation losses have `value_of` the configuration as their mean."""
    value = float(value_of(configuration))
    val_loss = value + 0.1 * np.arange(EPOCHS)[::-1] + np.linspace(-0.01, 0.01, FOLDS)[:, None]
    return Outcome(
        state=State.FINISHED,
        value=value,
        train_loss=val_loss / 3,
        val_loss=val_loss,
        val_error=val_loss / 7,
        diverged=(None,) * FOLDS,
        seconds=0.25,
        provenance={"versions": "python 3.11", "git_commit": "0123456789ab", "host": host},
    )


def finish(database: Database, study: StoredStudy, count: int | None = None, host: str = "here") -> None:
    """Finish so many pending configurations in the order of claims, all without a count."""
    ledger = Ledger(database, study.id)
    while count is None or count > 0:
        claim = ledger.claim("worker")
        if claim is None:
            return
        assert ledger.finish(claim, outcome(claim.configuration, host))
        count = None if count is None else count - 1


def end(database: Database, study: StoredStudy, state: State, reason: str) -> str:
    """Give the next pending configuration a state and a reason instead of a result; its key."""
    claim = Ledger(database, study.id).claim("worker")
    assert claim is not None
    with database.write() as connection:
        connection.execute(
            update(configurations)
            .where(configurations.c.id == claim.row_id)
            .values(state=state, reason=reason, lease_expires=None)
        )
    return claim.configuration.key


def evaluate(
    database: Database, study: StoredStudy, configuration: Configuration, test_errors: list[float]
) -> None:
    """Store a finished round for each test error; the curves fall by 0.1 an epoch to the final errors."""
    with database.write() as connection:
        for index, error in enumerate(test_errors):
            round_id = connection.execute(
                insert(rounds)
                .values(
                    study_id=study.id,
                    key=configuration.key,
                    round=index,
                    train_loss=0.1,
                    train_error=error / 2,
                    test_loss=0.3,
                    test_error=error,
                    seconds=0.5,
                    worker="worker",
                    finished_at=1.0,
                    provenance=json.dumps({"host": "there"}),
                )
                .returning(rounds.c.id)
            ).scalar_one()
            connection.execute(
                insert(round_curves),
                [
                    {
                        "round_id": round_id,
                        "epoch": epoch,
                        "running_loss": 0.1,
                        "train_loss": 0.1,
                        "train_error": error / 2 + 0.1 * (EPOCHS - epoch),
                        "test_loss": 0.3,
                        "test_error": error + 0.1 * (EPOCHS - epoch),
                    }
                    for epoch in range(1, EPOCHS + 1)
                ],
            )
