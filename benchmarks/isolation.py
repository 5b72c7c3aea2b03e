"""Measures what a process of its own costs each run.

A study of runs that take no time is trained with `isolate` and without, by a worker's own functions and no database:
with a problem that imports nothing, and with one that imports PyTorch. Printed are milliseconds, and milliseconds of
processor time, that a run takes more than without. Example:

    python benchmarks/isolation.py --runs 200
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from benchfile import describe_machine, say

from pairsearch.search.common import threads
from pairsearch.search.workers.isolation import isolated
from pairsearch.search.workers.recorder import train
from pairsearch.studies.definition import parse
from pairsearch.studies.loading import load

CODE = """
{imports}
def fit(params, run, report):
    for epoch in range(1, run.epochs + 1):
        report(epoch, loss=1.0)
"""


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def measure(folder: Path, module: str, isolate: bool, count: int) -> tuple[float, float]:
    """Return seconds, and seconds of processor time, that a run takes, the start of the nursery left out."""
    raw = {"name": "none", "problem": f"{module}.py:fit", "metric": "loss", "epochs": 10, "isolate": isolate}
    given = parse(raw | {"grid": {"x": [1]}}, "none")
    loaded, [run] = load(given, folder), given.runs("fold", [0])
    used = []
    for runs in (1, count + 1):
        before, began = cpu_seconds(), time.perf_counter()
        with isolated(loaded) as trained:
            for _ in range(runs):
                train(trained, {"x": 1}, [run], lambda _: True)
        used.append((time.perf_counter() - began, cpu_seconds() - before))
    (first, first_cpu), (all_of_them, all_cpu) = used
    return (all_of_them - first) / count, (all_cpu - first_cpu) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="runs of each kind")
    count = parser.parse_args().runs
    say(str(describe_machine()["hardware"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # PyTorch last: what is imported stays.
        for module, imports in (("plain", ""), ("with_torch", "import torch")):
            (folder / f"{module}.py").write_text(CODE.format(imports=imports), encoding="utf-8")
            (here, here_cpu), (apart, apart_cpu) = (
                measure(folder, module, one, count) for one in (False, True)
            )
            say(
                f"{module}: {1e3 * (apart - here):.1f} ms a run, {1e3 * (apart_cpu - here_cpu):.1f} ms of the processor"
            )


if __name__ == "__main__":
    threads.limit()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
