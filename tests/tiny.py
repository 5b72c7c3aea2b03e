"""Tiny studies that take milliseconds, outcomes that nobody computed, and objectives that answer at once."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.workers.objective import Progress
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition, parse
from pairsearch.studies.jobs import Hyperparameters

RAW: dict[str, Any] = {
    "name": "tiny",
    "architecture": "b1",
    "seed": 7,
    "epochs": 2,
    "folds": 2,
    "sample_size": 20,
    "validation_size": 5,
    "grid": {"batch_size": [10, 25], "learning_rate": [1e-4, 1e-3], "weight_decay": [0.0, 0.1]},
    "evaluation": {"rounds": 2, "train_pairs": 20, "test_pairs": 20, "epochs": 2},
}
"""A grid of eight points."""

PAPER = {
    "parameters": 48730,
    "train_error": 1.0,
    "train_std": 1.0,
    "test_error": 20.0,
    "test_std": 1.0,
    "batch_size": 25,
    "learning_rate": 1e-4,
    "weight_decay": 0.1,
}

Answer = Callable[[Configuration], Outcome]


def definition(**changes: object) -> Definition:
    """The tiny definition with some fields replaced."""
    return parse(RAW | changes, "tiny")


def write_toml(path: Path, **changes: object) -> Path:
    """The tiny definition as a file; a field changed to None is left out."""
    fields = {name: value for name, value in (RAW | changes).items() if value is not None}
    tables = {name: value for name, value in fields.items() if isinstance(value, Mapping)}
    # JSON's texts, numbers and lists are TOML's too.
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items() if name not in tables]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def point(
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    hidden_units: int | None = None,
    aux_loss_weight: float | None = None,
) -> Configuration:
    """A configuration of the paper's hyperparameters, without those that are None."""
    params = asdict(Hyperparameters(batch_size, learning_rate, weight_decay, hidden_units, aux_loss_weight))
    return Configuration({name: value for name, value in params.items() if value is not None})


def value_of(configuration: Configuration) -> float:
    """A value that no two configurations of the tiny grid share."""
    params = Hyperparameters.of(configuration)
    return params.batch_size / 100 + 10 * params.learning_rate + params.weight_decay


def outcome(configuration: Configuration, *, folds: int = 2, epochs: int = 2) -> Outcome:
    """A finished outcome whose last validation losses have `value_of` the configuration as their mean."""
    value = value_of(configuration)
    val_loss = value + np.arange(epochs)[::-1] + np.linspace(-0.01, 0.01, folds)[:, None]
    return Outcome(
        state=State.FINISHED,
        value=value,
        train_loss=val_loss / 3,
        val_loss=val_loss,
        val_error=val_loss / 7,
        diverged=(None,) * folds,
        seconds=0.25,
        provenance={"host": "here"},
    )


def diverged(configuration: Configuration) -> Outcome:
    """An outcome whose second fold diverged in the second epoch."""
    losses = np.array([[0.7, 0.6], [0.8, math.inf]])
    return Outcome(
        state=State.DIVERGED,
        value=None,
        train_loss=np.array([[0.7, 0.6], [0.8, math.nan]]),
        val_loss=losses,
        val_error=np.array([[0.5, 0.4], [0.5, math.nan]]),
        diverged=(None, 2),
        seconds=0.25,
        reason="fold 1 diverged in epoch 2: a loss became NaN or infinite",
        provenance={"host": "here"},
    )


class Answering:
    """An objective that answers at once and counts how often it was asked for each configuration."""

    def __init__(self, answer: Answer = outcome) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()

    def provenance(self) -> dict[str, str]:
        """Where the answers come from."""
        return {"host": "here"}

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        """The answer, cut off in the epoch in which `progress` says so."""
        self.asked[configuration.key] += 1
        full = self.answer(configuration)
        for epoch, mean in enumerate(full.val_loss.mean(axis=0), start=1):
            ended = progress(epoch, float(mean)) if progress is not None and math.isfinite(mean) else None
            if ended == State.PENDING:
                return None
            if ended is not None:
                return Outcome(
                    state=ended,
                    value=None,
                    train_loss=full.train_loss[:, :epoch],
                    val_loss=full.val_loss[:, :epoch],
                    val_error=full.val_error[:, :epoch],
                    diverged=full.diverged,
                    seconds=full.seconds,
                    reason=f"pruned after epoch {epoch}",
                    provenance=full.provenance,
                )
        return full


def rows(database: Database, table: str, columns: str = "*", rest: str = "") -> list[tuple[Any, ...]]:
    """Rows of one of our tables."""
    with database.read() as connection:
        found = connection.execute(text(f"select {columns} from pairsearch_{table} {rest}"))  # noqa: S608 - tests' own words
        return [tuple(row) for row in found]


def states(database: Database) -> Counter[str]:
    """How many configurations are in each state."""
    return Counter(state for (state,) in rows(database, "configurations", "state"))


def let_leases_run_out(database: Database) -> None:
    """What time does to a worker that fell silent."""
    with database.write() as connection:
        connection.execute(
            text("update pairsearch_configurations set lease_expires = 0 where state = 'running'")
        )
