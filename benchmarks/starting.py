"""Measures how the workers of `pairsearch run` start: when they claim, and what memory each has of its own.

`run` searches WSAL at batch size 50 on SQLite. Printed are the seconds from its call to the first claim and from there
to the last worker's first claim, the most unique memory (USS) that a worker was seen with, and the CPU time up to the
last first claim. Kernels should be compiled before (`pairsearch doctor wsal`). Example:

    python benchmarks/starting.py --workers 8
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import psutil
from benchfile import describe_machine, say
from sqlalchemy import select

from pairsearch.search.common.errors import PairsearchError
from pairsearch.search.database.connection import open_database
from pairsearch.search.database.tables import configurations
from pairsearch.search.workers import program

PATIENCE = 600.0
LOOK_SECONDS = 0.02
MEMORY_SECONDS = 0.25


def definition(folder: Path) -> Path:
    """Write WSAL's definition with batch size 50 alone."""
    text = (files("pairsearch.studies") / "wsal.toml").read_text("utf-8")
    changed = text.replace('name = "wsal"', 'name = "starting"').replace("[1, 10, 25, 50]", "[50]")
    # The paper's configuration has another batch size.
    file = folder / "starting.toml"
    file.write_text(changed.partition("# The paper's Table 1")[0], encoding="utf-8")
    return file


def family(run: psutil.Process) -> list[psutil.Process]:
    """Return a process with those that it has started."""
    with suppress(psutil.Error):
        return [run, *run.children(recursive=True)]
    return []


def cpu_seconds(run: psutil.Process) -> float:
    """Return the CPU time of a process and of those that it has started."""
    total = 0.0
    for process in family(run):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def claims(url: str, workers: int, run: psutil.Process, begun: float) -> list[float]:
    """Wait until so many workers have claimed; return the seconds after which each was first seen with a claim."""
    seen: dict[str, float] = {}
    while len(seen) < workers:
        if time.monotonic() - begun > PATIENCE or not run.is_running():
            raise SystemExit("`run` has ended too early, or has not started its workers")
        time.sleep(LOOK_SECONDS)
        # There is no database at first.
        with suppress(PairsearchError):
            database = open_database(url)
            with database.read() as connection:
                names = connection.execute(select(configurations.c.worker).distinct()).scalars().all()
            database.close()
            for name in names:
                if name is not None:
                    seen.setdefault(name, time.monotonic() - begun)
    return sorted(seen.values())


def memory(run: psutil.Process, seconds: float) -> list[float]:
    """Watch the workers for so many seconds; return the most unique memory of each in MB, in order."""
    most: dict[int, float] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end and run.is_running():
        for process in family(run)[1:]:
            with suppress(psutil.Error):
                own = process.memory_full_info().uss / 1e6
                most[process.pid] = max(most.get(process.pid, 0.0), own)
        time.sleep(MEMORY_SECONDS)
    return sorted(most.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=8, help="workers of the run (8)")
    parser.add_argument("--data", default="mnist", help="the study's data (mnist)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long memory is watched (30)")
    given = parser.parse_args()
    say(describe_machine()["hardware"]["processor"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'starting.db'}"
        words = ("--workers", str(given.workers), "--data", given.data, "--storage", url, "--quiet")
        command = program.command("run", str(definition(folder)), *words)
        begun = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder) as started:
            run = psutil.Process(started.pid)
            try:
                times = claims(url, given.workers, run, begun)
                say(
                    f"first claim: {times[0]:.2f} s after the call; last first claim {times[-1] - times[0]:.2f} s later"
                )
                say(f"CPU time until then: {cpu_seconds(run):.1f} s")
                own = memory(run, given.seconds)
                say("own memory of each worker, MB: " + " ".join(f"{value:.0f}" for value in own))
                say(f"own memory of the run, MB: {run.memory_full_info().uss / 1e6:.0f}")
            finally:
                started.terminate()


if __name__ == "__main__":
    main()
