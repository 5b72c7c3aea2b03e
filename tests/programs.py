"""Runs the real program as processes of its own, with a small environment and their own standard streams."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

from pairsearch.search.cli.group import COMMANDS
from pairsearch.search.common import threads

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0
"""Seconds after which a condition that a test waits for counts as never coming true."""

PRELOADED = (
    "pairsearch.search.cli.app",
    "pairsearch.search.setup.opening",
    "pairsearch.search.workers.worker",
    # What those import when they need it.
    *(f"pairsearch.search.cli.commands.{module}" for module in sorted({one.module for one in COMMANDS})),
    "pairsearch.search.setup.creation",
    "pairsearch.search.workers.models",
    "pairsearch.studies.pairs.problem",
    "pairsearch.models.compiled",
    "alembic.context",
    "sklearn.datasets",
    "sklearn.model_selection",
    "pairsearch.studies.estimator.problem",
    "sklearn.ensemble",
    "torch._dynamo",  # PyTorch's first optimiser does
    "pairsearch.search.report.document",
    "pairsearch.search.report.page",
    "pairsearch.search.results.export",
    "pairsearch.search.verdict.judging",
    "programs",
    "warm",
)


SHARED = "PAIRSEARCH_TESTS_FORKS"
"""An environment variable: the address and the key of the process that several test processes fork programs from."""


def share_forks() -> None:
    """Start the process that programs are forked from, for all test processes that this one is going to start."""
    _forks()
    server = forkserver._forkserver
    key = getattr(server, "_forkserver_authkey", None) or b""  # since Python 3.14
    os.environ[SHARED] = f"{key.hex()} {server._forkserver_address}"


@cache
def _forks() -> multiprocessing.context.ForkServerContext:
    """Makes processes by forking one that has imported what programs need: the shared one, or one of its own."""
    context = multiprocessing.get_context("forkserver")
    if SHARED in os.environ:
        server = forkserver._forkserver
        key, _, server._forkserver_address = os.environ[SHARED].partition(" ")
        server._forkserver_authkey = bytes.fromhex(key)
        _, server._forkserver_alive_fd = os.pipe()  # programs get it, as from a server of our own
        server.ensure_running = resource_tracker.ensure_running
        return context
    context.set_forkserver_preload([*PRELOADED])
    # It takes the modules of this folder from nowhere else: Python 3.11 does not hand it the path of this process.
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(__file__).parent))
        for name in threads.VARIABLES:
            patched.setenv(name, "1")  # pools of threads do not outlive a fork
        forkserver.ensure_running()
    return context


@dataclass(frozen=True)
class Ended:
    """A program that ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a program that refused its input; anything else fails the test."""
        lines = self.err.splitlines()
        assert (self.code, len(lines)) == (2, 1), f"exit code {self.code}, standard error: {self.err}"
        assert lines[0].startswith("error: "), lines[0]
        return lines[0]


def environment(**variables: str) -> dict[str, str]:
    """What a program of the tests sees of the environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "NUMBA_CACHE_DIR") if name in os.environ}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"} | variables


Prepare = Callable[[], None]
"""Called in a program's process before the program, to break something in it."""


def _program(
    arguments: Sequence[str],
    variables: Mapping[str, str],
    folder: str,
    prepare: Prepare | None,
    module: str | None = None,
    streams: tuple[str, str] = ("out", "err"),
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    # The process that this one is forked from may have looked for it already.
    tempfile.tempdir = None
    for number, name in enumerate(streams, 1):
        descriptor = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["pairsearch", *arguments]
    encoding = variables.get("PYTHONIOENCODING")
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding=encoding)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding=encoding, errors="backslashreplace")
    # It may have children, unlike other processes that end with the tests.
    multiprocessing.current_process()._config["daemon"] = False
    from pairsearch.search.cli.app import main  # noqa: PLC0415

    if prepare is not None:
        prepare()
    try:
        if module is None:
            main()
            return
        # As Python does it.
        sys.path.insert(0, folder)
        if module.endswith(".py"):
            runpy.run_path(module, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # What C code keeps in its buffers is written at the end of a process, but not of a forked one.
        ctypes.CDLL(None).fflush(None)


def run(
    folder: Path,
    *arguments: str,
    prepare: Prepare | None = None,
    module: str | None = None,
    **variables: str,
) -> Ended:
    """Run the program to its end in a process forked from one that has imported PyTorch already.

    Args:
        folder: its working directory, where its output is kept too.
        prepare: see `Prepare`; a function of a module, for it goes to another process.
        module: another program, as `python -m` takes it, or a file.
        variables: further environment variables.
    """
    return ended(start_forked(folder, *arguments, prepare=prepare, module=module, **variables), folder)


def start_forked(
    folder: Path,
    *arguments: str,
    prepare: Prepare | None = None,
    module: str | None = None,
    streams: tuple[str, str] = ("out", "err"),
    **variables: str,
) -> multiprocessing.context.ForkServerProcess:
    """Start the program as `run` does, and leave it running; `streams` are the files of its output and its errors."""
    for name in streams:
        # As in a shell, the file is there when the next command starts.
        (folder / name).write_bytes(b"")
    process = _forks().Process(
        target=_program,
        args=(arguments, environment(**variables), str(folder), prepare, module, streams),
        daemon=True,
    )
    process.start()
    return process


def ended(
    process: multiprocessing.context.ForkServerProcess, folder: Path, patience: float = PATIENCE
) -> Ended:
    """Wait for the end of a program that `start_forked` started."""
    process.join(patience)
    assert process.exitcode is not None, f"still running: {(folder / 'err').read_text()}"
    return Ended(process.exitcode, (folder / "out").read_text(), (folder / "err").read_text())


def start_together(
    target: Callable[..., None], count: int, *arguments: object
) -> list[multiprocessing.context.ForkServerProcess]:
    """Start a function in so many processes at once."""
    processes = [_forks().Process(target=target, args=arguments, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


def together(target: Callable[..., None], count: int, *arguments: object) -> list[int | None]:
    """Call a function in so many processes at once; their exit codes."""
    processes = start_together(target, count, *arguments)
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start the program as a user does, and leave it running; its output goes to pipes.

    It takes seconds of the processor's time: `start_forked` does where it does not matter how a process begins.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "pairsearch", *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(
    condition: Callable[[], bool], what: str, patience: float = PATIENCE, pause: float = 0.05
) -> None:
    """Wait until a condition holds, or fail the test, also in an objective, whose exceptions a worker takes.

    Where it takes long to look, a longer pause leaves the processor to what is waited for.
    """
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {patience} s in vain for {what}")
        time.sleep(pause)
