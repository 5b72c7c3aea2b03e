"""Forks workers from this process, so that they share what it has imported and loaded.

A forked worker obeys the words of a command line, as one does that is started anew, and ends with the same exit codes.
Processes are forked on Linux alone: elsewhere the systems' own libraries do not survive it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired
from time import monotonic, sleep

from pairsearch.search.common.errors import ExitCode
from pairsearch.search.common.redaction import report
from pairsearch.studies.supervisor import children

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_SECONDS = 0.02
JOINED_SECONDS = 1.0


class Zygote:
    """This process, as one that workers are forked from. It is made before problems are loaded.

    Args:
        obey: runs this program by the words of a command line, in a process of its own, which it may end.
        warm: makes and loads what workers share; called once, before the first fork.
    """

    def __init__(self, obey: Callable[[Sequence[str]], None], warm: Callable[[], None]) -> None:
        self._obey = obey
        self._warm = warm
        self._descriptors = _descriptors()

    def ready(self, device: str) -> bool:
        """Warm this process up, and say whether workers can be forked from it.

        A forked process has none of the threads, shares the positions in open files, may not wait for the children and
        cannot use CUDA. So nothing of that may be left of what problems did here.
        """
        if device != "cpu" or not self._untouched():
            return False
        self._warm()
        if not self._untouched():
            return False
        # Collecting garbage writes to every object, and would have each worker copy all of them.
        gc.freeze()
        return True

    def _untouched(self) -> bool:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            return False
        # A thread that was joined is there for a moment longer as the system counts.
        end = monotonic() + JOINED_SECONDS
        while threading.active_count() == 1 < threads() and monotonic() < end:
            sleep(POLL_SECONDS)
        return threads() == 1 and not children() and _descriptors() <= self._descriptors

    def fork(self, words: Sequence[str], enter: Callable[[], None]) -> Forked:
        """Fork a worker.

        Args:
            words: the command line that it obeys.
            enter: called first in the forked process, for its streams, environment and working directory.

        Raises:
            OSError: the system allows no further process.
        """
        return Forked(fork(lambda mask: self._live(words, enter, mask)))

    def _live(self, words: Sequence[str], enter: Callable[[], None], mask: Iterable[int]) -> None:
        """Be a worker, and end."""
        code: object = ExitCode.WORK_FAILED
        try:
            begin()
            enter()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._obey(words)
            code = ExitCode.DONE
        except SystemExit as ended:
            code = ended.code
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        except BaseException as error:
            report(error)
        finally:
            end(code if isinstance(code, int) else ExitCode.DONE if code is None else ExitCode.WORK_FAILED)


class Forked:
    """A forked process, with the part of `subprocess.Popen` that a pool needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        """Wait for the end; raises TimeoutExpired where that takes longer than `timeout` seconds."""
        end = monotonic() + timeout
        while (code := self.poll()) is None:
            if monotonic() > end:
                raise TimeoutExpired(str(self.pid), timeout)
            sleep(POLL_SECONDS)
        return code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # Another process may have the id of one that ended.
        if self.poll() is None:
            os.kill(self.pid, number)


def fork(live: Callable[[Iterable[int]], None]) -> int:
    """Fork a process for `live`, which ends it, and return its id.

    Args:
        live: called in the forked process with the mask of signals that this one has. Until it sets that, none of
            `ENDING` comes, as it could not end by one.

    Raises:
        OSError: the system allows no further process.
    """
    flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        pid = os.fork()
        if pid == 0:
            try:
                live(before)
            finally:  # whatever comes in between, it must not go on as this process
                os._exit(ExitCode.WORK_FAILED)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def begin() -> None:
    """Forget in a forked process what belongs to the first one: handlers of signals, and duties at its end."""
    signal.set_wakeup_fd(-1)
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    atexit._clear()
    # Temporary folders of the first process, among others, are not to be removed by this one.
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
    if (processes := sys.modules.get("multiprocessing.util")) is not None:
        processes._finalizer_registry.clear()
        processes._run_after_forkers()
        atexit.register(processes._exit_function)


def end(code: int, *, threads: bool = True) -> None:
    """End a forked process as Python ends others, which wait for `threads` that are no daemons."""
    try:
        if threads:
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        flush()
    finally:
        os._exit(code)


def flush() -> None:
    """Write what Python and C libraries hold in buffers, or a forked process would write it again."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ctypes.CDLL(None).fflush(None)


def _descriptors() -> set[str]:
    """Return the open file descriptors of this process with what is open there."""
    found = set()
    for entry in _listed("fd"):
        with suppress(OSError):  # the descriptor of this folder, which is closed by now
            found.add(f"{entry.name} {entry.readlink()}")
    return found


def threads() -> int:
    """Count the threads of this process, those of C libraries too; 0 where the system does not say."""
    return len(_listed("task"))


def _listed(folder: str) -> list[Path]:
    """List a folder of this process in /proc, which Linux alone has."""
    try:
        return list(Path("/proc/self", folder).iterdir())
    except OSError:
        return []
