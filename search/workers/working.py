"""Runs one worker process over several studies, one after the other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from pairsearch.search.common.errors import WorkError
from pairsearch.search.common.machine import Machine
from pairsearch.search.common.provenance import provenance
from pairsearch.search.database.connection import Database
from pairsearch.search.database.retry import patiently
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.tally import Tally, total
from pairsearch.studies.errors import first_line
from pairsearch.studies.loading import SHIPPED, Loaded


def warm(loaded: Sequence[Loaded], device: str) -> None:
    """Import and load in this process what workers that are forked from it need before their first claim.

    Of a user's problem nothing is called here: it may end the process.
    """
    from pairsearch.search.workers import worker  # noqa: F401, PLC0415

    # Which program and processor this is stays known.
    provenance("", device)
    for one in loaded:
        if one.definition.problem in SHIPPED:
            # Workers find out for themselves that it cannot train here, and say so.
            with suppress(WorkError):
                prove(one, device)


def prove(loaded: Loaded, device: str) -> None:
    """Let the problem test that it can train in this process; raises WorkError, which says why it cannot."""
    try:
        loaded.problem.prove(device)
    except Exception as error:
        raise WorkError(
            f"this machine cannot train study {loaded.definition.name} on {device} ({first_line(error)}): nothing was "
            "taken; `pairsearch doctor STUDY` checks what it needs"
        ) from None


def work(
    database: Database,
    studies: deque[tuple[StoredStudy, Loaded]],
    machine: Machine,
    stopping: threading.Event,
    say: Callable[[str], None],
    *,
    limit: int | None = None,
    max_trials: int | None = None,
) -> Tally:
    """Work on the studies in their order until nothing is left, and return what was done in all of them together.

    Args:
        studies: each study with its problem. They are removed one by one, so that the memory of a problem is freed.
        stopping: set from outside to hand the current configuration back and end.
        limit: work on the first `limit` configurations of each study only.
        max_trials: stop after this many configurations.

    Raises:
        WorkError: this process cannot train.
        DatabaseAwayError: the database did not answer for longer than `machine.patience`.
    """
    from pairsearch.search.workers.isolation import isolated  # noqa: PLC0415
    from pairsearch.search.workers.objective import CrossValidation  # noqa: PLC0415
    from pairsearch.search.workers.worker import Worker  # noqa: PLC0415

    tallies: list[Tally] = []
    while studies:
        study, loaded = studies.popleft()
        if not stopping.is_set():
            prove(loaded, machine.device)
        with isolated(loaded, database, stopping) as trained:
            opened = partial(open_ledger, database, study, machine.lease)
            worker = Worker(
                patiently(opened, machine.patience, stopping),
                CrossValidation(trained, machine.device),
                machine,
                stopping=stopping,
                limit=limit,
                say=say,
            )
            done = sum(tally.finished + tally.failed for tally in tallies)
            left = None if max_trials is None else max_trials - done
            if stopping.is_set() or left == 0:
                break
            tallies.append(worker.run(left))
    return total(tallies)
