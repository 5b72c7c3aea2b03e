"""The final evaluation: configurations through R rounds, each on fresh data with fresh weights.

Round r of a study draws the same data, weights and order for every configuration. Finished rounds are kept: a second
call trains only those that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database, insert_many
from pairsearch.search.database.retry import PATIENCE_SECONDS, patiently
from pairsearch.search.database.tables import curves, runs
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.rows import curve_rows, run_row
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.workers.objective import origin
from pairsearch.search.workers.training import Recorder, train
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.loading import Loaded
from pairsearch.studies.problem import Run, Weights

OnEpoch = Callable[[Recorder], bool]
"""Told of each epoch; False stops the training."""


@dataclass(frozen=True, slots=True)
class Request:
    """Rounds of one configuration that are to be trained.

    Args:
        indices: which, from 0.
        count: how many rounds there are to be in all.
    """

    configuration: Configuration
    indices: tuple[int, ...]
    count: int

    def runs(self, loaded: Loaded, device: str = "cpu", threads: int = 1) -> list[Run]:
        """As the problem gets them."""
        definition = loaded.definition
        epochs, seed = definition.evaluation_epochs, definition.seed
        return [Run("round", index, self.count, epochs, seed, device, threads) for index in self.indices]


def missing_rounds(
    database: Database, study: StoredStudy, configuration: Configuration, rounds: int
) -> tuple[int, ...]:
    """The rounds below `rounds` that are not stored yet."""
    mine = (runs.c.study_id == study.id, runs.c.key == configuration.key, runs.c.kind == "round")
    with database.read() as connection:
        done = set(connection.execute(select(runs.c.run).where(*mine)).scalars())
    return tuple(index for index in range(rounds) if index not in done)


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """What training one round gave.

    Args:
        result: its curves.
        seconds: its share of the time of the rounds trained together.
        weights: of the trained model, None where there are none to keep.
        about: what the problem says of them (`studies.problem.Problem.card`).
        facts: about the configuration.
        provenance: what computed it.
    """

    result: RunResult
    seconds: float
    weights: Weights | None
    about: Mapping[str, object]
    facts: Mapping[str, str]
    provenance: Mapping[str, str]

    @property
    def index(self) -> int:
        """From 0."""
        return self.result.index


# Called with the finished rounds before they are stored.
Keep = Callable[[Sequence[TrainedRound]], None]


def evaluate(
    database: Database,
    study: StoredStudy,
    loaded: Loaded,
    request: Request,
    *,
    worker: str,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: OnEpoch = lambda _: True,
    keep: Keep | None = None,
) -> int:
    """Train the requested rounds and store them, each in full or not at all.

    Args:
        threads: that the problem may use; the figures do not depend on it.
        keep: takes the trained models, for example into files; what it raises is raised once the figures are stored.

    Returns:
        How many rounds were stored; fewer than asked for where `on_epoch` stopped the training.
    """
    together = [request.indices] if loaded.traits.together else [(index,) for index in request.indices]
    stored = 0
    for indices in together:
        part = Request(request.configuration, indices, request.count)
        trained = train_rounds(loaded, part, device=device, threads=threads, on_epoch=on_epoch)
        if not trained:
            break
        try:
            # Before the figures: whoever finds them stored finds the models too, unless the program was told otherwise.
            if keep is not None:
                keep(trained)
        finally:
            # What was trained is kept in hand while the database is away.
            stored += sum(
                patiently(
                    partial(_store, database, study, request.configuration, finished, worker),
                    PATIENCE_SECONDS,
                )
                for finished in trained
            )
    return stored


def train_rounds(
    loaded: Loaded,
    request: Request,
    *,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: OnEpoch = lambda _: True,
) -> list[TrainedRound]:
    """Train the requested rounds; none where `on_epoch` stopped the training. A round that diverged is a result.

    Raises:
        Exception: what the problem raises.
    """
    params, wanted = request.configuration.params, request.runs(loaded, device, threads)
    trained = train(loaded, params, wanted, on_epoch)
    if trained.stopped:
        return []
    facts, provenance = dict(loaded.problem.describe(params)), origin(loaded, device)
    return [
        TrainedRound(
            result=result,
            seconds=trained.seconds / len(wanted),
            weights=weights,
            about={} if weights is None else loaded.problem.card(params, run),
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
