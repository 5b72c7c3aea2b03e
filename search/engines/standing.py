"""Counts and ends the workers that engines have of studies, whoever submitted them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pairsearch.search.common.errors import InputError
from pairsearch.search.common.machine import LEASE_SECONDS
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import JobState
from pairsearch.search.engines.contract import Count, Engine, EngineError, engine_named
from pairsearch.search.engines.fleet import LOOK_SECONDS, counted, workers
from pairsearch.search.ledger import submissions
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.submissions import Submission
from pairsearch.search.setup.opening import reconcile


def by_engine(database: Database, studies: Sequence[StoredStudy]) -> dict[tuple[str, str], list[Submission]]:
    """Return the submissions to studies, by engine and address."""
    found: dict[tuple[str, str], list[Submission]] = {}
    for one in submissions.submissions_to(database, studies):
        found.setdefault((one.engine, one.address), []).append(one)
    return found


def stop_all(
    database: Database, studies: Sequence[StoredStudy], say: Callable[[str], None], *, forget: bool = False
) -> None:
    """End the workers of studies that engines have, after the ledger told them to, and wait until leases are closed.

    Args:
        forget: whether workers that an engine does not end count as ended, since it is gone for good.

    Raises:
        EngineError: engines do not answer, and are not to be forgotten; their workers end by the ledger.
    """
    silent = []
    found = {key: left for key, every in by_engine(database, studies).items() if (left := _open(every))}
    for (name, address), mine in found.items():
        try:
            say(_stop(database, engine_named(name, address or None), mine))
        except (EngineError, InputError) as error:
            silent.append(f"{name} does not end its workers, the ledger does: {error}")
            if forget:
                submissions.close(database, mine)
                say(f"{name}: {workers(sum(one.workers for one in mine))} forgotten ({error})")
    end = time.monotonic() + 2 * LEASE_SECONDS
    while found and time.monotonic() < end:
        reconcile(database, studies)
        if not any(Ledger(database, study).jobs_left(JobState.RUNNING) for study in studies):
            break
        time.sleep(LOOK_SECONDS)
    if silent and not forget:
        raise EngineError(f"{'; '.join(silent)}; a cluster that is gone for good is forgotten by --forget")


def _stop(database: Database, engine: Engine, mine: Sequence[Submission]) -> str:
    """End workers, wait until they have ended, and return a line about it."""

    def alive() -> int:
        return sum(count.alive for count in counted(database, engine, mine).values())

    before = alive()
    engine.stop([one.native_id for one in mine])
    end = time.monotonic() + 2 * LEASE_SECONDS
    while (left := alive()) and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    if left:
        return f"{engine.name}: {left} of {before} workers have not ended"
    return f"{engine.name}: {workers(before)} ended"


@dataclass(frozen=True, slots=True)
class Standing:
    """The workers of studies on an engine.

    Args:
        ended: how many were submitted and are no more.
        error: why the engine does not answer; None if it does.
    """

    engine: str
    address: str
    pending: int = 0
    running: int = 0
    ended: int = 0
    error: str | None = None

    def __str__(self) -> str:
        where = f"{self.engine} at {self.address}" if self.address else self.engine
        if self.error is not None:
            return f"{where} does not answer: {self.error}"
        return f"{where}: {workers(self.pending)} pending, {self.running} running, {self.ended} ended"


def standings(database: Database, studies: Sequence[StoredStudy]) -> list[Standing]:
    """Ask every engine that had workers of the studies how many wait and run, and note those that have ended."""
    found = []
    for (name, address), every in by_engine(database, studies).items():
        mine, submitted = _open(every), sum(one.workers for one in every)
        counts: dict[Submission, Count] = {}
        try:
            if mine:
                counts = counted(database, engine_named(name, address or None), mine)
        except (EngineError, InputError) as error:
            found.append(Standing(name, address, error=str(error)))
            continue
        pending = sum(count.pending for count in counts.values())
        running = sum(count.running for count in counts.values())
        found.append(Standing(name, address, pending, running, max(0, submitted - pending - running)))
    return found


def _open(every: Sequence[Submission]) -> list[Submission]:
    return [one for one in every if not one.ended]
