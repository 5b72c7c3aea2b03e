"""Runs a program, and ends it with all that it started, whatever becomes of the process that asked for it.

It is a program too, `python supervisor.py GRACE FOLDER WORD...`, and imports nothing of pairsearch, to start in
milliseconds. Standard input is a pipe whose other end the asking process holds. A byte, or the end of that process, by
which the pipe ends, has the program get SIGTERM, and SIGKILL after GRACE seconds. On Linux, processes that leave the
program's process group are found too. Where the pipe has ended when all is over, FOLDER is removed. The exit status is
the program's.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress

# Of Linux's prctl.
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36
LEFT_SECONDS = 1.0
"""How long processes that a program has left behind have after SIGTERM."""
KILLED_SECONDS = 5.0
POLL_SECONDS = 0.02
TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def prctl(option: int, argument: int) -> None:
    """Ask Linux for something; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, argument)


def become(words: list[str]) -> None:
    """Become the program, in a process group of its own."""
    os.setpgid(0, 0)
    prctl(SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    for number in (*TAKEN, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TAKEN)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    try:
        os.execvp(words[0], words)  # noqa: S606 - the definition names it
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode())


def start(words: list[str]) -> Group:
    """Start the program."""
    prctl(SET_CHILD_SUBREAPER, 1)
    # What is sent to the program before it can take a signal waits until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    pid = os.fork()
    if pid == 0:
        try:
            become(words)
        finally:
            os._exit(127)
    return Group(pid)


class Group:
    """A process that this one has forked, in a process group of its own, with all processes that come from it.

    Attributes:
        status: as `waitpid` gives it; None while it runs.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        with suppress(OSError):  # it may have done so itself, and have ended since
            os.setpgid(pid, pid)

    def reap(self) -> bool:
        """Take notice of ends; return whether a process is left."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.pid:
                    self.status = ended[1]
            return True
        try:
            os.killpg(self.pid, 0)
        except OSError:
            return False
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the process group, and to processes that have left it."""
        with suppress(OSError):
            os.killpg(self.pid, number)
        for pid in children():
            with suppress(OSError):
                if os.getpgid(pid) != self.pid:
                    os.kill(pid, number)

    def end_others(self, grace: float) -> None:
        """End what the process has left behind, which has some seconds after SIGTERM, where it has any."""
        if grace and self.reap():
            self.signal(signal.SIGTERM)
        began = time.monotonic()
        while self.reap() and (passed := time.monotonic() - began) < grace + KILLED_SECONDS:
            if passed >= grace:
                # Again and again: children of one that ends become children of this process.
                self.signal(signal.SIGKILL)
            time.sleep(POLL_SECONDS)


def children() -> list[int]:
    """Return the ids of the children of this process; none where the system has no /proc."""
    found = []
    with suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - pathlib takes longer to import than this to run
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found


def wake_up() -> int:
    """Return a descriptor that becomes readable when a process ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def watch(program: Group, grace: float, ends: int) -> None:
    """Wait until the program ends by itself, or its time is up after it was asked to end.

    Args:
        ends: becomes readable when a process ends.
    """
    waited, deadline = [0, ends], float("inf")
    while program.status is None and (left := deadline - time.monotonic()) > 0:
        ready = select.select(waited, [], [], None if left == float("inf") else left)[0]
        if ends in ready:
            os.read(ends, 4096)
        if 0 in ready:
            waited.remove(0)
            deadline = time.monotonic() + grace
            program.signal(signal.SIGTERM)
        program.reap()


def deserted() -> bool:
    """Whether the asking process is gone, and its pipe with it."""
    while select.select([0], [], [], 0)[0]:
        if not os.read(0, 4096):
            return True
    return False


def main(words: list[str]) -> None:
    """Run a program, and end as it does."""
    grace, folder, command = float(words[0]), words[1], words[2:]
    for number in TAKEN:
        signal.signal(number, signal.SIG_IGN)
    ends = wake_up()
    program = start(command)
    # Standard error stays open until this process ends, by which its reader notices that at once.
    os.close(1)
    watch(program, grace, ends)
    if program.status is None:
        program.signal(signal.SIGKILL)
    program.end_others(LEFT_SECONDS)
    if deserted():
        import shutil  # noqa: PLC0415 - it is seldom needed

        shutil.rmtree(folder, ignore_errors=True)
    finish(program.status)


def finish(status: int | None) -> None:
    """End this process by the status of another."""
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource  # noqa: PLC0415 - it is seldom needed

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
