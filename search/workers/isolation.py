"""Trains each run in a process of its own, where its study asks for that; this is the worker's side.

The worker keeps ledger, lease, heartbeat and recorder. The run's process has the problem alone, and no database.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any

from pairsearch.search.common.errors import WorkError
from pairsearch.search.common.redaction import conceal
from pairsearch.search.database.connection import Database
from pairsearch.search.workers import nursery, program
from pairsearch.search.workers.failure import ImpossibleRunError, RunError
from pairsearch.search.workers.forking import Forked
from pairsearch.search.workers.nursery import ENDED, OUT_OF_TIME, receive, send
from pairsearch.search.workers.recorder import Recorder
from pairsearch.studies.checkpoint_file import unpack
from pairsearch.studies.configuration import Params
from pairsearch.studies.errors import ProblemError, ReportError
from pairsearch.studies.loading import Loaded
from pairsearch.studies.problem import Run, Stopped

# How often a worker that waits for a run looks whether it was told to stop, or the time is up.
LOOK_SECONDS = 0.2
# How long a run may take to end once it was stopped, or has ended its training: less than the workers of a pool may.
END_SECONDS = 30.0
# The same at its time limit, which is kept to the second.
LATE_SECONDS = 0.5
# How long after its run a worker may learn that both are to end.
TOLD_SECONDS = 1.0
STARTED = (
    "import runpy, sys; __file__ = sys.argv[1]; runpy.run_path(__file__, run_name='pairsearch.__main__'); "
    "from pairsearch.search.workers.nursery import main; main(int(sys.argv[2]), 'lazy' in sys.argv)"
)
"""A nursery as a program. Processes that a problem starts run `__file__` first, to know the package."""


@contextmanager
def isolated(
    loaded: Loaded, database: Database | None = None, stopping: threading.Event | None = None
) -> Iterator[Loaded]:
    """Yield a problem that trains each run in a process of its own, if its study wants that; else the problem itself.

    Args:
        database: its connections are closed, as they must not be forked.
        stopping: is set when this process is told to stop; a run ends then that saves no checkpoints.
    """
    if not loaded.isolated:
        yield loaded
        return
    if database is not None:
        database.close()
    isolation = Isolation(loaded, stopping or threading.Event())
    try:
        yield replace(loaded, trainer=isolation)
    finally:
        isolation.close()


class Isolation:
    """Trains runs of a problem, each in a process of its own (`Loaded.trainer`).

    Their processes are forked from a nursery. It is forked from this process itself, which shares with it what it has
    loaded, or started as a program where that is not safe.

    Attributes:
        memory: peak memory of any run's process so far, in bytes.
        facts: parameters that were trained last, and what their process said of them.
    """

    def __init__(self, loaded: Loaded, stopping: threading.Event) -> None:
        self.memory = 0
        self.facts: tuple[Params, Mapping[str, str]] = {}, {}
        self._loaded = loaded
        self._stopping = stopping
        self._process: Forked | subprocess.Popen[bytes] | None = None
        if nursery.forkable():
            pid, self._control = nursery.fork(loaded)
            self._process = Forked(pid)

    def __call__(self, params: Params, runs: Sequence[Run], report: Recorder) -> Sequence[Any]:
        """Train as `Problem.train`; weights that cannot be kept are the `ProblemError` that says why.

        Raises:
            Stopped: the training was ended.
            RunError: the problem raised an exception, or the process of the run died.
            WorkError: no process can be started.
        """
        attempt = _Attempt(self, runs, report, self._stopping, *self._begin())
        try:
            return attempt.train(params)
        finally:
            attempt.close()

    def describe(self, params: Params) -> Mapping[str, str]:
        """Return the facts that the problem gave where a configuration was trained last."""
        trained, facts = self.facts
        return facts if trained == params else self._loaded.restored().describe(params)

    def _begin(self) -> tuple[Connection, socket.socket]:
        """Have the nursery fork a run; return the pipe to it, and the socket to the nursery."""
        ours, theirs = Pipe()
        try:
            if self._process is None:
                self._start()
            socket.send_fds(self._control, [b"\0"], [theirs.fileno()])
        except OSError as error:
            ours.close()
            self.close()
            raise WorkError(
                f"cannot start a process for the runs of study {self._loaded.definition.name}: "
                f"{error.strerror or error}"
            ) from None
        finally:
            theirs.close()
        return ours, self._control

    def _start(self) -> None:
        """Start a nursery as a program."""
        ours, theirs = socket.socketpair()
        source = self._loaded.source
        with tempfile.TemporaryFile() as file, theirs:
            file.write(json.dumps(source).encode())
            file.flush()
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [*program.python(), "-c", STARTED, program.MAIN, str(theirs.fileno())],
                    env=program.environment(),
                    cwd=source["here"] if Path(source["here"]).is_dir() else None,
                    stdin=file,
                    pass_fds=[theirs.fileno()],
                    # Ctrl-C is this process's.
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        self._control = ours

    def close(self) -> None:
        """End the nursery, and a run that it may have."""
        if self._process is not None:
            self._control.close()
            self._process.wait()
            self._process = None


@dataclass(eq=False, slots=True)
class _Attempt:
    """One call of a problem's `train` in a process of its own."""

    isolation: Isolation
    runs: Sequence[Run]
    report: Recorder
    stopping: threading.Event
    pipe: Connection
    control: socket.socket
    # Whether the process trains: it may have to load the problem before.
    began: bool = False
    # Whether it was asked to end because the worker is to end.
    asked: bool = False
    # When it is killed, once it was asked to end.
    kill_at: float | None = None
    # The exit code of the process, once it has ended; None with `over` where the nursery is gone too.
    code: int | None = None
    over: bool = False

    def train(self, params: Params) -> Sequence[Any]:
        """Send the runs, serve their process until it has ended, and return the weights."""
        names = [field.name for field in fields(Run) if field.name != "checkpoint"]
        runs = [{name: getattr(run, name) for name in names} for run in self.runs]
        with suppress(OSError):  # it has ended already
            send(self.pipe, params=dict(params), runs=runs, kept=self.report.checkpoint is not None)
        last: dict[str, Any] = {}
        content = b""
        while (message := self._next()) is not None:
            answer, more = message
            if answer.get("began"):
                self.began = True
                self.report.begin()
            elif any(map(answer.get, ("done", "stopped", "raised"))):
                last, content = message
                self.kill_at = monotonic() + END_SECONDS
            else:
                self._serve(answer, more)
        stopped = last.get("stopped", False)
        # A scheduler tells all processes of a job, and this one may learn it a moment later.
        if stopped and not self.report.stopped and not self.stopping.wait(TOLD_SECONDS):
            raise RunError("the process of the run was told to end (SIGTERM), and not by its worker", None)
        self.report.stopped |= stopped or (self.asked and not last)
        if self.report.stopped:
            raise Stopped
        if "raised" in last:
            kind = ImpossibleRunError if last["impossible"] else RunError
            raise kind(last["raised"], conceal(last["traceback"]))
        if not last:
            raise RunError(f"the process of the run {self._ending()}", None)
        self.isolation.facts = dict(params), last.get("facts", {})
        weights: list[Any] = unpack(content)["weights"] if content else [None] * len(self.runs)
        for place, reason in last.get("unkept", {}).items():
            weights[int(place)] = ProblemError(reason)
        return weights

    def _next(self) -> tuple[dict[str, Any], bytes] | None:
        """Return the next message of the process; None once there is none, and it has ended."""
        while True:
            if not self.pipe.closed and self.pipe.poll():
                try:
                    return receive(self.pipe)
                except EOFError:
                    self.pipe.close()
            elif self.over:
                return None
            else:
                self._wait()

    def _wait(self) -> None:
        """Wait for a message or the end of the process, and see to it that it ends where it has to."""
        left = self.report.left if self.began else None
        if self.kill_at is None:
            saves = self.report.checkpoint is not None and self.report.checkpoint.used
            if left is not None and left <= 0.0:
                self.report.late = self.report.stopped = True
                self._end(OUT_OF_TIME, LATE_SECONDS)
            elif self.stopping.is_set() and not saves:
                self.asked = True
                self._end(signal.SIGTERM, END_SECONDS)
        elif monotonic() > self.kill_at:
            self._send(signal.SIGKILL)
        waited: list[Any] = [self.control, *([] if self.pipe.closed else [self.pipe])]
        if self.control in wait(waited, LOOK_SECONDS):
            self._ended()

    def _ended(self) -> None:
        """Read what the nursery says of the end of the process."""
        self.over = True
        said = b""
        with suppress(OSError):
            said = self.control.recv(ENDED.size, socket.MSG_WAITALL)
        if len(said) == ENDED.size:
            self.code, memory = ENDED.unpack(said)
            self.isolation.memory = max(self.isolation.memory, memory)
        else:
            # The nursery has died; the next run has another.
            self.isolation.close()

    def _end(self, number: signal.Signals, seconds: float) -> None:
        """Send the process a signal; it is killed if it has not ended after so many seconds."""
        self.kill_at = monotonic() + seconds
        self._send(number)

    def _send(self, number: signal.Signals) -> None:
        with suppress(OSError):  # the nursery is gone
            self.control.sendall(bytes([number]))

    def _serve(self, asked: dict[str, Any], content: bytes) -> None:
        """Answer a request of the process."""
        found = b""
        answer: dict[str, Any] = {}
        try:
            if "report" in asked:
                self.report(asked["report"], asked["figures"], asked["diverged"])
            elif asked.get("poll"):
                self.report.poll()
            else:
                answer, found = self._kept(asked, content)
        except Stopped:
            answer = {"stop": True}
            self.kill_at = self.kill_at or monotonic() + END_SECONDS
        except ReportError as error:
            answer = {"refused": str(error)}
        else:
            answer["ending"] = self.report.ending
        with suppress(OSError):  # it has ended
            send(self.pipe, found, **answer)

    def _kept(self, asked: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        """Find or store the checkpoint of the run, and return the answer."""
        assert self.report.checkpoint is not None, "runs that keep none do not ask"  # noqa: S101
        if not asked.get("load"):
            self.report.checkpoint.store(asked["save"], content)
        elif (known := self.report.checkpoint.find()) is not None:
            kept, _ = known
            return {"epoch": kept.epoch}, kept.content
        return {}, b""

    def _ending(self) -> str:
        """Describe how the process has ended."""
        if self.code is None:
            return "was killed with the one that watches it"
        if self.code < 0:
            try:
                name = signal.Signals(-self.code).name
            except ValueError:
                name = f"signal {-self.code}"
            memory = " (memory may have run out)" if -self.code == signal.SIGKILL else ""
            return f"was killed by {name}{memory}"
        return f"ended with exit code {self.code} before the training did"

    def close(self) -> None:
        """Kill the process if it has not ended, and wait for its end."""
        if not self.over:
            self._send(signal.SIGKILL)
            self._ended()
        self.pipe.close()
