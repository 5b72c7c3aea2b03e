"""Starts and watches worker processes on this machine, for `pairsearch run`."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from pairsearch.search import threads
from pairsearch.search.errors import ExitCode, WorkError
from pairsearch.search.setup.storage_url import FILE_VARIABLE, VARIABLE
from pairsearch.search.workers import program

# Longer than any epoch should take: a worker notices at the end of an epoch that it has to stop.
STOP_SECONDS = 60.0
# Bytes after which a worker's log is cut to its end: a problem may print without an end, and that goes to the log.
LONGEST_LOG = 1024 * 1024


class Pool:
    """Worker processes that run while a `with` block runs.

    The standard input of each is a pipe whose other end only this process holds. If this process dies, even by
    `kill -9`, the workers hand their configurations back and end (`pairsearch worker --attached`).

    Args:
        arguments: what follows `pairsearch worker` on the command line.
        storage: the database URL; it goes into the workers' environment, which process lists do not show.
        folder: the working directory of the workers; None for that of this process.
    """

    def __init__(
        self, arguments: Sequence[str], workers: int, storage: str, folder: Path | None = None
    ) -> None:
        environment = {name: value for name, value in program.environment().items() if name != FILE_VARIABLE}
        environment |= {VARIABLE: storage} | dict.fromkeys(threads.VARIABLES, "1")
        self._environment = environment
        self._arguments = arguments
        self._folder = folder
        self._workers = workers
        self._logs: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Pool:
        """Start all workers, or none.

        Raises:
            WorkError: this machine cannot start so many.
        """
        try:
            for _ in range(self._workers):
                self._start()
        except BaseException as error:
            self.__exit__(None, None, None)
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                raise WorkError(f"cannot start {self._workers} workers: {reason}: ask for fewer") from None
            raise
        return self

    def _start(self) -> None:
        log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in __exit__
        # The worker shares the position in the file, which reading changes: what it writes has to go to the end.
        fcntl.fcntl(log, fcntl.F_SETFL, fcntl.fcntl(log, fcntl.F_GETFL) | os.O_APPEND)
        self._logs.append(log)
        self._processes.append(
            subprocess.Popen(  # noqa: S603 - our own program, with validated study names
                program.command("worker", "--attached", *self._arguments),
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for log in self._logs:
            log.close()

    def alive(self) -> int:
        """Count the workers that still run, and shorten their logs."""
        for log in self._logs:
            _trim(log)
        return sum(process.poll() is None for process in self._processes)

    def stop(self) -> None:
        """Ask the workers to hand their configurations back, wait for them, and kill those that do not end."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def complaints(self) -> list[str]:
        """Describe each worker that ended with an error, by the last line that it printed."""
        endings = []
        for process, log in zip(self._processes, self._logs, strict=True):
            code = process.poll()
            if code in (None, ExitCode.DONE):
                continue
            line = program.last_line(log)
            ending = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            endings.append(f"worker {process.pid} ended ({ending})" + (f": {line}" if line else ""))
        return endings


def _trim(log: IO[bytes]) -> None:
    """Cut the beginning of a log that has grown long; what the worker writes at this moment may be lost."""
    if log.seek(0, os.SEEK_END) > LONGEST_LOG:
        tail = program.tail(log)
        log.truncate(0)
        log.write(tail)
