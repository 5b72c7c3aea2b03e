"""The final evaluation: configurations through R rounds, each on fresh pairs, with fresh weights.

Round r of a study draws the same pairs, weights and order for every configuration. Finished rounds are kept:
a second call trains only those that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from torch import Tensor

from pairsearch.data.sources import Source
from pairsearch.models import fused
from pairsearch.models.training import EpochReport, TrainingHistory
from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.retry import PATIENCE_SECONDS, patiently
from pairsearch.search.database.tables import round_curves
from pairsearch.search.database.tables import rounds as round_rows
from pairsearch.search.ledger.outcome import finite
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.provenance import provenance
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition
from pairsearch.studies.jobs import round_job, round_pairs


@dataclass(frozen=True, slots=True)
class Request:
    """Rounds of one configuration that are to be trained together."""

    configuration: Configuration
    rounds: tuple[int, ...]


def missing_rounds(
    database: Database, study: StoredStudy, configuration: Configuration, rounds: int
) -> tuple[int, ...]:
    """The rounds below `rounds` that are not stored yet."""
    with database.read() as connection:
        done = set(
            connection.execute(
                select(round_rows.c.round).where(
                    round_rows.c.study_id == study.id, round_rows.c.key == configuration.key
                )
            ).scalars()
        )
    return tuple(index for index in range(rounds) if index not in done)


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """What training one round gave.

    Args:
        final: figures after the last epoch, by column of `search.database.tables.rounds`; None where it diverged.
        curves: a row of `search.database.tables.round_curves` for each epoch.
        diverged: the epoch in which it diverged, or None.
        seconds: its share of the time of the rounds trained together.
        parameters: the final state dict, CPU float32 tensors.
        provenance: what computed it.
    """

    index: int
    final: dict[str, float | None]
    curves: list[dict[str, float | None]]
    diverged: int | None
    seconds: float
    parameters: Mapping[str, Tensor]
    provenance: dict[str, str]


# Called with the finished rounds before they are stored.
Keep = Callable[[Sequence[TrainedRound]], None]


def evaluate(
    database: Database,
    study: StoredStudy,
    source: Source,
    request: Request,
    *,
    worker: str,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: Callable[[EpochReport], bool] | None = None,
    keep: Keep | None = None,
) -> int:
    """Train the requested rounds side by side and store them, each in full or not at all.

    Args:
        threads: rounds trained at a time on the CPU; the figures do not depend on it.
        keep: takes the trained models, for example into files; what it raises is raised once the figures are stored.

    Returns:
        How many rounds were stored; 0 where `on_epoch` stopped the training.
    """
    trained = train_rounds(
        study.definition, source, request, device=device, threads=threads, on_epoch=on_epoch
    )
    try:
        # Before the figures: whoever finds them stored finds the models too, unless the program was told otherwise.
        if keep is not None:
            keep(trained)
    finally:
        # What was trained is kept in hand while the database is away.
        stored = sum(
            patiently(
                partial(_store, database, study, request.configuration, finished, worker), PATIENCE_SECONDS
            )
            for finished in trained
        )
    return stored


def train_rounds(
    definition: Definition,
    source: Source,
    request: Request,
    *,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: Callable[[EpochReport], bool] | None = None,
) -> list[TrainedRound]:
    """Train the requested rounds side by side; none where `on_epoch` stopped the training."""
    pairs = {index: round_pairs(definition, source, index) for index in request.rounds}
    job = round_job(definition, request.configuration, pairs)
    history = fused.train(job, on_epoch=on_epoch, device=device, threads=threads)
    # A diverged round ends early, and is a result; the others run to the end unless they were stopped.
    if history.epochs_run < job.epochs and not all(history.diverged):
        return []
    origin = provenance(fused.choose_backend(job, device), device)
    return [_trained_round(history, place, index, origin) for place, index in enumerate(request.rounds)]


def _trained_round(history: TrainingHistory, place: int, index: int, origin: dict[str, str]) -> TrainedRound:
    train, test = history.evaluation["train"], history.evaluation["test"]
    diverged = history.diverged[place]
    last = history.epochs_run - 1 if diverged is None else diverged - 1
    figures = {
        "train_loss": train.loss[place],
        "train_error": train.error[place],
        "test_loss": test.loss[place],
        "test_error": test.error[place],
    }
    if diverged is not None:
        final: dict[str, float | None] = dict.fromkeys(figures)
    else:
        final = {name: finite(curve[last]) for name, curve in figures.items()}
    return TrainedRound(
        index=index,
        final=final,
        curves=[
            {name: finite(curve[epoch]) for name, curve in figures.items()}
            | {"epoch": epoch + 1, "running_loss": finite(history.train_loss[place, epoch])}
            for epoch in range(last + 1)
        ],
        diverged=diverged,
        seconds=history.seconds / len(history.diverged),
        parameters=history.parameters[place],
        provenance=origin,
    )


def _store(
    database: Database, study: StoredStudy, configuration: Configuration, trained: TrainedRound, worker: str
) -> int:
    row = trained.final | {
        "study_id": study.id,
        "key": configuration.key,
        "round": trained.index,
        "diverged_epoch": trained.diverged,
        "seconds": trained.seconds,
        "worker": worker,
        "finished_at": now(),
        "provenance": json.dumps(trained.provenance),
    }
    try:
        with database.write() as connection:
            round_id = connection.execute(
                insert(round_rows).values(**row).returning(round_rows.c.id)
            ).scalar_one()
            connection.execute(
                insert(round_curves), [curve | {"round_id": round_id} for curve in trained.curves]
            )
    except IntegrityError:
        return 0  # another evaluation of the same study finished this round first, with the same figures
    return 1
