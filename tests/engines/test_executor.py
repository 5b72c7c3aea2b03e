"""Workers by the executors of `concurrent.futures`."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import programs
import promise
import psutil
import pytest
import tiny
from gathered import Started

import pairsearch
from pairsearch.search.engines.contract import Order
from pairsearch.search.engines.executor import Executed

POOL = """
import multiprocessing, subprocess, sys, time
from pairsearch.search.engines import spawned

def hold():
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    print(process.pid, flush=True)
    spawned.LOOK_SECONDS = 0.1
    spawned._wait(process)

if __name__ == "__main__":
    started = [multiprocessing.get_context(sys.argv[1]).Process(target=hold) for _ in range(2)]
    for one in started:
        one.start()
    time.sleep(60)
"""
EPOCHS = 20
ORDER = Order(words=("worker",), environment={}, folder=Path("/"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    return promise.undisturbed(
        tmp_path_factory.mktemp("long") / "peace", promise.create_long, rest=0, epochs=EPOCHS
    )


@contextmanager
def study_in(folder: Path, rest: float = 0.0) -> Iterator[pairsearch.Study]:
    file = promise.create_long(folder / "study", f"sqlite:///{folder / 'long.db'}", rest=rest, epochs=EPOCHS)
    with pairsearch.open(str(file), storage=f"sqlite:///{folder / 'long.db'}") as study:
        study._machine = replace(study._machine, lease=4.0)
        yield study


def assert_kept(study: pairsearch.Study, expected: list[tuple[object, ...]]) -> None:
    promise.assert_kept(study._database, expected, promise.LONG_POINTS)


def test_threads_that_are_interrupted_end_their_workers_and_go_on(
    tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    with study_in(tmp_path, rest=0.05) as study:

        def running() -> bool:
            return tiny.rows(study._database, "jobs", "count(*)", "where state = 'running'") != [(0,)]

        def interrupt(_: pairsearch.Progress) -> None:
            if running():
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(1) as executor:
            study.run(executor=executor, workers=2, on_progress=interrupt)
        assert not running()
        assert study.progress().covered < promise.LONG_POINTS
        with ThreadPoolExecutor(2) as executor:
            study.run(executor=executor, workers=2)
        assert_kept(study, expected)
        with pytest.raises(
            pairsearch.Error, match="no more work: cannot schedule new futures after shutdown"
        ):
            Executed(executor).submit(ORDER, 1)


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=pytest.mark.soak)])
# Python 3.12 warns of forks beside threads.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes(method: str, tmp_path: Path, expected: list[tuple[object, ...]]) -> None:
    with study_in(tmp_path) as study:
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
            study.run(executor=executor, workers=2)
        assert_kept(study, expected)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_of_a_pool_end_where_its_own_process_is_killed(method: str, tmp_path: Path) -> None:
    file = tmp_path / "pool.py"
    file.write_text(POOL)
    command = [sys.executable, "-P", str(file), method]
    with subprocess.Popen(command, env=programs.environment(), stdout=subprocess.PIPE, text=True) as pool:
        assert pool.stdout is not None
        held = [psutil.Process(int(pool.stdout.readline())) for _ in range(2)]
        pool.kill()
        _, left = psutil.wait_procs(held, timeout=programs.PATIENCE)
        for process in left:
            process.kill()
    assert not left


@pytest.mark.soak
def test_dask_s_executor(started: Started, tmp_path: Path, expected: list[tuple[object, ...]]) -> None:
    from distributed import Client  # noqa: PLC0415 - the others go without it

    with study_in(tmp_path) as study, Client(started("dask")().address, set_as_default=False) as client:
        study.run(executor=client.get_executor(pure=False), workers=2)
        assert_kept(study, expected)
