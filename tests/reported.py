"""Databases for the tests of the report: figures that nobody computed, in the ledger's and the evaluation's tables."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tiny
from sqlalchemy import update

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import JobState, State
from pairsearch.search.database.tables import configurations, jobs
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome, RunResult
from pairsearch.search.ledger.rows import provenance_id, write_runs
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.report.content import Document, Figure, Table
from pairsearch.search.report.reading import Reading, read_all
from pairsearch.search.setup.creation import create_study
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import parse

FOLDS, EPOCHS = 3, 4
OF_ROUNDS = (
    "n",
    "training error, %",
    "test error, %",
    "95 % interval, test error, %",
    "paper: training error, %",
    "paper: test error, %",
)
"""The columns of Table 1 that say what rounds have found."""

RAW: dict[str, Any] = {
    "name": "pairs",
    "title": "Weight sharing with an auxiliary loss",
    "problem": "pairs",
    "metric": "val_loss",
    "epochs": EPOCHS,
    "folds": FOLDS,
    "settings": {
        "architecture": "wsal",
        "sample_size": 20,
        "validation_size": 5,
        "train_pairs": 20,
        "test_pairs": 20,
    },
    "grid": {
        "batch_size": [10, 25],
        "learning_rate": [1e-4, 1e-3],
        "weight_decay": [0.0, 0.1],
        "hidden_units": [10, 50],
        "aux_loss_weight": [1.0, 5.0],
    },
    "evaluation": {"rounds": 3, "epochs": EPOCHS},
    "paper": {
        "params": {
            "batch_size": 10,
            "learning_rate": 1e-4,
            "weight_decay": 0.0,
            "hidden_units": 50,
            "aux_loss_weight": 5.0,
        },
        "facts": {"parameters": "51,604"},
        "figures": {
            "train_error": {"mean": 0.0, "std": 0.0},
            "test_error": {"mean": 0.0606, "std": 0.0128},
        },
    },
}
"""A grid of 32 points with every hyperparameter; its best by `value_of` is not the paper's."""


def create(database: Database, **changes: object) -> StoredStudy:
    """The study above with some fields of its definition replaced, nothing trained."""
    return create_study(database, tiny.loaded(parse(tiny.raw(RAW, **changes), "pairs"))).study


def read(database: Database, study: StoredStudy) -> Reading:
    """A study as a report reads it."""
    (reading,) = read_all(database, [study])
    return reading


def value_of(configuration: Configuration) -> float:
    """A validation loss that falls with the auxiliary weight and the hidden units, lowest at 1e-3."""
    params = configuration.params
    return (
        0.5
        + 0.1 * abs(np.log10(params["learning_rate"]) + 3)
        + params["weight_decay"]
        + params["batch_size"] / 1000
        - 0.02 * params.get("aux_loss_weight", 0)
        - params.get("hidden_units", 0) / 1000
    )


def outcome(configuration: Configuration, host: str = "here") -> Outcome:
    """A finished outcome whose last validation losses have `value_of` the configuration as their mean."""
    value = float(value_of(configuration))
    val_loss = value + 0.1 * np.arange(EPOCHS)[::-1] + np.linspace(-0.01, 0.01, FOLDS)[:, None]
    return tiny.outcome_of(
        (val_loss / 3).tolist(),
        val_loss.tolist(),
        (val_loss / 7).tolist(),
        value=value,
        provenance={"versions": "python 3.11", "git_commit": "0123456789ab", "host": host},
    )


def finish(database: Database, study: StoredStudy, count: int | None = None, host: str = "here") -> None:
    """Finish so many pending configurations in the order of claims, all without a count."""
    ledger = Ledger(database, study)
    while count is None or count > 0:
        claim = ledger.claim("worker")
        if claim is None:
            return
        assert tiny.finish(ledger, claim, outcome(claim.configuration, host))
        count = None if count is None else count - 1


def end(database: Database, study: StoredStudy, state: State, reason: str, key: str | None = None) -> str:
    """Give a pending configuration, the next unless a key is given, a state and a reason without folds; its key."""
    claim = Ledger(database, study).claim("worker", key=key)
    assert claim is not None
    with database.write() as connection:
        of = {"seconds": 0.0, "provenance_id": provenance_id(connection, {"host": "here"})}
        connection.execute(
            update(configurations)
            .where(configurations.c.key == claim.configuration.key, configurations.c.study_id == study.id)
            .values(state=state, reason=reason, **({} if state == State.FAILED else of))
        )
        connection.execute(update(jobs).where(jobs.c.id == claim.job_id).values(state=JobState.DROPPED))
    return claim.configuration.key


def evaluate(
    database: Database, study: StoredStudy, configuration: Configuration, test_errors: list[float]
) -> None:
    """Store a finished round for each test error; the curves fall by 0.1 an epoch to the final errors."""
    for index, error in enumerate(test_errors):
        above = [0.1 * (EPOCHS - epoch) for epoch in range(1, EPOCHS + 1)]
        falling = {
            "train_error": [error / 2 + more for more in above],
            "test_error": [error + more for more in above],
        }
        flat = {"running_loss": 0.1, "train_loss": 0.1, "test_loss": 0.3}
        store_round(
            database,
            study,
            configuration,
            RunResult(index, {name: [value] * EPOCHS for name, value in flat.items()} | falling),
            {"parameters": "50,454"},
        )


def store_round(
    database: Database,
    study: StoredStudy,
    configuration: Configuration,
    result: RunResult,
    facts: dict[str, str],
) -> None:
    """Store a finished round with what the problem says of its configuration."""
    about = {
        "study_id": study.id,
        "seconds": 0.5,
        "worker": "worker",
        "facts": json.dumps(facts),
    }
    with database.write() as connection:
        about["provenance_id"] = provenance_id(connection, {"host": "there"})
        write_runs(connection, configuration.key, "round", [result], about)


def figure(report: Document, name: str) -> Figure:
    """The report's figure of a name."""
    (found,) = [figure for figure in report.figures if figure.name == name]
    return found


def table(report: Document, start: str) -> Table:
    """The report's table whose caption begins so."""
    blocks = [block for part in report.parts for section in part.sections for block in section.blocks]
    (found,) = [block for block in blocks if isinstance(block, Table) and block.caption.startswith(start)]
    return found
