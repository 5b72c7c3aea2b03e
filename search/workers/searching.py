"""Searches studies with worker processes on this machine, and watches their progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pairsearch.search.common.errors import DatabaseAwayError, WorkError
from pairsearch.search.common.machine import Machine, available_memory, cores
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.progress import Progress, read_progress
from pairsearch.search.setup.arguments import StudyArgument
from pairsearch.search.setup.opening import check_device, reconcile
from pairsearch.search.workers.forking import Zygote
from pairsearch.search.workers.pool import Pool, Watch, worker_words

POLL_SECONDS = 0.5


def search(
    database: Database,
    studies: Sequence[StoredStudy],
    given: Sequence[StudyArgument],
    machine: Machine,
    workers: int | None = None,
    *,
    limit: int | None = None,
    on_progress: Callable[[Sequence[Progress], bool], None] = lambda *_: None,
    complain: Callable[[str], None] = lambda _: None,
    zygote: Zygote | None = None,
) -> list[Progress]:
    """Run worker processes over the studies until they end, and return the final progress of each study.

    On KeyboardInterrupt the workers hand their configurations back, and their leases and trials are closed.

    Args:
        workers: how many; None for `usual_workers`.
        limit: work on the first `limit` configurations of each study only.
        on_progress: called twice a second with the progress of each study, and with whether this is the last call.
        complain: called with a line if memory may not suffice, and for each worker that died or ended with an error.
        zygote: what workers are forked from where it can be; None to start each as a process of its own.

    Raises:
        InputError: PyTorch cannot compute on the device.
        WorkError: configurations failed, or are left although no worker is.
    """

    check_device(machine.device)

    def look() -> list[Progress]:
        return [read_progress(database, study, limit) for study in studies]

    for study in studies:
        Ledger(database, study).go_on()
    count = workers or usual_workers(machine)
    latest, was_stopped = look(), False
    if not any(progress.open for progress in latest):
        return conclude(database, studies, latest)
    say_if_too_many(studies, count, complain)
    try:
        with pool_of(database, given, machine, count, zygote, limit) as pool:
            on_progress(latest, False)
            watch = Watch(database, studies, pool, count, complain)
            running = True
            while running:
                pool.wait(POLL_SECONDS)
                running = pool.alive() > 0
                try:
                    latest = look()
                    # Another `run` may begin before the workers of this one have ended.
                    was_stopped = was_stopped or _stopped(database, studies)
                    running |= watch.replace(latest)
                except DatabaseAwayError:
                    continue  # the workers retry as well, and give up after their patience
                on_progress(latest, False)
                watch.pass_on()
            latest = look()
            on_progress(latest, True)
            complaints = pool.complaints()
    finally:
        reconcile(database, studies)
    return conclude(database, studies, look(), complaints, complain, stopped=was_stopped)


def _stopped(database: Database, studies: Sequence[StoredStudy]) -> bool:
    return any(Ledger(database, study).stopped() for study in studies)


def conclude(
    database: Database,
    studies: Sequence[StoredStudy],
    latest: list[Progress],
    complaints: Sequence[str] = (),
    complain: Callable[[str], None] = lambda _: None,
    *,
    stopped: bool = False,
) -> list[Progress]:
    """Tell why configurations failed and workers ended, and return the final progress of each study.

    Args:
        stopped: whether the workers were told to stop, also if others have begun again since.

    Raises:
        WorkError: configurations failed, or are left although no worker is.
    """
    for study in studies:
        # One full traceback for each study; those of other failures are mostly the same.
        if (raised := Ledger(database, study).first_traceback()) is not None:
            key, traceback = raised
            for line in (f"{study.name}: {key} raised an exception:", *traceback.splitlines()):
                complain(line)
    for complaint in complaints:
        complain(complaint)
    left = [f"{progress.study} {progress.open}" for progress in latest if progress.open]
    if left and (stopped or _stopped(database, studies)):
        raise WorkError(f"stopped by `pairsearch stop` ({', '.join(left)} left): run it again to go on")
    if left:
        raise WorkError(f"workers ended with configurations left ({', '.join(left)}): run it again to go on")
    failed = [(progress.study, *failure) for progress in latest for failure in progress.failures.items()]
    if failed:
        study_name, key, reason = failed[0]
        many = f"{len(failed)} configuration{'' if len(failed) == 1 else 's'}"
        raise WorkError(f"{many} failed, for example {key} of study {study_name}: {reason}")
    return latest


def pool_of(
    database: Database,
    given: Sequence[StudyArgument],
    machine: Machine,
    count: int,
    zygote: Zygote | None,
    limit: int | None,
) -> Pool:
    """Return workers of studies in a database, forked where that can be; they start with its `with` block."""
    # Forked workers must not use a connection of this process.
    database.close()
    if zygote is not None and not zygote.ready(machine.device):
        zygote = None
    url = database.url.render_as_string(hide_password=False)
    return Pool(
        worker_words([study.text for study in given], machine, limit),
        count,
        url,
        given[0].here,
        zygote,
        machine.gpus,
    )


def usual_workers(machine: Machine) -> int:
    """Return the default number of workers."""
    # A GPU's memory is shared by all workers on it.
    return cores() if machine.device == "cpu" else max(1, len(machine.gpus))


def say_if_too_many(studies: Sequence[StoredStudy], workers: int, complain: Callable[[str], None]) -> None:
    """Complain if this machine's memory may not suffice for so many workers of the studies."""
    each = max(study.traits.worker_bytes for study in studies)
    if (note := too_many(workers, each, available_memory())) is not None:
        complain(note)


def too_many(workers: int, each: int, available: int | None) -> str | None:
    """Return a warning if this machine's memory may not suffice for so many workers, else None.

    Args:
        each: bytes of memory that a worker takes; 0 if that is not known.
        available: bytes that they can use; None if that is not known.
    """
    if available is None or workers * each <= available:
        return None
    room = available // each
    return (
        f"note: memory may not hold {workers} worker{'s' * (workers > 1)}: {available / 2**30:.1f} GiB are free and "
        f"each takes some {each / 2**30:.1f} GiB{f': --workers {room} would fit' if room else ''}"
    )
