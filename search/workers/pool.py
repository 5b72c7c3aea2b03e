"""Starts and watches worker processes on this machine, and replaces those that die, for `pairsearch run`."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from sqlalchemy import select

from pairsearch.search.common import gpus, threads
from pairsearch.search.common.errors import ExitCode, WorkError
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.progress import Progress
from pairsearch.search.setup.storage_url import FILE_VARIABLE, VARIABLE
from pairsearch.search.workers import program
from pairsearch.search.workers.forking import Forked, Zygote

# Longer than any epoch should take: a worker notices at the end of an epoch that it has to stop.
STOP_SECONDS = 60.0
# How often logs are cut and ends of workers are noticed.
LOOK_SECONDS = 0.05
# Those by which somebody asks a worker to end.
ASKED = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
# Bytes after which a worker's log is cut to its end: a problem may print without an end, and that goes to the log.
LONGEST_LOG = 1024 * 1024
# How the logs of workers begin a line that warns.
WARNS = "WARNING: "
# How many different ones are passed on: a problem may warn without an end.
MOST_WARNINGS = 5


def worker_words(studies: Sequence[str], machine: Machine, limit: int | None) -> list[str]:
    """Return the words that follow `pairsearch worker`.

    Args:
        limit: work on the first `limit` configurations of each study only, and on rounds alone if it is 0.
    """
    words = [*studies, "--lease", str(machine.lease), "--quiet", *machine.words]
    return words if limit is None else [*words, *(["--limit", str(limit)] if limit else ["--rounds"])]


@dataclass(eq=False, slots=True)
class PoolWorker:
    """One worker process of a pool.

    Args:
        log: the file to which it prints.
        gpu: the GPU that it has, as CUDA names it; None for whatever it finds.
        told: whether its end was told to the user.
    """

    process: subprocess.Popen[bytes] | Forked
    log: IO[bytes]
    gpu: str | None = None
    told: bool = False

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self.process.poll() not in (None, ExitCode.DONE)

    def warnings(self) -> list[str]:
        """Return what it warns of at the end of its log, without double ones."""
        lines = program.tail(self.log).decode("utf-8", "replace").splitlines()
        return [*dict.fromkeys(line.removeprefix(WARNS) for line in lines if line.startswith(WARNS))]

    def ending(self) -> str:
        """Describe how it ended."""
        return program.ending(f"worker {self.process.pid}", self.process.poll() or 0, self.log)


class Pool:
    """Worker processes that run while a `with` block runs.

    The standard input of each is a pipe whose other end only this process holds. If this process dies, even by
    `kill -9`, the workers hand their configurations back and end (`pairsearch worker --attached`).

    Args:
        arguments: what follows `pairsearch worker` on the command line.
        storage: the database URL; it goes into the workers' environment, which process lists do not show.
        folder: the working directory of the workers; None for that of this process.
        zygote: what workers are forked from; None to start each anew. Nothing of a database may be open in this
            process when a worker is forked.
        places: the GPU of each worker, from the first one again where there are more workers; empty for none.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        workers: int,
        storage: str,
        folder: Path | None = None,
        zygote: Zygote | None = None,
        places: Sequence[str] = (),
    ) -> None:
        environment = {name: value for name, value in program.environment().items() if name != FILE_VARIABLE}
        environment |= {VARIABLE: storage} | dict.fromkeys(threads.VARIABLES, "1")
        self._environment: Mapping[str, str] = environment
        self._words = ("worker", "--attached", *arguments)
        self._folder = folder
        self._gpus = [places[number % len(places)] if places else None for number in range(workers)]
        self._zygote = zygote
        # Of the pipe whose end forked workers notice: they share it.
        reading, writing = os.pipe()
        self._reading, self._writing = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        self.workers: list[PoolWorker] = []

    def __enter__(self) -> Pool:
        """Start all workers, or none; raises WorkError where this machine cannot start so many."""
        try:
            for gpu in self._gpus:
                self.start(gpu)
        except BaseException as error:
            self.__exit__(None, None, None)
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                raise WorkError(f"cannot start {len(self._gpus)} workers: {reason}: ask for fewer") from None
            raise
        return self

    def start(self, gpu: str | None = None) -> None:
        """Start one more worker; raises OSError where the system allows no further process or file."""
        log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in __exit__
        try:
            # The worker shares the position in the file, which reading changes: what it writes has to go to the end.
            fcntl.fcntl(log, fcntl.F_SETFL, fcntl.fcntl(log, fcntl.F_GETFL) | os.O_APPEND)
            self.workers.append(PoolWorker(self._process(log, gpu), log, gpu))
        except BaseException:
            log.close()
            raise

    def _process(self, log: IO[bytes], gpu: str | None) -> subprocess.Popen[bytes] | Forked:
        environment = self._environment if gpu is None else {**self._environment, **gpus.variables(gpu)}
        if self._zygote is not None:
            return self._zygote.fork(self._words, lambda: self._enter(log, environment))
        return subprocess.Popen(  # noqa: S603 - our own program, with validated study names
            program.command(*self._words),
            env=environment,
            cwd=self._folder,
            stdin=self._reading,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )

    def _enter(self, log: IO[bytes], environment: Mapping[str, str]) -> None:
        """Give a forked worker its streams, environment and working directory."""
        self._writing.close()
        os.dup2(self._reading.fileno(), 0)
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        # A terminal's live table may have taken the places of the streams.
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        if self._folder is not None:
            os.chdir(self._folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for worker in self.workers:
            worker.log.close()
        self._reading.close()
        self._writing.close()

    def alive(self) -> int:
        """Count the workers that still run, and shorten their logs."""
        for worker in self.workers:
            _trim(worker.log)
        return sum(worker.process.poll() is None for worker in self.workers)

    def wait(self, seconds: float) -> None:
        """Wait until a worker ends, or for some seconds."""
        end, before = time.monotonic() + seconds, self.alive()
        while (left := end - time.monotonic()) > 0 and self.alive() == before > 0:
            time.sleep(min(LOOK_SECONDS, left))

    def stop(self) -> None:
        """Ask the workers to hand their configurations back, wait for them, and kill those that do not end."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        end = time.monotonic() + STOP_SECONDS
        for worker in self.workers:
            try:
                worker.process.wait(timeout=max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def complaints(self) -> list[str]:
        """Describe each worker that ended with an error, unless it was told before."""
        return [worker.ending() for worker in self.workers if worker.failed and not worker.told]


@dataclass(eq=False, slots=True)
class Watch:
    """Looks after the workers of a pool.

    A worker died if a signal killed it, or if it ended without handing its configuration back, as where a problem calls
    `os._exit`. One that ends by itself hands back what it holds, and says why it ends.

    Args:
        most: how many workers are replaced from now on: what kills one may kill each.
        complain: called with a line for each worker that died.
    """

    database: Database
    studies: Sequence[StoredStudy]
    pool: Pool
    most: int
    complain: Callable[[str], None]
    _seen: set[int] = field(default_factory=set)
    _warned: set[str] = field(default_factory=set)

    def replace(self, progresses: Sequence[Progress]) -> bool:
        """Start a worker for each that died since the last call, while work is left; return whether one was started.

        Where the database does not answer, it raises that, and the next call looks at the same workers again.
        """
        started = False
        for place, worker in enumerate(self.pool.workers):
            code = worker.process.poll()
            if code is None or place in self._seen:
                continue
            held = self._held(worker)
            self._seen.add(place)
            if not held and (code >= 0 or code in ASKED):
                continue
            worker.told = True
            what = f"{worker.ending()}; it held {', '.join(held) or 'no configuration'}"
            if not any(progress.open for progress in progresses):
                self.complain(what)
            elif self.most == 0:
                self.complain(f"{what}; it is not replaced, as so many have died already")
            else:
                self.most -= 1
                started |= self._start(what, worker)
        return started

    def pass_on(self) -> None:
        """Say what workers warn of, each thing once, up to `MOST_WARNINGS` of them."""
        for worker in self.pool.workers:
            for line in worker.warnings():
                if line not in self._warned and len(self._warned) < MOST_WARNINGS:
                    self._warned.add(line)
                    self.complain(f"warning: {line[: program.SHOWN]}")

    def _start(self, what: str, died: PoolWorker) -> bool:
        self.database.close()  # a connection must not be forked
        try:
            self.pool.start(died.gpu)
        except OSError as error:
            self.complain(f"{what}; it cannot be replaced: {error.strerror or error}")
            return False
        self.complain(f"{what}; another takes its place")
        return True

    def _held(self, worker: PoolWorker) -> list[str]:
        """Return the configurations that a worker has not handed back, as the ledger knows them."""
        columns = configurations.c
        name = f"{socket.gethostname()}:{worker.process.pid}:"
        with self.database.read() as connection:
            return [
                f"{key} of study {study.name}"
                for study in self.studies
                for key in connection.execute(
                    select(columns.key).where(
                        columns.study_id == study.id,
                        columns.state == State.RUNNING,
                        columns.worker.startswith(name, autoescape=True),
                    )
                ).scalars()
            ]


def _trim(log: IO[bytes]) -> None:
    """Cut the beginning of a log that has grown long; what the worker writes at this moment may be lost."""
    if log.seek(0, os.SEEK_END) > LONGEST_LOG:
        tail = program.tail(log)
        log.truncate(0)
        log.write(tail)
