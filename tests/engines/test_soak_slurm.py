"""Runs that are longer than their task may be, on a Slurm whose tasks are requeued and killed, and stopped midway."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import programs
import promise
import pytest
import slurm_cluster
import tiny
from slurm_cluster import ask

from pairsearch.search.database.connection import Database

pytestmark = pytest.mark.soak

REST = 2.0
"""Seconds for each of forty epochs: a run takes 80 s, and a task may take 60 s."""


def tasks(configuration: Path) -> list[str]:
    return ask(configuration, "squeue", "-h", "-r", "-o", "%i").split()


def test_long_runs_end_once_whatever_happens_to_their_tasks(
    tmp_path: Path, database: Database, storage: Path, configuration: Path, show: Callable[[str], None]
) -> None:
    expected = promise.undisturbed(tmp_path / "alone", promise.create_long, rest=0)
    study = tmp_path / "study"
    file = promise.create_long(study, storage.read_text(), rest=REST)
    told = {"PAIRSEARCH_STORAGE_FILE": str(storage)}
    where = ("--on", "slurm", "--at", str(configuration), "--workers", "4")
    # Slurm looks at limits twice a minute, so that the signal comes at some time in the first thirty seconds.
    limits = ("--option", "time=00:01:00", "--option", "signal=B:USR1@30")
    begun = time.monotonic()

    def running() -> int:
        [(count,)] = tiny.rows(database, "jobs", "count(*)", "where state = 'running'")
        return int(count)

    def lines() -> str:
        return "".join(log.read_text(encoding="utf-8") for log in sorted(study.glob("pairsearch-*.log")))

    # The launcher is killed, and called again; meanwhile one task is requeued, and one worker killed.
    launcher = programs.start_forked(study, "run", str(file), *where, *limits, **told)
    programs.wait_for(lambda: running() == 4, "four jobs that run", 120)
    launcher.kill()
    launcher.join()
    first = tasks(configuration)
    assert len(first) == 4
    ask(configuration, "scontrol", "requeue", first[0])
    slurm_cluster.workers(configuration)[-1].send_signal(signal.SIGKILL)
    again = programs.start_forked(study, "run", str(file), *where, *limits, **told)
    programs.wait_for(lambda: len(tasks(configuration)) == 4, "a task in place of the killed one", 120)
    most = 0

    def handed_over() -> bool:
        nonlocal most
        most = max(most, len(tasks(configuration)))
        return lines().count("DUE TO JOB REQUEUE") >= 5

    programs.wait_for(handed_over, "tasks at their limits", 300)
    assert most == 4, "no more workers than asked for"

    # Stopped midway, nothing is left.
    # It waits until the lease of the killed worker has run out.
    stopped = programs.ended(programs.start_forked(tmp_path, "stop", "walk", **told), tmp_path, patience=200)
    assert stopped.code == 0, stopped.err
    assert "slurm: 4 workers ended" in stopped.out
    assert tasks(configuration) == []
    assert slurm_cluster.workers(configuration) == []
    assert running() == 0
    assert promise.trial_states(database)["RUNNING"] == 0
    assert programs.ended(again, study, patience=120).code != 0
    done = sum(count for (count,) in tiny.rows(database, "runs", "count(*)"))
    show(f"slurm: stopped after {time.monotonic() - begun:.0f} s with {done} of 8 runs")

    # And on again to the end.
    last = programs.start_forked(study, "run", str(file), *where, *limits, **told)
    ended = programs.ended(last, study, patience=900)
    assert ended.code == 0, ended.err
    promise.assert_kept(database, expected, points=promise.LONG_POINTS)
    assert tiny.rows(database, "checkpoints") == []
    assert tasks(configuration) == []
    epochs = len((study / "walk.py.epochs").read_text(encoding="utf-8").splitlines())
    show(
        f"slurm: {lines().count('DUE TO JOB REQUEUE')} requeues in {time.monotonic() - begun:.0f} s, {epochs} epochs "
        f"for {40 * 2 * promise.LONG_POINTS}"
    )
