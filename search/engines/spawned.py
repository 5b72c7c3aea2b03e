"""Runs one worker in a process of its own, for engines that call a Python function on another machine."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from pairsearch.search.engines.contract import Order
from pairsearch.search.workers import program

LOOK_SECONDS = 1.0


def run_worker(order: Order, begin: Callable[[subprocess.Popen[bytes]], None] = lambda _: None) -> str:
    """Run a worker of an order to its end, and return the last line that it printed.

    The worker's standard input is a pipe of this process: where this process dies, or the one that has it in a pool, it
    hands back and ends. Its working directory is that of the order if this machine sees it, with the same files in it;
    else one is made of the files.

    Args:
        begin: called with the process, which ends as soon as its standard input is closed.

    Raises:
        RuntimeError: it ended with an error; the message has its last line.
    """
    there = _is_here(order)
    with (
        nullcontext(order.folder) if there else tempfile.TemporaryDirectory(prefix="pairsearch-") as here,
        tempfile.TemporaryFile() as log,
    ):
        if not there:
            order.write_files(Path(here))
        process = subprocess.Popen(  # noqa: S603 - our own program
            program.command(*order.words, "--attached"),
            env=program.environment() | dict(order.environment),
            cwd=here,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            begin(process)
            code = _wait(process)
        finally:
            assert process.stdin is not None  # noqa: S101 - it was asked for
            process.stdin.close()
            process.wait()
        if code:
            raise RuntimeError(program.ending("worker", code, log))
        return program.last_line(log)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a worker, which follows when the process dies that has this one in a pool."""
    # A process of a pool does not notice it in the middle of a call. Where it was forked, siblings keep open what
    # `is_alive` looks at; where a server forks, its parent is that.
    pool, parent = multiprocessing.parent_process(), os.getppid()
    while True:
        try:
            return process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            orphaned = pool is not None and (os.getppid() != parent or not pool.is_alive())
            if orphaned and process.stdin is not None:
                process.stdin.close()


def _is_here(order: Order) -> bool:
    try:
        same = ((order.folder / name).read_bytes() == content for name, content in order.files.items())
        return order.folder.is_dir() and all(same)
    except OSError:
        return False
