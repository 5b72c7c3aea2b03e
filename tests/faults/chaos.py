"""Worker processes, and their database server, hurt at random moments until the study is done."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import programs
import tiny
from server import Server

from pairsearch.search.common.errors import DatabaseAwayError
from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database

LOOK_SECONDS = 0.1
"""Between two looks at the workers and at what they hold."""
END_SECONDS = 600.0
"""After the last fault, the study has to end within this."""


@dataclass
class Plan:
    """How many faults of each kind a run brings, at moments and in an order that its seed gives."""

    kills: int
    """Workers killed with SIGKILL while they hold a job, or just after."""
    early_kills: int
    """Workers killed with SIGKILL at any moment, often before they hold anything."""
    stops: int = 0
    """Workers stopped with SIGSTOP for longer than their lease, then continued."""
    halts: int = 0
    """Times that `pairsearch stop` ends all workers, before others begin."""
    cuts: int = 0
    """Times that half of the connections are cut."""
    restarts: int = 0
    """Orderly restarts of the server."""
    crashes: int = 0
    """Kills of the whole server."""
    away: float = 0.0
    """Seconds that the server stays away each time."""
    long_absences: int = 0
    """Times that the server is shut down for `long_away` seconds."""
    long_away: float = 60.0
    pause: float = 0.2
    """Seconds between two faults at most."""


@dataclass
class Damage:
    """What was done, and what it took to recover."""

    done: Counter[str] = field(default_factory=Counter)
    holding: int = 0
    """Jobs that killed workers held."""
    cut: int = 0
    """Connections cut."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds, on the database's clock, from the kill of a worker until what it held is free again."""
    late_recoveries: list[float] = field(default_factory=list)
    """The same for those between which the server was away."""
    codes: Counter[int] = field(default_factory=Counter)
    """Exit codes of the workers."""
    complaints: list[str] = field(default_factory=list)
    """What workers wrote to standard error that ended otherwise than well or by a kill."""


class Chaos:
    """A crowd of workers on one study, kept at its number.

    Args:
        server: None for one that is not to be hurt, or a database that has none.
        lease: seconds of the workers' leases.
    """

    def __init__(
        self,
        server: Server | None,
        database: Database,
        study: Path,
        folder: Path,
        *,
        workers: int,
        lease: float,
        seed: int,
    ) -> None:
        self.server = server
        self.database = database
        self.name = database.url.database or ""
        self.study = study
        self.folder = folder
        self.size = workers
        self.lease = lease
        self.random = random.Random(seed)  # noqa: S311 - which fault comes next is no secret
        self.damage = Damage()
        self.started = 0
        self.options: tuple[str, ...] = ()
        self.workers: list[ForkServerProcess] = []
        self._now = str(now().compile(dialect=database.engine.dialect))
        self._folders: dict[int | None, Path] = {}
        self.stopped: dict[int, float] = {}
        self._orphans: dict[int, tuple[str, float]] = {}
        self._delayed: set[int] = set()

    def run(self, plan: Plan) -> Damage:
        """Bring all faults of the plan, then let the study and the rounds that were asked for end."""
        faults: list[tuple[str, Callable[[], bool]]] = [
            *[("worker killed", lambda: self._kill(at_work=True))] * plan.kills,
            *[("starting worker killed", lambda: self._kill(at_work=False))] * plan.early_kills,
            *[("worker stopped", self._stop)] * plan.stops,
            *[("study stopped", self._halt)] * plan.halts,
        ]
        if self.server is not None:
            server = self.server
            faults += [
                *[("connections cut", partial(self._cut, server))] * plan.cuts,
                *[("server restarted", partial(self._restart, server, server.stop, plan.away))]
                * plan.restarts,
                *[("server long away", partial(self._restart, server, server.stop, plan.long_away))]
                * plan.long_absences,
                *[("server killed", partial(self._restart, server, server.kill, plan.away))] * plan.crashes,
            ]
        self.random.shuffle(faults)
        try:
            for what, bring in faults:
                self._until(time.monotonic() + self.random.uniform(0.0, plan.pause))
                while not bring():
                    assert self._open(), f"the study ended before all was brought: {self.damage.done}"
                    self._until(time.monotonic() + 0.05)
                self.damage.done[what] += 1
            self._until(time.monotonic() + END_SECONDS, to_the_end=True)
        finally:
            for worker in self.workers:
                with suppress(ProcessLookupError):  # it may have ended by itself
                    os.kill(worker.pid or 0, signal.SIGCONT)
                worker.kill()
        return self.damage

    def _until(self, end: float, *, to_the_end: bool = False) -> None:
        """Keep the crowd at its number until a moment, or until all workers found nothing more to do."""
        while (left := end - time.monotonic()) > 0:
            self._wake()
            for worker in [worker for worker in self.workers if worker.exitcode is not None]:
                self.workers.remove(worker)
                code = worker.exitcode or 0
                self.damage.codes[code] += 1
                if code not in (0, -signal.SIGKILL):
                    said = (self._folders[worker.pid] / "err").read_text(encoding="utf-8")
                    self.damage.complaints.append(f"exit code {code}: {said}")
            self._watch()
            if to_the_end and self._open() == 0:
                if not self.workers:
                    return
            else:
                while len(self.workers) < self.size:
                    self._start()
            time.sleep(min(left, LOOK_SECONDS))
        assert not to_the_end, (
            f"not done {END_SECONDS:.0f} s after the last fault: {tiny.states(self.database)}"
        )

    def _start(self) -> None:
        folder = self.folder / f"worker{self.started}"
        folder.mkdir()
        self.started += 1
        worker = programs.start_forked(
            folder,
            *("worker", str(self.study), "--lease", str(self.lease), "--patience", "120", *self.options),
            PAIRSEARCH_STORAGE=self.database.url.render_as_string(hide_password=False),
        )
        self.workers.append(worker)
        self._folders[worker.pid] = folder

    def _open(self) -> int:
        """How many folds and rounds, or groups of them, are still to be trained."""
        return len(tiny.rows(self.database, "jobs", "id", "where state in ('pending', 'running')"))

    def _holders(self) -> set[int]:
        held = tiny.rows(self.database, "jobs", "worker", "where state = 'running'")
        return {int(name.split(":")[1]) for (name,) in held}

    def _chosen(self, *, at_work: bool) -> ForkServerProcess | None:
        """Any worker, or one that holds a job, as most do that are past their start."""
        awake = [worker for worker in self.workers if worker.pid not in self.stopped and worker.is_alive()]
        if at_work:
            holders = self._holders()
            awake = [worker for worker in awake if worker.pid in holders]
        return self.random.choice(awake) if awake else None

    def _kill(self, *, at_work: bool) -> bool:
        worker = self._chosen(at_work=at_work)
        if worker is None or worker.pid is None:
            return False
        # It goes on for a moment, so that the kill comes while it trains, stores, tells Optuna or claims the next.
        time.sleep(self.random.uniform(0.0, 0.1))
        # Stopped first, so that what it holds cannot change between the look and the kill.
        os.kill(worker.pid, signal.SIGSTOP)
        held = tiny.rows(
            self.database,
            "jobs",
            f"id, claim, {self._now}",
            f"where state = 'running' and worker like '%:{worker.pid}:%'",
        )
        worker.kill()
        worker.join()
        for job, claim, moment in held:
            self._orphans[job] = (claim, float(moment))
        self.damage.holding += len(held)
        return True

    def _stop(self) -> bool:
        worker = self._chosen(at_work=True)
        if worker is None or worker.pid is None:
            return False
        os.kill(worker.pid, signal.SIGSTOP)
        self.stopped[worker.pid] = time.monotonic() + 1.5 * self.lease
        return True

    def _halt(self) -> bool:
        """Stop the study when all workers are at work, for one that only starts would let the others go on."""
        told = {worker.pid for worker in self.workers}
        if len(told) < self.size or not told <= self._holders() or told & set(self.stopped):
            return False
        url = self.database.url.render_as_string(hide_password=False)
        ended = programs.run(self.folder, "stop", str(self.study), PAIRSEARCH_STORAGE=url)
        assert ended.code == 0, ended.err
        for worker in self.workers:
            worker.join(programs.PATIENCE)
            assert worker.exitcode is not None, "a worker did not hear that its study was stopped"
        assert not told & self._holders(), "a worker that was told to end kept what it held"
        return True

    def _wake(self) -> None:
        for pid, moment in list(self.stopped.items()):
            if time.monotonic() > moment:
                os.kill(pid, signal.SIGCONT)
                del self.stopped[pid]

    def _cut(self, server: Server) -> bool:
        cut = server.cut(self.name, share=0.5)
        self.damage.cut += cut
        return cut > 0

    def _restart(self, server: Server, down: Callable[[], None], away: float) -> bool:
        down()
        end = time.monotonic() + away
        while time.monotonic() < end:
            self._wake()
            time.sleep(0.02)
        server.start()
        self._delayed |= set(self._orphans)
        # Our own connection broke too.
        while True:
            try:
                self._open()
                return True
            except DatabaseAwayError:
                time.sleep(0.02)

    def _watch(self) -> None:
        """Note how long it took until what a killed worker held was free again."""
        if not self._orphans:
            return
        seen = tiny.rows(self.database, "jobs", f"id, claim, {self._now}")
        for job, claim, moment in seen:
            if job in self._orphans and claim != self._orphans[job][0]:
                seconds = float(moment) - self._orphans.pop(job)[1]
                late = job in self._delayed
                self._delayed.discard(job)
                (self.damage.late_recoveries if late else self.damage.recoveries).append(seconds)
