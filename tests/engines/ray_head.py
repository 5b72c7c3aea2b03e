"""A real Ray head on loopback, and the engine that uses it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import programs
import psutil
import pytest
from ports import free_ports

from pairsearch.search.engines.contract import Engine, engine_named

CPUS = 4
START_SECONDS = 180.0
# Ray looks for an address of the network where it is given 127.0.0.1.
NODE = "127.0.0.2"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    # Jobs have an environment of their own, so what is started before is started in vain.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}


@contextmanager
def engine(folder: Path) -> Iterator[Callable[..., Engine]]:
    """Start a head, and yield what makes engines of it, of options by name; nothing of it is left."""
    if " " in sys.prefix:
        pytest.skip("Ray starts no head from an environment whose path has a space in it")
    dashboard, client = free_ports(2)
    # The paths of its sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="ray-") as short, (folder / "ray.log").open("wb") as log:
        (folder / "ray").symlink_to(short)
        words = {
            "port": 0,
            "node-ip-address": NODE,
            "dashboard-port": dashboard,
            "dashboard-agent-listen-port": 0,
            "ray-client-server-port": client,
            "min-worker-port": 0,
            "max-worker-port": 0,
            "num-cpus": CPUS,
            "object-store-memory": 80_000_000,
            "temp-dir": short,
        }
        head = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--no-monitor"),
                *(f"--{name}={value}" for name, value in words.items()),
            ],
            env=programs.environment() | SETTINGS,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        address = f"http://127.0.0.1:{dashboard}"
        try:
            programs.wait_for(
                lambda: head.poll() is not None or _answers(address), "a Ray head", START_SECONDS
            )
            assert head.poll() is None, (folder / "ray.log").read_text()
            yield lambda **options: engine_named("ray", address, options)
        finally:
            _kill(head)


def _answers(address: str) -> bool:
    with suppress(OSError), urlopen(f"{address}/api/version") as answer:  # noqa: S310
        return bool(answer.status == 200)
    return False


def _kill(head: subprocess.Popen[bytes]) -> None:
    main = psutil.Process(head.pid)
    every = [main, *main.children(recursive=True)] if head.poll() is None else []
    for process in every:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    head.wait()
    psutil.wait_procs(every, timeout=programs.PATIENCE)
