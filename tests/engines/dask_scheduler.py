"""A real Dask scheduler with two workers on loopback, and the engine that uses them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import programs
import psutil
from ports import free_ports

from pairsearch.search.engines.contract import Engine, engine_named

WORKERS = 2
THREADS = 2


@contextmanager
def engine(folder: Path) -> Iterator[Callable[..., Engine]]:
    """Start them, and yield what makes engines of them, of options by name; nothing of them is left."""
    port, dashboard = free_ports(2)
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        scheduler = f"--host 127.0.0.1 --port {port} --dashboard-address 127.0.0.1:{dashboard}"
        _start(stack, folder, "scheduler", *scheduler.split())
        _start(
            stack,
            folder,
            "worker",
            address,
            *f"--host 127.0.0.1 --nworkers {WORKERS} --nthreads {THREADS} --no-dashboard".split(),
            f"--local-directory={folder / 'workers'}",
        )
        log = folder / "scheduler.log"
        programs.wait_for(
            lambda: log.read_text().count("Starting worker compute stream") == WORKERS, "Dask's workers"
        )
        yield lambda **options: engine_named("dask", address, options)


def _start(stack: ExitStack, folder: Path, command: str, *words: str) -> None:
    log = stack.enter_context((folder / f"{command}.log").open("ab"))
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("dask")), command, *words],
        env=programs.environment(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    stack.callback(_kill, process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill it and its nannies' children; workers of ours see the end of their standard input."""
    main = psutil.Process(process.pid)
    every = [main, *main.children(recursive=True)] if process.poll() is None else []
    for one in every:
        one.kill()
    process.wait()
    psutil.wait_procs(every, timeout=programs.PATIENCE)
