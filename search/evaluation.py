"""The final evaluation: configurations through R rounds, each on fresh pairs, with fresh weights.

Round r of a study draws the same pairs, weights and order for every configuration. Finished rounds are kept:
a second call trains only those that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from data.folds import evaluation_sets
from data.pairs import PairSet
from data.sources import Source
from models import fused
from models.training import EpochReport, Member, TrainingHistory, TrainingJob
from search.catalogue import StoredStudy
from search.database import Database, now
from search.outcome import finite
from search.provenance import provenance
from search.tables import round_curves
from search.tables import rounds as round_rows
from studies.configuration import Configuration
from studies.definition import Definition
from studies.seeds import Stream, derive


@dataclass(frozen=True, slots=True)
class Request:
    """Rounds of one configuration that are to be trained together."""

    configuration: Configuration
    rounds: tuple[int, ...]


def round_pairs(definition: Definition, source: Source, index: int) -> tuple[PairSet, PairSet]:
    """The training and the test pairs of one round.

    Raises:
        DataError: the source has too few images.
    """
    evaluation = definition.evaluation
    return evaluation_sets(
        source,
        train_pairs=evaluation.train_pairs,
        test_pairs=evaluation.test_pairs,
        train_seed=derive(definition.seed, Stream.EVALUATION_TRAIN, index),
        test_seed=derive(definition.seed, Stream.EVALUATION_TEST, index),
        standardised=definition.standardise,
    )


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
) -> int:
    """Train the requested rounds side by side and store them, each in full or not at all.

    Args:
        threads: rounds trained at a time on the CPU; the figures do not depend on it.

    Returns:
        How many rounds were stored; 0 where `on_epoch` stopped the training.
    """
    definition, configuration = study.definition, request.configuration
    pairs = [round_pairs(definition, source, index) for index in request.rounds]
    seed = definition.seed
    job = TrainingJob(
        architecture=definition.architecture,
        hidden_units=configuration.hidden_units,
        batch_size=configuration.batch_size,
        epochs=definition.evaluation.epochs,
        optimiser=definition.optimiser,
        members=tuple(
            Member(
                train=train,
                evaluation={"train": train, "test": test},
                init_seed=derive(seed, Stream.EVALUATION_WEIGHTS, index),
                order_seed=derive(seed, Stream.EVALUATION_ORDER, index),
                learning_rate=configuration.learning_rate,
                weight_decay=configuration.weight_decay,
                aux_loss_weight=configuration.aux_loss_weight or 0.0,
            )
            for index, (train, test) in zip(request.rounds, pairs, strict=True)
        ),
    )
    history = fused.train(job, on_epoch=on_epoch, device=device, threads=threads)
    # A diverged round ends early, and is a result; the others run to the end unless they were stopped.
    if history.epochs_run < job.epochs and not all(history.diverged):
        return 0
    origin = provenance(fused.choose_backend(job, device), device)
    stored = 0
    for place, index in enumerate(request.rounds):
        stored += _store(database, study, configuration, index, history, place, worker, origin)
    return stored


def _store(
    database: Database,
    study: StoredStudy,
    configuration: Configuration,
    index: int,
    history: TrainingHistory,
    place: int,
    worker: str,
    origin: dict[str, str],
) -> int:
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
    row = final | {
        "study_id": study.id,
        "key": configuration.key,
        "round": index,
        "diverged_epoch": diverged,
        "seconds": history.seconds / len(history.diverged),
        "worker": worker,
        "finished_at": now(),
        "provenance": json.dumps(origin),
    }
    try:
        with database.write() as connection:
            round_id = connection.execute(
                insert(round_rows).values(**row).returning(round_rows.c.id)
            ).scalar_one()
            connection.execute(
                insert(round_curves),
                [
                    {name: finite(curve[epoch]) for name, curve in figures.items()}
                    | {
                        "round_id": round_id,
                        "epoch": epoch + 1,
                        "running_loss": finite(history.train_loss[place, epoch]),
                    }
                    for epoch in range(last + 1)
                ],
            )
    except IntegrityError:
        return 0  # another evaluation of the same study finished this round first, with the same figures
    return 1
