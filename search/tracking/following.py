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
from pairsearch.search.tracking.exporting import Target, again, export
from pairsearch.search.tracking.reading import States, states_of
from pairsearch.search.workers import program

PAUSE_SECONDS = 5.0
"""Seconds between two looks for new results; four times as long as the last export, where that is longer."""
LAST_SECONDS, AWAY_SECONDS = 30.0, 3.0
"""Seconds that a search waits at its end for what came last; and for a tracker that did not answer before."""
FAILED = "error: "

Show = Callable[[Sequence[Progress], bool], None]


class Exporter:
    """A process that exports studies to a tracker until this one has it end, or is gone."""

    def __init__(self, database: Database, studies: Sequence[str], target: Target) -> None:
        self._log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in `end`
        self._missing = f"not all runs are in {target.label}: {again(studies, target)} exports them"
        variables = {name: text for name, text in program.environment().items() if name != FILE_VARIABLE}
        to = f"{target.name}={target.place}"
        self._process = subprocess.Popen(  # noqa: S603 - our own program, with validated study names
            program.command("export", *studies, "--to", to, "--attached", "--quiet"),
            env=variables | {VARIABLE: database.url.render_as_string(hide_password=False)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for this process
        )

    def finish(self, seconds: float) -> float:
        """Have it export what came last and end; return the seconds, at most those given, that it may take."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        return min(seconds, AWAY_SECONDS) if self._failed() else seconds

    def end(self, until: float) -> str | None:
        """Wait for its end, at most to a moment of the monotonic clock; return what it leaves undone, or None."""
        try:
            self._process.wait(until - time.monotonic())
            return self._failed()
        except subprocess.TimeoutExpired:
            return self._missing

    def kill(self) -> None:
        """End it as it is."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _failed(self) -> str | None:
        """Return what it said last if that is an error, or if it ended otherwise than it should."""
        said = program.last_line(self._log)
        if said.startswith(FAILED):
            return said.removeprefix(FAILED)
        return self._missing if self._process.poll() else None


@contextmanager
def followed(
    targets: Sequence[Target],
    database: Database,
    studies: Sequence[StoredStudy],
    show: Show,
    complain: Callable[[str], None],
) -> Iterator[Show]:
    """Export studies to trackers in the background of the block, from the first progress in it, or else at its end.

    Each tracker has a process of its own: workers are forked from this one, which therefore has no threads. Where the
    block was interrupted nothing is waited for.

    Args:
        show: what is to be called with each progress; so is what is yielded.
        complain: called with a line for each tracker that lacks something: how much, and which command exports it.
    """
    started: list[Exporter] = []

    def start() -> None:
        if not started:
            started.extend(
                Exporter(database, [study.name for study in studies], target) for target in targets
            )

    def follow(progresses: Sequence[Progress], last: bool) -> None:
        start()
        show(progresses, last)

    seconds = LAST_SECONDS
    try:
        yield follow
        start()
    except KeyboardInterrupt:
        seconds = 0.0
        raise
    finally:
        try:
            # All at the same time, so that several take no longer than one.
            now = time.monotonic()
            ends = [now + exporter.finish(seconds) for exporter in started]
            for exporter, until in zip(started, ends, strict=True):
                if (left := exporter.end(until)) is not None:
                    complain(left)
        finally:
            for exporter in started:
                exporter.kill()


def keep_exporting(
    database: Database,
    studies: Sequence[StoredStudy],
    targets: Sequence[Target],
    stopping: threading.Event,
    tell: Callable[[str], None],
) -> bool:
    """Export studies to trackers again and again, until `stopping` is set and once more; return whether all is there.

    After each time it tells what failed, or that nothing did.
    """
    done: dict[tuple[str, Target], States] = {}
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
