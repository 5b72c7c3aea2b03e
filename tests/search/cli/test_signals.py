"""Signals to the real program: SIGTERM hands back and exits 0, SIGINT exits 130, and no worker is left behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import programs
import psutil
import pytest
import tiny
from optuna.trial import TrialState

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.mirror.tables import open_optuna
from pairsearch.search.workers.signals import signals

LONG = {"epochs": 100_000}
INTERRUPTED = "error: interrupted: what was finished is stored, run the command again to go on\n"


@pytest.fixture
def long_study(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """A study whose first configuration takes longer than any test waits."""
    tiny.write_toml(tmp_path / "long.toml", **LONG)
    made = programs.run(tmp_path, "create", "long.toml", "--data", "digits", PAIRSEARCH_STORAGE=database_url)
    assert made.code == 0, made.err
    opened = open_database(database_url)
    yield opened
    opened.close()


def wait_until_training(database: Database) -> None:
    programs.wait_for(lambda: tiny.states(database)["running"] > 0, "a running configuration")


def assert_all_is_handed_back(database: Database) -> None:
    assert tiny.states(database) == {"pending": 8}
    assert tiny.rows(database, "configurations", "sum(errors)") == [(0,)]
    storage = open_optuna(database)
    assert {trial.state for trial in storage.get_all_trials(1)} == {TrialState.FAIL}
    storage.remove_session()
    storage.engine.dispose()


# Each signal on one kind of database: the two have nothing to do with each other.
@pytest.mark.parametrize(
    ("number", "code", "database_url"),
    [
        (signal.SIGTERM, 0, "postgresql"),
        (signal.SIGINT, 130, "sqlite"),
        pytest.param(signal.SIGHUP, 0, "sqlite", id="a terminal that is closed"),
    ],
    indirect=["database_url"],
)
def test_a_worker_hands_its_configuration_back(
    long_study: Database, database_url: str, tmp_path: Path, number: int, code: int
) -> None:
    worker = programs.start_forked(tmp_path, "worker", "long.toml", PAIRSEARCH_STORAGE=database_url)
    wait_until_training(long_study)
    os.kill(worker.pid or 0, number)
    ended = programs.ended(worker, tmp_path)
    assert (ended.code, ended.err) == (code, "")
    assert "handed back" in ended.out
    assert_all_is_handed_back(long_study)


def workers_of(run: ForkServerProcess, count: int) -> list[psutil.Process]:
    """The worker processes of a `run`, which are forked from it, once there are so many."""

    def found() -> list[psutil.Process]:
        # Also children that live for a moment only, as git does.
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(run.pid)
            return [child for child in parent.children() if child.cmdline() == parent.cmdline()]
        return []

    programs.wait_for(lambda: len(found()) == count, f"{count} workers")
    return found()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_run_stops_its_workers_and_shows_nobody_the_password(
    long_study: Database, database_url: str, tmp_path: Path
) -> None:
    """On SIGINT; the tests below have the other signals."""
    assert "open-sesame" in database_url
    run = programs.start_forked(
        tmp_path, "run", "long.toml", "--workers", "2", PAIRSEARCH_STORAGE=database_url
    )
    programs.wait_for(lambda: tiny.states(long_study)["running"] == 2, "two running configurations")
    workers = workers_of(run, 2)
    for process in (psutil.Process(run.pid), *workers):
        assert "open-sesame" not in " ".join(process.cmdline())
    os.kill(run.pid or 0, signal.SIGINT)
    ended = programs.ended(run, tmp_path)
    assert (ended.code, ended.err) == (130, INTERRUPTED)
    assert not any(worker.is_running() for worker in workers)
    assert "open-sesame" not in ended.out + ended.err
    assert_all_is_handed_back(long_study)
    with long_study.read() as connection:
        for table in ("trial_user_attributes", "study_user_attributes", "trial_system_attributes"):
            found = connection.exec_driver_sql(f"select * from {table}").all()  # noqa: S608 - named above
            assert "open-sesame" not in str(found)
    assert "open-sesame" not in str(
        tiny.rows(long_study, "configurations") + tiny.rows(long_study, "studies")
    )


@pytest.mark.parametrize("moment", ["training", "starting"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_workers_end_when_the_run_that_started_them_is_killed(
    long_study: Database, database_url: str, tmp_path: Path, moment: str
) -> None:
    """Nobody is left to stop them: what they hold goes back, and none trains on for hours."""
    variables = {"PAIRSEARCH_STORAGE": database_url}
    run = programs.start_forked(tmp_path, "run", "long.toml", "--workers", "1", **variables)
    workers = workers_of(run, 1)
    if moment == "training":
        wait_until_training(long_study)
    run.kill()
    run.join(programs.PATIENCE)
    gone, alive = psutil.wait_procs(workers, timeout=programs.PATIENCE)
    assert (len(gone), alive) == (1, [])
    assert tiny.states(long_study) == {"pending": 8}
    assert tiny.rows(long_study, "configurations", "sum(errors), sum(lapses)") == [(0, 0)]


def read_from(pipe: Path) -> None:
    """Let a pipe be standard input."""
    os.dup2(os.open(pipe, os.O_RDONLY), 0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_that_a_run_started_and_left_exits_with_0(
    long_study: Database, database_url: str, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = os.open(pipe, os.O_RDWR)
    worker = programs.start_forked(
        tmp_path,
        *("worker", "--attached", "long.toml"),
        prepare=partial(read_from, pipe),
        PAIRSEARCH_STORAGE=database_url,
    )
    wait_until_training(long_study)
    os.close(writing)
    ended = programs.ended(worker, tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "handed back" in ended.out
    assert_all_is_handed_back(long_study)


def ignore_hangups() -> None:
    """As `nohup` does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize("nohup", [False, True])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_terminal_that_is_closed_ends_a_run_unless_nohup_holds(
    long_study: Database, database_url: str, tmp_path: Path, nohup: bool
) -> None:
    run = programs.start_forked(
        tmp_path,
        *("run", "long.toml", "--workers", "1"),
        prepare=ignore_hangups if nohup else None,
        PAIRSEARCH_STORAGE=database_url,
    )
    (worker,) = workers_of(run, 1)
    wait_until_training(long_study)
    os.kill(run.pid or 0, signal.SIGHUP)
    if nohup:
        worker.send_signal(signal.SIGHUP)
        # They are known to have outlived it once they obey what came after it: signals are handled in their order.
        os.kill(run.pid or 0, signal.SIGTERM)
    ended = programs.ended(run, tmp_path)
    assert (ended.code, ended.err) == (130, INTERRUPTED)
    assert not worker.is_running()
    assert_all_is_handed_back(long_study)


def test_signals_are_taken_inside_the_block_alone() -> None:
    wanted = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in wanted]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    descriptor = signal.set_wakeup_fd(writing)
    threads = threading.active_count()
    try:
        stopping = threading.Event()
        with signals(stopping) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopping.wait(programs.PATIENCE)
        assert caught == {signal.SIGTERM}
        assert [signal.getsignal(number) for number in wanted] == before
        assert signal.set_wakeup_fd(descriptor) == writing
        assert threading.active_count() == threads
    finally:
        signal.set_wakeup_fd(descriptor)
        os.close(reading)
        os.close(writing)
