"""The process from which a worker's runs are forked, and such a run: each of them trains in a process of its own.

The nursery holds the problem, trains nothing, and knows no database. It adopts whatever processes a run leaves, and
ends them with the run, or as soon as the worker is gone. A run speaks with its worker by a pipe of its own, in messages
of JSON and bytes, never by pickles (`search.workers.isolation` is the worker's side).
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from pairsearch.search.workers import forking
from pairsearch.search.workers.failure import failure
from pairsearch.search.workers.given import not_an_epoch, number_of, of_each
from pairsearch.studies.checkpoint import Checkpoint, State
from pairsearch.studies.checkpoint_file import DTYPES, pack, unpack
from pairsearch.studies.errors import ProblemError, ReportError, exits_are_errors
from pairsearch.studies.loading import Loaded, load_source
from pairsearch.studies.problem import Figures, Impossible, Run, Stopped, Weights
from pairsearch.studies.supervisor import SET_CHILD_SUBREAPER, SET_PDEATHSIG, Group, prctl, wake_up

OUT_OF_TIME = signal.SIGXCPU
"""Ends a run at the time limit of its study; SIGTERM lets one that saves checkpoints go on to the next."""
ENDED = struct.Struct("<iq")
"""What the nursery says of a run that has ended: its exit code, negative for a signal, and peak memory in bytes."""
# Threads of a worker, of which a forked process needs none.
OURS = {"signals", "parent", "heartbeat"}
# By how much a run is preferred to its worker when memory runs out.
FIRST_TO_DIE = b"500"
LENGTH = struct.Struct("<I")


def send(connection: Connection, content: bytes = b"", **fields: Any) -> None:
    """Send a message: fields that JSON holds, NaN and infinity included, and bytes."""
    header = json.dumps(fields).encode()
    connection.send_bytes(LENGTH.pack(len(header)) + header + content)


def receive(connection: Connection) -> tuple[dict[str, Any], bytes]:
    """Receive a message; raises EOFError where the other side is gone."""
    try:
        message = connection.recv_bytes()
    except OSError as error:
        raise EOFError from error
    start = LENGTH.size + LENGTH.unpack_from(message)[0]
    return json.loads(message[LENGTH.size : start]), message[start:]


def forkable() -> bool:
    """Whether a forked process can go on with what this one has loaded.

    It has none of the threads, which problems and libraries may wait for, and cannot use CUDA where this process does.
    """
    torch = sys.modules.get("torch")
    mine = {
        thread for thread in threading.enumerate() if thread is threading.main_thread() or thread.name in OURS
    }
    return (
        sys.platform == "linux"
        and threading.current_thread() is threading.main_thread()
        and not (torch is not None and torch.cuda.is_initialized())
        and forking.threads() <= len(mine)
    )


def fork(loaded: Loaded) -> tuple[int, socket.socket]:
    """Fork a nursery from this process, which has loaded the problem; return its id, and the socket to its `serve`.

    Raises:
        OSError: the system allows no further process.
    """
    ours, theirs = socket.socketpair()

    def live(mask: Iterable[int]) -> None:
        ours.close()
        forking.begin()
        _serve(theirs, lambda: loaded, mask)

    try:
        return forking.fork(live), ours
    finally:
        theirs.close()


def main(descriptor: int, lazy: bool) -> None:
    """Be a nursery that was started as a program, with the source of the problem on standard input.

    Args:
        descriptor: its end of the socket.
        lazy: whether each run loads the problem for itself, since a forked process could not go on with it.
    """
    source = json.loads(os.pread(0, os.fstat(0).st_size, 0))
    loaded = None if lazy else load_source(source)
    if loaded is not None and not forkable():
        os.set_inheritable(descriptor, True)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "lazy"])  # noqa: S606 - our own program
    with socket.socket(fileno=descriptor) as control:
        _serve(control, lambda: loaded or load_source(source), ())


def _serve(control: socket.socket, load: Callable[[], Loaded], mask: Iterable[int]) -> None:
    """Fork a process for each run whose pipe comes by the socket, until the worker is gone.

    Bytes that come while a run lives are numbers of signals for it.
    """
    # Ctrl-C is the worker's, which says what becomes of the run, and so is its standard input.
    with suppress(OSError):  # it may lead a session already
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number in forking.ENDING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    prctl(SET_CHILD_SUBREAPER, 1)
    # Collecting garbage writes to every object, and would have each run copy all of them.
    gc.freeze()
    reading, here = wake_up(), os.getpid()
    while True:
        byte, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not byte:
            return
        if not descriptors:
            continue  # a signal for a run that had ended
        forking.flush()
        if (pid := os.fork()) == 0:
            try:
                control.close()
                _begin_run(here)
                _train(Connection(descriptors[0]), load)
                # Threads that the training has left end with it.
                forking.end(0, threads=False)
            finally:
                os._exit(1)
        os.close(descriptors[0])
        run, gone = Group(pid), False
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and not gone:
            ready = wait([control, reading])
            if reading in ready:
                os.read(reading, 1024)
            if control in ready:
                asked = b""
                with suppress(OSError):
                    asked = control.recv(16)
                gone = not asked
                for one in asked:
                    os.kill(pid, one)
        run.end_others(grace=0.0)
        if gone:
            return
        code = -signal.SIGKILL if run.status is None else os.waitstatus_to_exitcode(run.status)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        control.sendall(ENDED.pack(code, memory if sys.platform == "darwin" else memory * 1024))


def _begin_run(nursery: int) -> None:
    """Become the process of a run: one that does not outlive the nursery, and ends where it is asked to."""
    os.setpgid(0, 0)
    prctl(SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != nursery:
        os._exit(1)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(FIRST_TO_DIE)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for one in (signal.SIGCHLD, signal.SIGHUP):
        signal.signal(one, signal.SIG_DFL)


class RemoteCheckpoint(Checkpoint):
    """The checkpoint of a run in its own process; the worker keeps it."""

    def __init__(self, worker: _Worker) -> None:
        self.used = False
        self._worker = worker

    @property
    def wanted(self) -> bool:
        """Whether the training ends with the next checkpoint."""
        return self._worker.ending

    def poll(self) -> None:
        """End the training between two reports, where it has to end."""
        self._worker.ask(poll=True)

    def load(self) -> tuple[int, Any] | None:
        """Return the epoch and the state that were saved last, None if nothing was."""
        self.used = True
        answer, content = self._worker.ask(load=True)
        if "epoch" not in answer:
            return None
        self._worker.epoch = answer["epoch"]
        return answer["epoch"], unpack(content)

    def save(self, epoch: int, state: State) -> None:
        """Store a state with all that was reported up to an epoch."""
        self.used = True
        self._worker.ask(pack(state), save=epoch)


class _Worker:
    """The worker as a run sees it: it takes reports and checkpoints, and says when to end."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._process = os.getpid()
        self.epoch = 0
        self.ending = False
        self.checkpoint = RemoteCheckpoint(self)
        self._lock = threading.Lock()
        self._asking = self.stopped = False

    def stop(self) -> None:
        """End the training: now, or once the worker has answered, as half a message would be the last one."""
        self.stopped = True
        if not self._asking:
            raise Stopped

    def report(self, epoch: int, figures: Sequence[Figures], diverged: Sequence[int] = ()) -> None:
        """Report the figures of all runs after an epoch (`studies.problem.Report`)."""
        if type(epoch) is not int:
            raise not_an_epoch(epoch, self.epoch)
        numbers = [{name: number_of(name, value) for name, value in given.items()} for given in figures]
        self.ask(report=epoch, figures=numbers, diverged=list(map(int, diverged)))
        self.epoch = epoch

    def ask(self, content: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        """Send a request, and return the answer.

        Raises:
            Stopped: the training has to end.
            ReportError: the worker refuses it.
        """
        # One that the problem has forked would take answers that are not its own.
        if os.getpid() != self._process:
            raise ReportError(
                "expected reports and checkpoints from the process that trains, got one from its child"
            )
        with self._lock:
            self._asking = True
            try:
                send(self.connection, content, **fields)
                answer, found = receive(self.connection)
            finally:
                self._asking = False
        self.stopped |= answer.get("stop", False)
        if self.stopped:
            raise Stopped
        if "refused" in answer:
            raise ReportError(answer["refused"])
        self.ending = answer["ending"]
        return answer, found


def _train(connection: Connection, load: Callable[[], Loaded]) -> None:
    """Train the runs that the worker sends, and send what becomes of them."""
    worker, me = _Worker(connection), os.getpid()
    training = True

    def stop(number: int, _: FrameType | None) -> None:
        if training and (number == OUT_OF_TIME or not worker.checkpoint.used):
            worker.stop()

    for number in (signal.SIGTERM, OUT_OF_TIME):
        signal.signal(number, stop)
    job, _ = receive(connection)
    runs = [Run(**fields) for fields in job["runs"]]
    if job["kept"]:
        runs = [replace(run, checkpoint=worker.checkpoint) for run in runs]
    content = b""
    ended: dict[str, Any] = {}
    try:
        with exits_are_errors():
            loaded = load()
            send(connection, began=True)
            weights = of_each(loaded.train(job["params"], runs, worker.report), len(runs))
        # Nobody keeps those of folds.
        if runs[0].kind == "round":
            content, ended = _packed(weights)
            ended["facts"] = dict(loaded.describe(job["params"]))
        ended["done"] = True
    except Stopped:
        ended = {"stopped": True} if worker.stopped else {"done": True}
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        ended = {"raised": failure(error), "traceback": text, "impossible": isinstance(error, Impossible)}
    training = False
    if os.getpid() != me:  # the problem has forked it, and let it go on
        os._exit(1)
    send(connection, content, **ended)


def _packed(weights: Sequence[Weights | None]) -> tuple[bytes, dict[str, Any]]:
    """Return the weights of runs as bytes, and by the place of a run why its weights cannot be kept."""
    found: list[Mapping[str, Any] | None] = [None] * len(weights)
    unkept = {}
    for place, one in enumerate(weights):
        try:
            found[place] = None if one is None else _arrays(one)
        except ProblemError as error:
            unkept[place] = str(error)
    return pack({"weights": found}), {"unkept": unkept}


def _arrays(weights: Weights) -> Mapping[str, Any]:
    if isinstance(weights, Mapping) and all(
        type(name) is str and isinstance(value, np.ndarray) and value.dtype.name in DTYPES
        for name, value in weights.items()
    ):
        return weights
    from pairsearch.studies.model_card import as_tensors  # noqa: PLC0415 - it imports PyTorch

    return as_tensors(weights)
