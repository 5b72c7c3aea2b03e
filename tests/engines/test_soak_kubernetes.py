"""A study on Kubernetes whose pod and launcher are killed, which is stopped midway, and goes on."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import kubernetes_api
import programs
import promise
import pytest
import tiny
from kubernetes_api import IMAGE

from pairsearch.search.database.connection import open_database

pytestmark = pytest.mark.soak


def test_runs_end_once_whatever_happens_to_pods_and_launcher(
    tmp_path: Path, postgresql_url: str, show: Callable[[str], None]
) -> None:
    expected = promise.undisturbed(tmp_path / "alone", promise.create_long, ["--top", "1"], rest=0)
    file = promise.create_long(tmp_path / "study", postgresql_url, rest=0.3)
    database = open_database(postgresql_url)
    where = (file.name, "--on", "k8s", "--workers", "4", "--option", f"image={IMAGE}")

    def running() -> int:
        [(count,)] = tiny.rows(database, "jobs", "count(*)", "where state = 'running'")
        return int(count)

    with kubernetes_api.cluster(tmp_path) as stub:
        stub.secrets["pairsearch"] = {"storage": postgresql_url.encode()}
        told = {"KUBECONFIG": os.environ["KUBECONFIG"], "PAIRSEARCH_STORAGE": postgresql_url}

        def alive() -> list[kubernetes_api.Pod]:
            return [pod for pod in stub.pods if pod.alive]

        launcher = programs.start_forked(file.parent, "run", *where, "--lease", "5", **told)
        programs.wait_for(lambda: running() == 4, "four jobs that run", 120)
        launcher.kill()
        launcher.join()
        os.kill(alive()[0].process.pid, signal.SIGKILL)
        programs.wait_for(lambda: len(stub.pods) == 5, "a successor")
        again = programs.start_forked(file.parent, "run", *where, "--lease", "5", **told)
        programs.wait_for(lambda: "4 workers there already" in (file.parent / "out").read_text(), "the next")
        programs.wait_for(lambda: running() == 4, "four jobs that run", 120)
        assert len(alive()) == 4

        stopped = programs.run(tmp_path, "stop", "walk", **told)
        assert (stopped.code, stopped.err) == (0, "")
        # Those that read it in the ledger at once have ended before the cluster is asked.
        assert re.search(r"^k8s: \d workers ended$", stopped.out, re.MULTILINE)
        assert (stub.stored, alive(), running()) == ({}, [], 0)
        assert promise.trial_states(database)["RUNNING"] == 0
        assert programs.ended(again, file.parent, patience=120).code != 0
        [(done,)] = tiny.rows(database, "runs", "count(*)")
        show(f"k8s: stopped with {done} of 8 runs")

        for command in (("run",), ("evaluate", "--top", "1")):
            last = programs.start_forked(file.parent, *command, *where, **told)
            assert programs.ended(last, file.parent, patience=300).code == 0
        assert not alive()
    promise.assert_kept(database, expected, promise.LONG_POINTS)
    database.close()
