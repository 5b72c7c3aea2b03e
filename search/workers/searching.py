"""Searches studies with worker processes on this machine, and watches their progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pairsearch.search import machine
from pairsearch.search.database.connection import Database
from pairsearch.search.errors import DatabaseAwayError, WorkError
from pairsearch.search.ledger.configurations import Ledger
from pairsearch.search.ledger.studies import StoredStudy, StudyArgument
from pairsearch.search.results.progress import Progress, read_progress
from pairsearch.search.setup.opening import reconcile
from pairsearch.search.workers.pool import Pool

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class WorkerArguments:
    """The arguments of every worker process; iterating gives them as words of its command line.

    Args:
        given: the STUDY arguments, at least one.
        options: settings of this machine for the problems.
        limit: work on the first `limit` configurations of each study only.
        device: the device to train on, as PyTorch names it.
        lease: seconds without a heartbeat after which a worker's configuration is free again.
    """

    given: Sequence[StudyArgument]
    options: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    device: str = "cpu"
    lease: float = 60.0

    def __iter__(self) -> Iterator[str]:
        """Yield the words that follow `pairsearch worker`."""
        yield from (
            *(study.text for study in self.given),
            "--device",
            self.device,
            "--lease",
            str(self.lease),
            "--quiet",
        )
        for name, value in self.options.items():
            yield from ("--set", f"{name}={value}")
        if self.limit is not None:
            yield from ("--limit", str(self.limit))


def search(
    database: Database,
    studies: Sequence[StoredStudy],
    arguments: WorkerArguments,
    workers: int | None = None,
    *,
    on_progress: Callable[[Sequence[Progress], bool], None] = lambda *_: None,
    complain: Callable[[str], None] = lambda _: None,
) -> list[Progress]:
    """Run worker processes over the studies until they end.

    On KeyboardInterrupt the workers hand their configurations back, and their leases and trials are closed.

    Args:
        database: the database of the studies.
        studies: the studies.
        arguments: the arguments of each worker.
        workers: the number of workers; None for one per core that this process may use on the CPU, for one worker on
            another device.
        on_progress: called twice a second with the progress of each study, and with whether this is the last call.
        complain: called with a line if memory may not suffice, and for each worker that ended with an error.

    Returns:
        The final progress of each study.

    Raises:
        WorkError: configurations failed, or are left although no worker is.
    """

    def look() -> list[Progress]:
        return [read_progress(database, study, arguments.limit) for study in studies]

    count = workers or usual_workers(arguments.device)
    latest = look()
    if any(progress.open for progress in latest):
        if (note := too_many(count, machine.available_memory())) is not None:
            complain(note)
        url = database.url.render_as_string(hide_password=False)
        try:
            with Pool(list(arguments), count, url, arguments.given[0].here) as pool:
                on_progress(latest, False)
                while pool.alive():
                    time.sleep(POLL_SECONDS)
                    try:
                        latest = look()
                    except DatabaseAwayError:
                        continue  # the workers retry as well, and give up after their patience
                    on_progress(latest, False)
                latest = look()
                on_progress(latest, True)
                complaints = pool.complaints()
        finally:
            reconcile(database, studies)
        for study in studies:
            # One full traceback for each study; those of other failures are mostly the same.
            if (raised := Ledger(database, study.id).first_traceback()) is not None:
                key, traceback = raised
                for line in (f"{study.name}: {key} raised an exception:", *traceback.splitlines()):
                    complain(line)
        for complaint in complaints:
            complain(complaint)
        latest = look()
    left = [f"{progress.study} {progress.open}" for progress in latest if progress.open]
    if left:
        raise WorkError(f"workers ended with configurations left ({', '.join(left)}): run it again to go on")
    failed = [(progress.study, *failure) for progress in latest for failure in progress.failures.items()]
    if failed:
        study_name, key, reason = failed[0]
        many = f"{len(failed)} configuration{'' if len(failed) == 1 else 's'}"
        raise WorkError(f"{many} failed, for example {key} of study {study_name}: {reason}")
    return latest


def usual_workers(device: str) -> int:
    """Return the default number of workers on a device."""
    # A GPU's memory is shared by all workers on it.
    return machine.cores() if device == "cpu" else 1


def too_many(workers: int, available: int | None) -> str | None:
    """Return a warning if this machine's memory may not suffice for so many workers, else None.

    Args:
        workers: the number of workers.
        available: bytes of memory that they can use; None if that is not known.
    """
    if available is None or workers * machine.WORKER_BYTES <= available:
        return None
    room = max(1, available // machine.WORKER_BYTES)
    return (
        f"note: memory may not hold {workers} workers: {available / 2**30:.1f} GiB are free and each takes some "
        f"{machine.WORKER_BYTES / 2**30:.1f} GiB: --workers {room} would fit"
    )
