"""Exports a study while it is searched, by a process beside the workers, so that a tracker delays nobody."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pairsearch.search.common.errors import PairsearchError
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.progress import Progress
from pairsearch.search.setup.storage_url import FILE_VARIABLE, VARIABLE
from pairsearch.search.tracking.exporting import Target, again, export, states_of
from pairsearch.search.workers import program

PAUSE_SECONDS = 5.0
"""Seconds between two looks for new results; four times as long as the last export, where that is longer."""
LAST_SECONDS = 30.0
"""Seconds that a search waits at its end for the export of what came last."""
FAILED = "error: "


@contextmanager
def followed(
    targets: Sequence[Target],
    database: Database,
    studies: Sequence[StoredStudy],
    show: Callable[[Sequence[Progress], bool], None],
    complain: Callable[[str], None],
) -> Iterator[Callable[[Sequence[Progress], bool], None]]:
    """Export studies to trackers in the background of the block, from the first progress that is shown in it.

    It is a process of its own: workers are forked from this one, which therefore has no threads. Where the tracker is
    away at the end, or the block was interrupted, nothing is waited for.

    Args:
        show: what is to be called with each progress.
        complain: called with a line that says what was not exported, and which command does it.

    Yields:
        what calls `show`.
    """
    names = [study.name for study in studies]
    words = [word for target in targets for word in ("--to", f"{target.name}={target.place}")]
    variables = {name: text for name, text in program.environment().items() if name != FILE_VARIABLE}
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile(buffering=0) as log:

        def start() -> None:
            if not targets or started:
                return
            exporter = subprocess.Popen(  # noqa: S603 - our own program, with validated study names
                program.command("export", *names, *words, "--attached", "--quiet"),
                env=variables | {VARIABLE: database.url.render_as_string(hide_password=False)},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process
            )
            started.append(exporter)

        def follow(progresses: Sequence[Progress], last: bool) -> None:
            start()
            show(progresses, last)

        seconds = LAST_SECONDS
        try:
            yield follow
        except KeyboardInterrupt:
            seconds = 0.0
            raise
        finally:
            if seconds:
                start()
            for exporter in started:
                said = _ended(exporter, seconds, lambda: program.last_line(log))
                if said is not None:
                    complain(said or f"not all runs are exported: {again(names, targets)} does it")


def _ended(process: subprocess.Popen[bytes], seconds: float, last: Callable[[], str]) -> str | None:
    """Bring an exporter to its end; return None if all is exported, else what it has said about that, or nothing."""
    if process.stdin is not None:
        process.stdin.close()
    away = last().startswith(FAILED)
    try:
        if process.wait(0.0 if away else seconds) == 0:
            return None
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
    said = last()
    return said.removeprefix(FAILED) if said.startswith(FAILED) else ""


def keep_exporting(
    database: Database,
    studies: Sequence[StoredStudy],
    targets: Sequence[Target],
    stopping: threading.Event,
    tell: Callable[[str], None],
) -> bool:
    """Export studies to trackers again and again, until `stopping` is set and once more; return whether all is there.

    Args:
        tell: called after each time with what failed, or that nothing did.
    """
    done: dict[tuple[str, Target], dict[str, dict[str, str]]] = {}
    while True:
        last, began, failed = stopping.is_set(), time.monotonic(), ""
        for study in studies:
            for target in targets:
                try:
                    states = states_of(database, study)
                    if last or done.get((study.name, target)) != states:
                        export(database, study, target, states=states, report=last)
                    done[study.name, target] = states
                except PairsearchError as error:
                    failed = f"{FAILED}{error}"
        tell(failed or "exported")
        if last:
            return not failed
        stopping.wait(max(PAUSE_SECONDS, 4 * (time.monotonic() - began)))
