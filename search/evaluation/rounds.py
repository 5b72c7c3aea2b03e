"""Trains the rounds of the final evaluation, each on new data with new initial weights, and stores them.

Round r of a study draws the same data, weights and order for every configuration. Finished rounds are kept, and a
second call trains only the missing ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from pairsearch.search.database.bulk import insert_many
from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.retry import patiently
from pairsearch.search.database.tables import curves, runs
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.rows import curve_rows, run_row
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.machine import ONE_CORE, Machine
from pairsearch.search.workers.objective import origin
from pairsearch.search.workers.recorder import Recorder, train
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.loading import Loaded
from pairsearch.studies.problem import Run, Weights

OnEpoch = Callable[[Recorder], bool]
"""Called after each epoch; it stops the training by returning False."""


@dataclass(frozen=True, slots=True)
class Request:
    """Rounds of one configuration to train.

    Args:
        indices: the rounds, from 0.
        count: the number of rounds in all, stored ones included.
    """

    configuration: Configuration
    indices: tuple[int, ...]
    count: int

    def runs(self, loaded: Loaded, machine: Machine) -> list[Run]:
        """Return the rounds as runs for the problem."""
        definition = loaded.definition
        epochs, seed = definition.evaluation_epochs, definition.seed
        return [
            Run("round", index, self.count, epochs, seed, machine.device, machine.threads)
            for index in self.indices
        ]


def missing_rounds(
    database: Database, study: StoredStudy, configuration: Configuration, rounds: int
) -> tuple[int, ...]:
    """List the rounds below `rounds` that are not stored yet."""
    mine = (runs.c.study_id == study.id, runs.c.key == configuration.key, runs.c.kind == "round")
    with database.read() as connection:
        done = set(connection.execute(select(runs.c.run).where(*mine)).scalars())
    return tuple(index for index in range(rounds) if index not in done)


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """One trained round.

    Args:
        seconds: its share of the time of the rounds trained together.
        weights: the weights of the trained model, None if there are none to keep.
        about: the problem's description of the weights (`studies.problem.Problem.card`).
        facts: facts about the configuration (`studies.problem.Problem.describe`).
        provenance: program and machine that trained it.
    """

    result: RunResult
    seconds: float
    weights: Weights | None
    about: Mapping[str, object]
    facts: Mapping[str, str]
    provenance: Mapping[str, str]

    @property
    def index(self) -> int:
        """The number of the round, from 0."""
        return self.result.index


Keep = Callable[[Sequence[TrainedRound]], None]
"""Called with finished rounds before they are stored."""


def evaluate(
    database: Database,
    study: StoredStudy,
    loaded: Loaded,
    request: Request,
    *,
    worker: str,
    machine: Machine = ONE_CORE,
    on_epoch: OnEpoch = lambda _: True,
    keep: Keep | None = None,
) -> int:
    """Train the requested rounds and store them, each completely or not at all.

    Args:
        worker: name of this process, for display.
        machine: how to train, and how long to try to store.
        on_epoch: called after each epoch; it stops the training by returning False.
        keep: writes the trained models; if it raises, the figures are stored before the exception is passed on.

    Returns:
        The number of rounds stored, fewer than requested if `on_epoch` stopped the training.

    Raises:
        DatabaseAwayError: the database did not answer for longer than `machine.patience`.
        Exception: whatever the problem or `keep` raises.
    """
    together = [request.indices] if loaded.traits.together else [(index,) for index in request.indices]
    stored = 0
    for indices in together:
        part = Request(request.configuration, indices, request.count)
        trained = train_rounds(loaded, part, machine=machine, on_epoch=on_epoch)
        if not trained:
            break
        try:
            # Models are written before figures, so that a stored round has its model.
            if keep is not None:
                keep(trained)
        finally:
            # Trained rounds must not be lost, so that storing them is retried while the database is unavailable.
            stored += sum(
                patiently(
                    partial(_store, database, study, request.configuration, finished, worker),
                    machine.patience,
                )
                for finished in trained
            )
    return stored


def train_rounds(
    loaded: Loaded,
    request: Request,
    *,
    machine: Machine = ONE_CORE,
    on_epoch: OnEpoch = lambda _: True,
) -> list[TrainedRound]:
    """Train the requested rounds without storing them. A round that diverged is a result too.

    Returns:
        The trained rounds; empty if `on_epoch` stopped the training.

    Raises:
        Exception: whatever the problem raises.
    """
    params, wanted = request.configuration.params, request.runs(loaded, machine)
    trained = train(loaded, params, wanted, on_epoch)
    if trained.stopped:
        return []
    facts, provenance = dict(loaded.restored().describe(dict(params))), origin(loaded, machine.device)
    return [
        TrainedRound(
            result=result,
            seconds=trained.seconds / len(wanted),
            weights=weights,
            about={} if weights is None else loaded.restored().card(dict(params), run),
            facts=facts,
            provenance=provenance,
        )
        for result, weights, run in zip(trained.runs, trained.weights, wanted, strict=True)
    ]


def _store(
    database: Database, study: StoredStudy, configuration: Configuration, trained: TrainedRound, worker: str
) -> int:
    row = run_row(study.id, configuration.key, "round", trained.result) | {
        "seconds": trained.seconds,
        "worker": worker,
        "finished_at": now(),
        "facts": json.dumps(dict(trained.facts)),
        "provenance": json.dumps(dict(trained.provenance)),
    }
    try:
        with database.write() as connection:
            run_id = connection.execute(insert(runs).values(**row).returning(runs.c.id)).scalar_one()
            insert_many(connection, curves, curve_rows(run_id, trained.result))
    except IntegrityError:
        return 0  # another evaluation of the same study finished this round first, with the same figures
    return 1
