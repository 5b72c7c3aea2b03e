"""N worker processes on this machine, started and watched by `pairsearch run`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import IO

from pairsearch.search import threads
from pairsearch.search.errors import ExitCode, WorkError
from pairsearch.search.setup.storage_option import FILE_VARIABLE, VARIABLE
from pairsearch.search.workers import program

# Above the time of the longest epoch, after which a worker sees that it is to end.
STOP_SECONDS = 60.0


class Pool:
    """Worker processes of one `run`.

    Args:
        arguments: what follows `pairsearch worker`.
        storage: the database URL; workers get it in their environment, where process lists do not show it.

    They run while the block does. Each has a pipe as its standard input, whose other end this process alone holds: when
    it is gone, by `kill -9` say, they hand back what they hold and end (`pairsearch worker --attached`).
    """

    def __init__(self, arguments: Sequence[str], workers: int, storage: str) -> None:
        environment = {name: value for name, value in program.environment().items() if name != FILE_VARIABLE}
        environment |= {VARIABLE: storage} | dict.fromkeys(threads.VARIABLES, "1")
        self._environment = environment
        self._arguments = arguments
        self._workers = workers
        self._logs: list[IO[str]] = []
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Pool:
        """Start the workers, all or none.

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
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in __exit__
        self._logs.append(log)
        self._processes.append(
            subprocess.Popen(  # noqa: S603 - our own program, with validated study names
                program.command("worker", "--attached", *self._arguments),
                env=self._environment,
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
        """How many workers are at work."""
        return sum(process.poll() is None for process in self._processes)

    def stop(self) -> None:
        """Ask the workers to hand back what they hold, wait for them, and kill those that do not answer."""
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
        """The last line of each worker that ended otherwise than well."""
        found = []
        for process, log in zip(self._processes, self._logs, strict=True):
            code = process.poll()
            if code in (None, ExitCode.DONE):
                continue
            log.seek(0)
            lines = log.read().strip().splitlines()
            ending = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            found.append(f"worker {process.pid} ended ({ending})" + (f": {lines[-1]}" if lines else ""))
        return found
