"""A study that workers on a cluster search and evaluate by the real commands, and what must hold of it in the end."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import programs
import promise
import psutil
import tiny
from gathered import PASSWORD

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.engines.contract import Engine
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.ledger.submissions import submissions_to

ROUNDS = ("--top", "2", "--rounds", "2")
PATIENCE = 120.0
RUNNING = "where state = 'running'"


class Whole:
    """The study of `promise.create_long` on an engine.

    Args:
        url: of a PostgreSQL database, with the password.
        variables: what programs need for the engine, beside the URL.
        rest: see `promise.create_long`.
    """

    def __init__(
        self, folder: Path, url: str, engine: Engine, *, rest: float = 0.02, **variables: str
    ) -> None:
        assert PASSWORD in url
        self.folder, self.url, self.engine = folder, url, engine
        secret = folder / "storage"
        secret.touch(0o600)
        secret.write_text(url)
        self._file = promise.create_long(folder / "study", url, rest=rest)
        self.variables = {"PAIRSEARCH_STORAGE_FILE": str(secret), **variables}

    def start(self, *words: str) -> ForkServerProcess:
        """Start a command on the study, and leave it running."""
        return programs.start_forked(self._file.parent, *words, str(self._file.name), **self.variables)

    def call(self, *words: str) -> programs.Ended:
        """Call one to its end, which is a good one."""
        return self.ended(self.start(*words))

    def ended(self, command: ForkServerProcess, code: int = 0) -> programs.Ended:
        """Wait for the end of a command."""
        ended = programs.ended(command, self._file.parent, PATIENCE)
        assert ended.code == code, ended.err
        return ended

    def on(self, workers: int, *words: str) -> list[str]:
        """The words of `run` or `evaluate` for the engine."""
        there = ["--on", self.engine.name, "--at", self.engine.address or "", "--workers", str(workers)]
        # What a killed worker held comes back after its lease.
        return [*words, *there, *(("--lease", "4") if words[0] == "run" else ())]

    def workers(self) -> list[psutil.Process]:
        """The workers of the study that run on this machine, each once."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                mine = process.environ().get("PAIRSEARCH_STORAGE_FILE") == str(self.folder / "storage")
                if mine and "--submitted" in process.cmdline():
                    found.append(process)
        return found

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Open it."""
        database = open_database(self.url)
        try:
            yield database
        finally:
            database.close()

    def wait_for_work(self, command: ForkServerProcess, finished: int = 0) -> None:
        """Wait until so many configurations are finished, and workers are in the middle of others."""

        def works() -> bool:
            assert command.exitcode is None, self.ended(command)
            states, running = tiny.states(database), tiny.rows(database, "jobs", "count(*)", RUNNING)
            return states.get("finished", 0) >= finished and running != [(0,)]

        with self.database() as database:
            programs.wait_for(works, "work", PATIENCE)

    def alive(self) -> int:
        """How many workers the engine has of those that were submitted."""
        with self.database() as database:
            ids = [one.native_id for one in submissions_to(database, [get_study(database, "walk")])]
        return sum(count.alive for count in self.engine.count(ids).values())

    def assert_whole(self, expected: list[tuple[object, ...]]) -> None:
        """Every configuration once, the same bits as in peace, and nothing left behind."""
        with self.database() as database:
            promise.assert_kept(database, expected, promise.LONG_POINTS)
            assert tiny.rows(database, "jobs", "count(*)", RUNNING) == [(0,)]
        programs.wait_for(lambda: not self.workers() and not self.alive(), "the workers' end", PATIENCE)

    def search_and_evaluate(self, folders: Sequence[Path]) -> None:
        """Have two workers search and evaluate it in peace; the password is in none of the folders."""
        said = self.call(*self.on(2, "run"))
        assert f"{self.engine.name}: 2 workers submitted (pairsearch-walk-" in said.out
        assert said.err == ""
        self.call(*self.on(2, "evaluate"), *ROUNDS)
        self.assert_hidden(folders)

    def assert_hidden(self, folders: Sequence[Path]) -> None:
        """The password is in no arguments or environment of a process, and no file of folders that others can read."""
        secret = PASSWORD.encode()
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                with suppress(OSError):
                    shown = process.joinpath(name).read_bytes()
                    assert secret not in shown or process.name == str(os.getpid()), f"{process}/{name}"
        for folder in folders:
            for path in folder.rglob("*"):
                with suppress(OSError):
                    mode = path.lstat().st_mode
                    if stat.S_ISREG(mode) and path != self.folder / "storage":
                        assert secret not in path.read_bytes(), path


def through_it_all(whole: Whole, hurt: Callable[[psutil.Process], None]) -> None:
    """Kill a worker, kill who follows them and call again, have the engine lose one, stop in the middle, and go on.

    Args:
        hurt: has the engine lose a worker, in its own way.
    """
    first = whole.start(*whole.on(4, "run"))
    whole.wait_for_work(first)
    programs.wait_for(lambda: len(whole.workers()) == 4, "four workers", PATIENCE)
    whole.workers()[0].kill()
    promise.send(first, signal.SIGKILL)
    first.join()
    again = whole.start(*whole.on(4, "run"))
    hurt(whole.workers()[-1])
    end = time.monotonic() + 15
    while time.monotonic() < end:
        assert whole.alive() <= 4
        time.sleep(0.5)
    assert again.exitcode is None, "it is over before it was stopped"
    told = programs.run(whole.folder, "stop", "walk", **whole.variables)
    assert (told.code, whole.workers(), whole.alive()) == (0, [], 0), told.err
    with whole.database() as database:
        assert tiny.rows(database, "jobs", "count(*)", RUNNING) == [(0,)]
        assert tiny.states(database) != {"finished": promise.LONG_POINTS}
    assert "ended" in told.out
    said = whole.ended(again, 1)
    assert "there already" in said.out
    whole.call(*whole.on(4, "run"))
    whole.call(*whole.on(4, "evaluate"), *ROUNDS)


@cache
def in_peace() -> list[tuple[object, ...]]:
    """The figures of the study and its rounds, by one worker on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        return promise.undisturbed(Path(folder) / "peace", promise.create_long, ROUNDS, rest=0)
