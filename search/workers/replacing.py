"""Replaces the workers of a pool that die, and says which configuration each of them held."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence

from sqlalchemy import select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.progress import Progress
from pairsearch.search.workers.pool import Pool, PoolWorker

# Those by which somebody asks a worker to end.
ASKED = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class Watch:
    """Looks after the workers of a pool.

    A worker died if a signal killed it, or if it ended without handing its configuration back, as where a problem calls
    `os._exit`. One that ends by itself hands back what it holds, and says why it ends.

    Args:
        most: how many workers are replaced: what kills one may kill each.
        complain: called with a line for each worker that died.
    """

    def __init__(
        self,
        database: Database,
        studies: Sequence[StoredStudy],
        pool: Pool,
        most: int,
        complain: Callable[[str], None],
    ) -> None:
        self._database = database
        self._studies = studies
        self._pool = pool
        self._left = most
        self._complain = complain
        self._seen: set[int] = set()

    def replace(self, progresses: Sequence[Progress]) -> bool:
        """Start a worker for each that died since the last call, while work is left; return whether one was started.

        Args:
            progresses: the latest progress of each study.

        Raises:
            DatabaseAwayError: the database does not answer; the next call looks at the same workers again.
        """
        started = False
        for place, worker in enumerate(self._pool.workers):
            code = worker.process.poll()
            if code is None or place in self._seen:
                continue
            held = self._held(worker)
            self._seen.add(place)
            if not held and (code >= 0 or code in ASKED):
                continue
            worker.told = True
            what = f"{worker.ending()}; it held {', '.join(held) or 'no configuration'}"
            if not any(progress.open for progress in progresses):
                self._complain(what)
            elif self._left == 0:
                self._complain(f"{what}; it is not replaced, as so many have died already")
            else:
                self._left -= 1
                started |= self._start(what)
        return started

    def _start(self, what: str) -> bool:
        self._database.close()  # a connection must not be forked
        try:
            self._pool.start()
        except OSError as error:
            self._complain(f"{what}; it cannot be replaced: {error.strerror or error}")
            return False
        self._complain(f"{what}; another takes its place")
        return True

    def _held(self, worker: PoolWorker) -> list[str]:
        """Return the configurations that a worker has not handed back, as the ledger knows them."""
        columns = configurations.c
        name = f"{socket.gethostname()}:{worker.process.pid}:"
        with self._database.read() as connection:
            return [
                f"{key} of study {study.name}"
                for study in self._studies
                for key in connection.execute(
                    select(columns.key).where(
                        columns.study_id == study.id,
                        columns.state == State.RUNNING,
                        columns.worker.startswith(name, autoescape=True),
                    )
                ).scalars()
            ]
