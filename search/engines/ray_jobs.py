"""Workers on a Ray cluster: each is a job of Ray Jobs, which goes on when the program that submitted it has ended."""

from __future__ import annotations

import logging
import os
import shlex
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import requests
from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from ray.util.state import list_nodes
from ray.util.state.exception import RayStateApiException

from pairsearch.search.common.errors import InputError
from pairsearch.search.engines.contract import (
    Count,
    Engine,
    EngineError,
    Order,
    amounts,
    is_here,
    number,
    take,
)
from pairsearch.search.workers import program

USUAL = "http://127.0.0.1:8265"
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""The variables in which Ray looks for an address, the first one first."""
FILES = "files"
"""The folder of a job's files. Ray puts what is above it before the standard library of every process of the job."""
MOST_NODES = 1000
"""How many nodes are looked at."""
STOP_SECONDS = "60"
"""How long a worker that was told to end has for that, for Ray's variable RAY_JOB_STOP_WAIT_TIME_S."""

for _name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they tell of each upload


class RayJobs(Engine):
    """The Ray cluster whose dashboard is at an address.

    Options: `cpus` (1), `gpus` (0, or 1 for workers on GPUs), `memory` in bytes, and `resources` as NAME:AMOUNT,... are
    what a worker asks for; `python` is the interpreter that has pairsearch on the cluster: this one where the cluster
    is this machine alone, else `python`.
    """

    name: ClassVar[str] = "ray"

    def __init__(self, address: str | None, options: Mapping[str, str]) -> None:
        found = address or next(filter(None, map(os.environ.get, ADDRESSES)), USUAL)
        super().__init__(found, take(options, "cpus", "gpus", "memory", "resources", "python", engine="ray"))
        if not found.startswith(("http://", "https://")):
            raise InputError(f"--at {found}: expected the address of Ray's dashboard, http://HOST:8265")
        self._wanted = {
            name: number(f"{name}={text}", text)
            for name, text in options.items()
            if name in ("cpus", "gpus", "memory")
        }
        self._resources = amounts(options, "resources")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Have Ray use our address, over which its variables win, and translate its errors."""
        before = os.environ.get(ADDRESSES[0])
        os.environ[ADDRESSES[0]] = self.address or USUAL
        try:
            yield
        except (RuntimeError, OSError, RayError, RayStateApiException, requests.RequestException) as error:
            raise EngineError(f"ray at {self.address}: {str(error).strip()}") from None
        finally:
            del os.environ[ADDRESSES[0]]
            if before is not None:
                os.environ[ADDRESSES[0]] = before

    @cached_property
    def _client(self) -> JobSubmissionClient:
        return JobSubmissionClient(self.address)

    @cached_property
    def local(self) -> bool:
        """Whether every node has an address of this machine; a port on loopback may lead anywhere."""
        with self._asked():
            address = self._client.get_address()  # it says best why there is no connection
            nodes = list_nodes(address, limit=MOST_NODES, raise_on_missing_output=False)
        return all(is_here(node.node_ip) for node in nodes if node.state == "ALIVE")

    def check(self, order: Order, workers: int) -> None:
        """Ask Ray for its version, which it has as soon as it takes jobs."""
        with self._asked():
            self._client.get_version()

    def submit(self, order: Order, workers: int) -> dict[str, int]:
        python = self.options.get("python", "python")
        ours = self.local and "python" not in self.options
        words = program.command(*order.words) if ours else [python, "-P", "-m", "pairsearch", *order.words]
        gpus = self._wanted.get("gpus", float("--device cuda" in " ".join(order.words)))
        made: list[str] = []
        try:
            with self._asked(), tempfile.TemporaryDirectory(prefix="pairsearch-") as folder:
                order.write_files(Path(folder, FILES))
                for _ in range(workers):
                    made.append(f"{order.name}-{uuid.uuid4().hex[:12]}")
                    self._client.submit_job(
                        entrypoint=f"mkdir -p {FILES} && cd {FILES} && exec {shlex.join(words)}",
                        submission_id=made[-1],
                        runtime_env={
                            "working_dir": folder,
                            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS, **order.environment},
                        },
                        entrypoint_num_cpus=self._wanted.get("cpus", 1.0),
                        entrypoint_num_gpus=gpus,
                        entrypoint_memory=int(self._wanted.get("memory", 0)),
                        entrypoint_resources=self._resources or None,
                    )
        except BaseException:
            with suppress(EngineError):
                self.stop(made)
            raise
        return dict.fromkeys(made, 1)

    def _jobs(self, ids: Collection[str]) -> dict[str, JobDetails]:
        with self._asked():
            found = self._client.list_jobs()
        return {job.submission_id: job for job in found if job.submission_id and job.submission_id in ids}

    def count(self, ids: Collection[str]) -> dict[str, Count]:
        counts = {JobStatus.PENDING: Count(1, 0), JobStatus.RUNNING: Count(0, 1)}
        jobs = self._jobs(ids)
        return {one: counts.get(jobs[one].status, Count(0, 0)) if one in jobs else Count(0, 0) for one in ids}

    def stop(self, ids: Collection[str]) -> None:
        """Stop the jobs. Ray starts one that waits for its place as soon as there is one, and then ends it at once."""
        for one, count in self.count(ids).items():
            if count.alive:
                with self._asked():
                    self._client.stop_job(one)

    def last_line(self, ids: Collection[str]) -> str:
        """Return the last line of a job that failed, or how it ended where it printed none."""
        for job in self._jobs(ids).values():
            if job.status == JobStatus.FAILED and (lines := (job.message or "").strip().splitlines()):
                # A sentence of Ray's, and the end of the job's log, which begins with lines of Ray's.
                silent = "Running entrypoint for job" in lines[-1]
                return lines[0].partition(",")[0] if silent else lines[-1]
        return ""
