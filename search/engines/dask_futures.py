"""Workers on a Dask cluster: each is a task that runs a process of its own, for as long as the scheduler is there.

Neither a cancelled task nor a closed cluster ends a process, so the standard input of each is held here, by the Dask
worker that started it: where that is closed, or dies, the process hands back and ends.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from subprocess import Popen
from typing import Any, ClassVar
from urllib.parse import urlsplit

from distributed import Client, Future, fire_and_forget, get_worker

from pairsearch.search.engines.contract import Count, Engine, EngineError, Order, amounts, is_here, take
from pairsearch.search.engines.spawned import run_worker

USUAL = "tcp://127.0.0.1:8786"
DISTRIBUTION = "pairsearch"
OURS = version(DISTRIBUTION)
ADDRESS = "DASK_SCHEDULER_ADDRESS"
PATIENCE_SECONDS = 10.0
"""How long the scheduler may take to answer."""

_running: dict[str, Popen[bytes]] = {}
"""Of a process of Dask: the workers that it has started, by the key of their task."""
_ended: set[str] = set()
"""The keys whose workers are not to start any more."""


class DaskFutures(Engine):
    """The Dask cluster whose scheduler is at an address.

    Options: `resources` as NAME:AMOUNT,... is what a worker takes of those that Dask's workers were started with.
    """

    name: ClassVar[str] = "dask"

    def __init__(self, address: str | None, options: Mapping[str, str]) -> None:
        super().__init__(
            address or os.environ.get(ADDRESS) or USUAL, take(options, "resources", engine="dask")
        )
        self._resources = amounts(options, "resources")

    @contextmanager
    def _client(self) -> Iterator[Client]:
        """Connect for a few questions: a client that stays complains on and on about a scheduler that went away."""
        try:
            with Client(self.address, timeout=PATIENCE_SECONDS, set_as_default=False) as client:
                yield client
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"dask at {self.address}: {error}") from None

    @property
    def local(self) -> bool:
        """Whether there are Dask workers, and all on this machine."""
        with self._client() as client:
            hosts = [urlsplit(address).hostname or "" for address in client.nthreads()]
        return bool(hosts) and all(map(is_here, hosts))

    def check(self, order: Order, workers: int) -> None:
        """Ask Dask's workers for their version of pairsearch, by which they start ours."""
        with self._client() as client:
            found = client.run(version, DISTRIBUTION, on_error="return")
        for address, theirs in found.items():
            if theirs != OURS:
                has = "no pairsearch" if isinstance(theirs, Exception) else f"pairsearch {theirs}"
                raise EngineError(f"dask's worker {address} has {has}: expected pairsearch {OURS}, as here")

    def submit(self, order: Order, workers: int) -> dict[str, int]:
        keys = [f"{order.name}-{uuid.uuid4().hex}" for _ in range(workers)]
        with self._client() as client:
            futures = [
                client.submit(work, key, order, key=key, pure=False, retries=0, resources=self._resources)
                for key in keys
            ]
            fire_and_forget(futures)
            end = time.monotonic() + PATIENCE_SECONDS
            while not all(_states(client, keys).values()):  # they travel by themselves
                if time.monotonic() > end:
                    client.cancel(futures, force=True)
                    raise EngineError(f"dask at {self.address}: the scheduler did not take the tasks")
                time.sleep(0.05)
        return dict.fromkeys(keys, 1)

    def count(self, ids: Collection[str]) -> dict[str, Count]:
        """Count tasks that have not ended: those with a process run, whatever Dask calls the others."""
        with self._client() as client:
            begun = _begun(client, ids)
            states = _states(client, ids)
        counts = {}
        for one in ids:
            alive = states[one] not in (None, "memory", "erred", "released", "forgotten")
            counts[one] = Count(int(alive and one not in begun), int(one in begun))
        return counts

    def stop(self, ids: Collection[str]) -> None:
        """Close the standard input of those that run, and cancel the others."""
        with self._client() as client:
            begun = _begun(client, ids, end=True)
            waiting = [one for one, state in _states(client, ids).items() if state and one not in begun]
            client.cancel([Future(one, client) for one in waiting], force=True)

    def last_line(self, ids: Collection[str]) -> str:
        """Return what a worker that ended with an error has left as an event."""
        with self._client() as client:
            return next((line for one in ids for _, line in client.get_events(one)), "")


def _states(client: Client, keys: Collection[str]) -> dict[str, str | None]:
    scheduler: Any = client.scheduler
    states: dict[str, str | None] = client.sync(scheduler.get_task_status, keys=list(keys))
    return states


def _begun(client: Client, keys: Collection[str], *, end: bool = False) -> set[str]:
    found: Mapping[str, Any] = client.run(begun, list(keys), end=end, on_error="ignore")
    return {key for some in found.values() for key in some}


def work(key: str, order: Order) -> str:
    """Run a worker by `run_worker`, in a task of Dask; leave what went wrong where the scheduler keeps it."""
    if key in _ended:
        return ""

    def begin(process: Popen[bytes]) -> None:
        _running[key] = process
        # It may have been ended between the look above and this one.
        if key in _ended and process.stdin is not None:
            process.stdin.close()

    try:
        return run_worker(order, begin)
    except RuntimeError as error:
        get_worker().log_event(key, str(error))
        raise
    finally:
        _running.pop(key, None)


def begun(keys: Collection[str], *, end: bool) -> list[str]:
    """Return those of the keys whose workers run in this process of Dask, and have them and all others end."""
    if end:
        _ended.update(keys)
    found = [(key, process) for key, process in list(_running.items()) if key in set(keys)]
    for _, process in found:
        if end and process.stdin is not None:
            process.stdin.close()
    return [key for key, _ in found]
