"""Cores and memory of containers: what control groups of both versions, the affinity mask and the system allow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import programs
import pytest
import tiny

from pairsearch.search.common.machine import Machine, available_memory, cores
from pairsearch.search.database.connection import open_database
from pairsearch.search.ledger.studies import list_studies
from pairsearch.search.setup.arguments import look_up
from pairsearch.search.workers import searching
from pairsearch.search.workers.searching import too_many
from pairsearch.studies.pairs.problem import Pairs

MIB = 2**20
Tree = Callable[[Mapping[str, str]], Path]
WSAL = {
    "name": "short",
    "architecture": "wsal",
    "epochs": 1,
    "folds": 10,
    "sample_size": 1000,
    "validation_size": 200,
    "train_pairs": 1000,
    "test_pairs": 1000,
    "grid": {
        "batch_size": [50],
        "learning_rate": [1e-3],
        "weight_decay": [0.0],
        "hidden_units": [100],
        "aux_loss_weight": [1.0],
    },
}


@pytest.fixture(autouse=True)
def large_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The affinity mask allows 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes a root with files of /proc and /sys/fs/cgroup."""

    def make(files: Mapping[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return make


def v2(path: str, **groups: str) -> dict[str, str]:
    """The files of cgroup v2 with `cpu.max` of groups, `_` for the one at the top."""
    files = {
        f"sys/fs/cgroup/{name.strip('_').replace('__', '/')}/cpu.max": text for name, text in groups.items()
    }
    return {"proc/self/cgroup": f"0::{path}\n"} | files


def v1(controllers: str, folder: str, path: str, quota: str, *, at: str = "") -> dict[str, str]:
    """The files of cgroup v1 with a quota at a path of the hierarchy."""
    group = f"sys/fs/cgroup/{folder}{at}"
    return {
        "proc/self/cgroup": f"12:memory:{path}\n4:{controllers}:{path}\n0::/ignored\n",
        f"{group}/cpu.cfs_quota_us": quota,
        f"{group}/cpu.cfs_period_us": "100000\n",
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        (v2("/", _="max 100000\n"), 64),
        (v2("/", _="100000 100000\n"), 1),
        (v2("/", _="150000 100000\n"), 2),
        (v2("/", _="10000 100000\n"), 1),
        (v2("/", _="25600000 100000\n"), 64),
        (v2("/a/b", a__b="max 100000\n", a="400000 100000\n"), 4),
        (v2("/a/b", a__b="200000 100000\n", a="400000 100000\n"), 2),
        (v2("/../../host/pod", _="300000 100000\n"), 3),
        (v2("/", _="rubbish\n"), 64),
        (v2("/", _="100000 0\n"), 64),
        (v1("cpu,cpuacct", "cpu,cpuacct", "/", "-1\n"), 64),
        (v1("cpu,cpuacct", "cpu,cpuacct", "/", "200000\n"), 2),
        (v1("cpu", "cpu", "/docker/0123", "200000\n", at="/docker/0123"), 2),
        # Inside the container: the host's path is not there, and the container's group is at the top.
        (v1("cpu,cpuacct", "cpu", "/docker/0123", "100000\n"), 1),
        (v1("cpu", "cpu", "/a/b", "300000\n", at="/a"), 3),
        (v1("cpuacct", "cpu", "/", "100000\n"), 64),
    ],
    ids=str,
)
def test_quotas_of_every_group_above_count(tree: Tree, files: dict[str, str], expected: int) -> None:
    assert cores(tree(files)) == expected


def test_the_affinity_mask_counts(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert cores(tree(v2("/", _="400000 100000\n"))) == 2


def test_without_an_affinity_mask_the_cores_are_counted(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert cores(tree({})) == 12


MEMINFO = {"proc/meminfo": "MemTotal:  8388608 kB\nMemAvailable:  4194304 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MEMINFO, 4096 * MIB),
        (
            MEMINFO
            | {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": "max\n",
                "sys/fs/cgroup/memory.max": f"{1024 * MIB}\n",
                "sys/fs/cgroup/memory.current": f"{700 * MIB}\n",
                "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {200 * MIB}\n",
            },
            524 * MIB,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/docker/0123\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{512 * MIB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{600 * MIB}\n",
            },
            0,
        ),
        # v1's way to say that there is no limit.
        (
            MEMINFO
            | {
                "proc/self/cgroup": "9:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
            },
            4096 * MIB,
        ),
    ],
    ids=["unknown", "system", "v2", "v1", "v1 without limit"],
)
def test_memory_is_what_the_system_and_every_group_above_leave(
    tree: Tree, files: dict[str, str], expected: int | None
) -> None:
    assert available_memory(tree(files)) == expected


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= cores() <= 64
    assert (available_memory() or 1) > 0


def test_more_workers_than_memory_holds_are_told_of_in_one_line() -> None:
    each = 480 * MIB
    assert too_many(3, each, 3 * each) is None
    assert too_many(64, each, None) is None
    assert too_many(64, 0, MIB) is None, "nobody knows how much each takes"
    line = too_many(64, each, 5 * each + 1)
    assert line == (
        "note: memory may not hold 64 workers: 2.3 GiB are free and each takes some 0.5 GiB: --workers 5 would fit"
    )
    one = too_many(1, each, each - 1)
    assert one == "note: memory may not hold 1 worker: 0.5 GiB are free and each takes some 0.5 GiB", (
        "nor one"
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what a process has for itself")
def test_a_worker_takes_no_more_than_is_said(tmp_path: Path, sqlite_url: str, mnist_root: Path) -> None:
    """The peak of a real one on MNIST; and not far less, or too few workers would be said to fit.

    The largest of the paper's, for an epoch: more of them take no more.
    """
    tiny.write_toml(tmp_path / "short.toml", **WSAL)
    variables = {"PAIRSEARCH_STORAGE": sqlite_url, "PAIRSEARCH_DATA": str(mnist_root)}
    assert programs.run(tmp_path, "create", "short.toml", "--data", "mnist", **variables).code == 0
    worker = programs.start(tmp_path, "worker", "short.toml", "--max-trials", "1", **variables)
    peak = 0
    while worker.poll() is None:
        with suppress(OSError):  # it has just ended
            for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.005)
    assert worker.communicate()[1] == ""
    assert Pairs.worker_bytes / 2 < peak <= Pairs.worker_bytes, f"{peak / MIB:.0f} MiB"


def test_run_says_so_before_it_starts_them(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    made = programs.run(tmp_path, "create", "tiny.toml", "--data", "digits", PAIRSEARCH_STORAGE=sqlite_url)
    assert made.code == 0
    complaints: list[str] = []

    started: list[list[str]] = []

    def start(words: list[str], *_: object) -> None:
        started.append(words)
        raise KeyboardInterrupt

    monkeypatch.setattr(searching, "Pool", start)
    database = open_database(sqlite_url)
    given = [look_up("tiny", database)]
    machine = Machine(checkpoints=Path("/large"), models=Path("/kept"))
    with pytest.raises(KeyboardInterrupt):
        searching.search(database, list_studies(database), given, machine, 2**20, complain=complaints.append)
    database.close()
    assert started[0][-4:] == ["--checkpoints", "/large", "--models", "/kept"]
    (line,) = complaints
    assert line.startswith("note: memory may not hold 1048576 workers: ")
