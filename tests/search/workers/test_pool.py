"""A pool of worker processes: what each is given, how their ends are told, and which are replaced."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from programs import wait_for

from pairsearch.search.common import gpus, threads
from pairsearch.search.common.errors import WorkError
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.setup.storage_url import FILE_VARIABLE, VARIABLE
from pairsearch.search.workers import pool, program
from pairsearch.search.workers.forking import Forked, Zygote
from pairsearch.search.workers.pool import Pool, PoolWorker, Watch, worker_words

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
URL = "sqlite:///some.db"
TELLS = """
import json, os
links = {number: os.readlink(f"/proc/self/fd/{number}") for number in "012"}
facts = {"environment": dict(os.environ), "folder": os.getcwd(), "links": links, "reads": os.read(0, 1).decode()}
os.write(2, (json.dumps(facts) + "\\n").encode())
"""
"""What a worker sees, told when its standard input ends."""


def run_code(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Have workers that are started anew run some code."""
    monkeypatch.setattr(program, "command", lambda *words: [sys.executable, "-I", "-S", "-c", code, *words])


class Forks:
    """Forks workers that run some code, as a zygote that is ready does."""

    def __init__(self, code: str) -> None:
        self.code = code

    def fork(self, words: Sequence[str], enter: Callable[[], None]) -> Forked:
        pid = os.fork()
        if pid == 0:
            try:
                enter()
                exec(self.code, {"words": words})  # noqa: S102 - it is ours
                os._exit(0)
            finally:
                os._exit(9)
        return Forked(pid)


def log_of(worker: PoolWorker) -> str:
    worker.log.seek(0)
    return worker.log.read().decode()


@pytest.mark.parametrize("forked", [False, True])
def test_a_worker_gets_storage_gpu_folder_and_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    run_code(monkeypatch, TELLS)
    monkeypatch.setenv(FILE_VARIABLE, "url.txt")
    monkeypatch.setenv(VARIABLE, "sqlite:///other.db")
    zygote = cast(Zygote, Forks(TELLS)) if forked else None
    with Pool(["mine"], 3, URL, tmp_path, zygote, ["1", "4"]) as workers:
        # They are told of the end of this process by their standard input.
        workers._writing.close()
        assert [worker.process.wait() for worker in workers.workers] == [0] * 3
        found = [json.loads(log_of(worker).splitlines()[-1]) for worker in workers.workers]
    for facts, gpu in zip(found, ["1", "4", "1"], strict=True):
        environment, links = facts["environment"], facts["links"]
        assert environment.items() >= gpus.variables(gpu).items()
        assert {name: environment.get(name) for name in threads.VARIABLES} == dict.fromkeys(
            threads.VARIABLES, "1"
        )
        assert (environment.get(VARIABLE), FILE_VARIABLE in environment) == (URL, False)
        assert (facts["folder"], facts["reads"]) == (str(tmp_path), "")
        assert links["1"] == (links["2"] if forked else os.devnull)
    assert len({facts["links"]["2"] for facts in found}) == 3


def test_a_worker_without_a_gpu_of_its_own_or_a_folder_is_where_this_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_code(monkeypatch, TELLS.replace("-I", "-P"))
    with Pool([], 1, URL) as workers:
        workers._writing.close()
        workers.workers[0].process.wait()
        (facts,) = map(json.loads, log_of(workers.workers[0]).splitlines())
    assert facts["folder"] == str(tmp_path)
    assert facts["environment"].keys() & {"CUDA_VISIBLE_DEVICES"} == os.environ.keys() & {
        "CUDA_VISIBLE_DEVICES"
    }


def test_the_words_of_a_worker_say_where_it_works() -> None:
    words = worker_words(["a.toml", "b"], Machine(lease=7.0), None)
    assert words[:5] == ["a.toml", "b", "--lease", "7.0", "--quiet"]
    assert worker_words(["a"], Machine(), 5)[-2:] == ["--limit", "5"]
    assert worker_words(["a"], Machine(), 0)[-1] == "--rounds"
    assert not {"--limit", "--rounds"} & {*words}


def test_what_a_worker_prints_is_kept_while_its_log_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    run_code(monkeypatch, "import os\nos.write(2, b'first\\n')\nos.read(0, 1)\nos.write(2, b'second\\n')")
    with Pool([], 1, URL) as workers:
        (worker,) = workers.workers
        wait_for(lambda: log_of(worker) == "first\n", "the first line")
        worker.log.seek(0)
        worker.log.read(1)
        workers._writing.close()
        worker.process.wait()
        assert log_of(worker) == "first\nsecond\n"


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), OSError("strange"), KeyboardInterrupt()]
)
def test_all_workers_start_or_none(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    run_code(monkeypatch, "import time; time.sleep(100)")
    begun, process = [], Pool._process

    def start(self: Pool, *given: Any) -> Any:
        if len(begun) == 2:
            raise error
        begun.append(process(self, *given))
        return begun[-1]

    monkeypatch.setattr(Pool, "_process", start)
    with pytest.raises((WorkError, KeyboardInterrupt)) as raised, Pool([], 3, URL):
        pass
    assert isinstance(error, OSError) == isinstance(raised.value, WorkError)
    if isinstance(error, OSError):
        reason = error.strerror or "strange"
        assert str(raised.value) == f"cannot start 3 workers: {reason}: ask for fewer"
    assert [one.poll() for one in begun] == [-15, -15]


ENDS = {
    "at once": ("import os; os._exit(0)", 0),
    "after it tidied up": (
        "import os, signal, time\nsignal.signal(15, lambda *_: (time.sleep(0.1), os._exit(3)))\n"
        "os.write(2, b'ready')\ntime.sleep(100)",
        3,
    ),
    "never": (
        "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nos.write(2, b'ready')\ntime.sleep(100)",
        -9,
    ),
}


def test_a_pool_asks_its_workers_to_end_and_kills_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "STOP_SECONDS", 1.0)
    codes = iter([code for code, _ in ENDS.values()])
    monkeypatch.setattr(program, "command", lambda *_: [sys.executable, "-I", "-S", "-c", next(codes)])
    with Pool([], 3, URL) as workers:
        for worker in workers.workers[1:]:
            wait_for(lambda: bool(log_of(worker)), "a worker to be ready")  # noqa: B023
        processes = [worker.process for worker in workers.workers]
        processes[0].wait()
        assert workers.alive() == 2
        began = time.monotonic()
    assert [process.poll() for process in processes] == [code for _, code in ENDS.values()]
    assert 1.0 <= time.monotonic() - began < 10.0


def test_a_pool_waits_for_the_next_end_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    run_code(monkeypatch, "import sys, time; time.sleep(float(sys.argv[-1]))")
    codes = iter([["0.3"], ["100"]])
    monkeypatch.setattr(
        program,
        "command",
        lambda *_: [
            sys.executable,
            "-I",
            "-S",
            "-c",
            "import sys, time; time.sleep(float(sys.argv[1]))",
            *next(codes),
        ],
    )
    with Pool([], 2, URL) as workers:
        began = time.monotonic()
        workers.wait(60.0)
        assert workers.alive() == 1
        workers.wait(0.2)
        assert 0.2 < time.monotonic() - began < 30.0
        workers.workers[1].process.kill()
        workers.workers[1].process.wait()
        workers.wait(60.0)
    assert time.monotonic() - began < 30.0


def ended(code: int | None, log: bytes = b"", pid: int = 77) -> PoolWorker:
    """A worker that ended, or runs."""
    return PoolWorker(cast(Any, SimpleNamespace(poll=lambda: code, pid=pid)), BytesIO(log))


@pytest.mark.parametrize(
    ("code", "log", "ending"),
    [
        (1, b"first\nerror: the last \xff\n\n", "worker 77 ended (exit code 1): error: the last �"),
        (0, b"", "worker 77 ended (exit code 0)"),
        (-9, b"x" * 1000 + b"y", f"worker 77 ended (killed by signal 9): {'x' * 999}y"),
    ],
)
def test_an_end_is_told_by_its_code_and_the_last_line(code: int, log: bytes, ending: str) -> None:
    worker = ended(code, log)
    assert worker.ending() == ending
    assert worker.failed == (code != 0)
    assert not ended(None).failed


def test_the_end_of_a_log_is_read_and_the_rest_of_a_long_one_cut(tmp_path: Path) -> None:
    assert program.tail(BytesIO(b"short")) == b"short"
    assert program.tail(BytesIO(bytes(9) + b"x" * 65_536)) == b"x" * 65_536
    lengths = []
    workers = SimpleNamespace(workers=[])
    for size in (1_048_576, 1_048_577):
        worker = ended(None)
        with (tmp_path / "log").open("a+b", buffering=0) as worker.log:
            worker.log.truncate(0)
            worker.log.write(b"x" * (size - 5) + b"\nlast")
            workers.workers = [worker]
            assert Pool.alive(cast(Pool, workers)) == 1
            lengths.append(len(log_of(worker)))
            assert program.last_line(worker.log) == "last"
    assert lengths == [1_048_576, 65_536]


def test_complaints_are_of_workers_that_failed_and_were_not_told() -> None:
    workers = SimpleNamespace(workers=[ended(0), ended(1, b"why\n"), ended(2), ended(None)])
    workers.workers[2].told = True
    assert Pool.complaints(cast(Pool, workers)) == ["worker 77 ended (exit code 1): why"]


class Starts:
    """A pool whose further workers start, or do not."""

    def __init__(self, *workers: PoolWorker) -> None:
        self.workers = [*workers]
        self.started: list[str | None] = []
        self.error: OSError | None = None

    def start(self, gpu: str | None) -> None:
        if self.error is not None:
            raise self.error
        self.started.append(gpu)


@pytest.fixture
def watch(database: Database, study: StoredStudy, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Looks once after workers; what was told, and whether one was started."""
    monkeypatch.setattr(socket, "gethostname", lambda: "my_host")
    closed: list[object] = []
    monkeypatch.setattr(database, "close", lambda: closed.append(None))

    def looked(
        workers: Starts, most: int = 1, *, times: int = 1, done: bool = False
    ) -> tuple[bool, list[str]]:
        told: list[str] = []
        made = Watch(database, [study], cast(Pool, workers), most, told.append)
        left = cast(Any, [SimpleNamespace(open=0), SimpleNamespace(open=0 if done else 3)])
        closed.clear()
        replaced = [made.replace(left) for _ in range(times)]
        assert not any(replaced[1:])
        # A connection must not be forked.
        assert len(closed) == len(workers.started) or workers.error
        return replaced[0], told

    return looked


def held_by(ledger: Ledger, worker: str) -> str:
    claim = ledger.claim(worker)
    assert claim is not None
    return claim.configuration.key


@ON_SQLITE
@pytest.mark.parametrize("code", [None, 0, 1, 130, -15, -2, -1])
def test_a_worker_that_runs_or_ended_by_itself_is_let_be(watch: Any, code: int | None) -> None:
    workers = Starts(ended(code))
    assert watch(workers) == (False, [])
    assert not workers.workers[0].told


@ON_SQLITE
@pytest.mark.parametrize("code", [0, 7, -9, -11])
def test_a_worker_that_died_is_replaced_once_where_it_was_and_what_it_held_is_told(
    watch: Any, ledger: Ledger, code: int
) -> None:
    first, second = held_by(ledger, "my_host:77:ab"), held_by(ledger, "my_host:77:cd")
    for other in ("myxhost:77:ab", "my_host:771:ab", "x:my_host:77:"):
        held_by(ledger, other)
    workers = Starts(ended(0), ended(code))
    workers.workers[0].process.pid = 78
    workers.workers[1].gpu = "3"
    started, told = watch(workers, times=2)
    ending = workers.workers[1].ending()
    assert (started, told) == (
        True,
        [f"{ending}; it held {first} of study tiny, {second} of study tiny; another takes its place"],
    )
    assert (workers.started, workers.workers[1].told) == (["3"], True)


@ON_SQLITE
def test_so_many_workers_are_replaced_and_no_more_and_none_where_nothing_is_left(watch: Any) -> None:
    workers = Starts(*(ended(-9) for _ in range(3)))
    what = "worker 77 ended (killed by signal 9); it held no configuration"
    assert watch(workers, 2) == (
        True,
        [
            *[f"{what}; another takes its place"] * 2,
            f"{what}; it is not replaced, as so many have died already",
        ],
    )
    assert len(workers.started) == 2
    assert watch(Starts(ended(-9)), 0) == (
        False,
        [f"{what}; it is not replaced, as so many have died already"],
    )
    assert watch(Starts(ended(-9)), done=True) == (False, [what])


@ON_SQLITE
@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError(12, "Cannot allocate memory"), "Cannot allocate memory"), (OSError("odd"), "odd")],
)
def test_a_worker_that_cannot_be_replaced_is_told(watch: Any, error: OSError, said: str) -> None:
    workers = Starts(ended(-9))
    workers.error = error
    started, (told,) = watch(workers)
    assert not started
    assert told.endswith(f"; it cannot be replaced: {said}")


@ON_SQLITE
def test_what_workers_warn_of_is_passed_on_once_and_not_without_an_end(
    database: Database, study: StoredStudy
) -> None:
    logs = [b"WARNING: a\nb\nWARNING: a\nWARNING: c\n", b"WARNING: a\nWARNING: " + b"d" * 2000 + b"\n"]
    workers = [ended(None, log) for log in logs]
    assert workers[0].warnings() == ["a", "c"]
    told: list[str] = []
    watch = Watch(database, [study], cast(Pool, SimpleNamespace(workers=workers)), 1, told.append)
    watch.pass_on()
    watch.pass_on()
    assert told == ["warning: a", "warning: c", f"warning: {'d' * 1000}"]
    workers.append(ended(None, b"".join(b"WARNING: %d\n" % number for number in range(9))))
    watch.pass_on()
    assert told[3:] == ["warning: 0", "warning: 1"]
