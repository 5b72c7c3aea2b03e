"""Workers by any executor of `concurrent.futures`: the standard library's, Dask's, Parsl's, executorlib's, mpi4py's."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from concurrent.futures import Executor, Future
from typing import ClassVar

from pairsearch.search.engines.contract import Count, Engine, EngineError, Order
from pairsearch.search.engines.spawned import run_worker


class Executed(Engine):
    """Submits `run_worker` once for each worker. The workers end with this process.

    A worker that runs cannot be ended by its future: `pairsearch stop`, which its heartbeat reads, ends it.
    """

    name: ClassVar[str] = "executor"
    lasting: ClassVar[bool] = False

    def __init__(self, executor: Executor) -> None:
        super().__init__(None, {})
        self._executor = executor
        self._futures: dict[str, Future[str]] = {}

    @property
    def local(self) -> bool:
        """Nobody knows where an executor runs; its user does."""
        return True

    def check(self, order: Order, workers: int) -> None:
        """Nothing can be asked."""

    def submit(self, order: Order, workers: int) -> dict[str, int]:
        made = {}
        try:
            for _ in range(workers):
                made[uuid.uuid4().hex] = self._executor.submit(run_worker, order)
        except RuntimeError as error:  # it is shut down, or broken
            for future in made.values():
                future.cancel()
            raise EngineError(f"the executor takes no more work: {error}") from None
        self._futures |= made
        return dict.fromkeys(made, 1)

    def count(self, ids: Collection[str]) -> dict[str, Count]:
        """Count futures. Those of executors that do not tell which of them run count as waiting."""
        return {one: self._count(self._futures[one]) for one in ids}

    @staticmethod
    def _count(future: Future[str]) -> Count:
        if future.done():
            return Count(0, 0)
        return Count(0, 1) if future.running() else Count(1, 0)

    def stop(self, ids: Collection[str]) -> None:
        """Cancel the futures that wait."""
        for one in ids:
            self._futures[one].cancel()

    def last_line(self, ids: Collection[str]) -> str:
        """Return what a future raised, or its worker's last line."""
        ended = [future for one in ids if (future := self._futures[one]).done() and not future.cancelled()]
        raised = [str(error) for future in ended if (error := future.exception()) is not None]
        return (raised or [future.result() for future in ended] or [""])[0]
