"""Runs one worker process over several studies, one after the other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pairsearch.search.database.connection import Database
from pairsearch.search.database.retry import PATIENCE_SECONDS, patiently
from pairsearch.search.ledger.configurations import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.workers.proof import prove
from pairsearch.search.workers.tally import Tally, total
from pairsearch.studies.loading import Loaded


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of a worker.

    Args:
        limit: work on the first `limit` configurations of each study only.
        max_trials: stop after this many configurations.
        device: the device to train on, as PyTorch names it.
        lease_seconds: how long a claim lasts without renewal.
        patience: seconds for which the worker retries while the database is unavailable.
    """

    limit: int | None = None
    max_trials: int | None = None
    device: str = "cpu"
    lease_seconds: float = 60.0
    patience: float = PATIENCE_SECONDS


def work(
    database: Database,
    studies: deque[tuple[StoredStudy, Loaded]],
    options: WorkerOptions,
    stopping: threading.Event,
    say: Callable[[str], None],
) -> Tally:
    """Work on the studies in their order until nothing is left.

    Args:
        database: the database of the studies.
        studies: each study with its problem. They are removed one by one, so that the memory of a problem is freed.
        options: options of the worker.
        stopping: set from outside to hand the current configuration back and end.
        say: prints a line of progress.

    Returns:
        What the worker did in all studies together.

    Raises:
        WorkError: this process cannot train.
        DatabaseAwayError: the database did not answer for longer than `options.patience`.
    """
    from pairsearch.search.mirror.trials import open_storage  # noqa: PLC0415
    from pairsearch.search.workers.objective import CrossValidation  # noqa: PLC0415
    from pairsearch.search.workers.worker import Worker  # noqa: PLC0415

    storage = patiently(lambda: open_storage(database), options.patience, stopping)
    tallies: list[Tally] = []
    try:
        while studies:
            study, loaded = studies.popleft()
            if not stopping.is_set():
                prove(loaded, options.device)
            objective = CrossValidation(loaded, options.device)
            del loaded
            make = partial(
                Worker,
                database,
                storage,
                study,
                objective,
                stopping=stopping,
                ledger=Ledger(database, study.id, options.lease_seconds),
                limit=options.limit,
                patience=options.patience,
                say=say,
            )
            worker = patiently(make, options.patience, stopping)
            done = sum(tally.finished + tally.failed for tally in tallies)
            left = None if options.max_trials is None else options.max_trials - done
            if stopping.is_set() or left == 0:
                break
            tallies.append(worker.run(left))
    finally:
        storage.engine.dispose()
    return total(tallies)
