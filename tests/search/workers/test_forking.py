"""A forked process is as one that is started anew: it has nothing left of the first, and ends as Python ends others."""

from __future__ import annotations

import gc
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import programs
import pytest

from pairsearch.search.workers import forking, nursery
from pairsearch.search.workers.forking import Zygote

ENDS = """
import atexit, ctypes, multiprocessing.util, os, signal, sys, threading, time, weakref
from pairsearch.search.workers.forking import Zygote

class Thing:
    pass

def say(text):
    os.write(2, f"{text}\\n".encode())

mine, theirs = Thing(), Thing()
here = os.getpid()
for register in (
    lambda: atexit.register(say, "the end of the first"),
    lambda: weakref.finalize(mine, say, "a finaliser of the first"),
    lambda: multiprocessing.util.Finalize(None, say, args=["multiprocessing in the first"], exitpriority=0),
):
    register()
multiprocessing.util.register_after_fork(mine, lambda _: os.getpid() == here or say("after the fork"))
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.signal(signal.SIGTERM, lambda *_: say("a handler of the first"))
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.set_wakeup_fd(writing)

def looks(words):
    say(f"obeys {words}")
    say(f"wakes {signal.set_wakeup_fd(-1)}")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        say(signal.getsignal(number))  # SIG_DFL is 0, SIG_IGN 1
    say(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    atexit.register(say, "the end of the second")
    weakref.finalize(theirs, say, "a finaliser of the second")
    multiprocessing.util.Finalize(None, say, args=["multiprocessing in the second"], exitpriority=0)
    threading.Thread(target=lambda: (time.sleep(0.2), say("a thread of the second"))).start()
    print("printed by the second")

def fork(obey, enter=lambda: None):
    return Zygote(obey, lambda: None).fork(["some", "words"], enter)

def raising(error):
    def obey(_):
        raise error
    return obey

print("printed by the first")
ctypes.CDLL(None).printf(b"printed by a library\\n")
say(fork(looks, lambda: say("enters")).wait())
errors = (SystemExit(3), SystemExit(None), SystemExit("text"), KeyboardInterrupt(), RuntimeError("what it was"))
say([fork(raising(error)).wait() for error in errors])
say(fork(lambda _: None, lambda: 1 / 0).wait())
say(signal.pthread_sigmask(signal.SIG_BLOCK, []))
begins, writing = os.pipe()

def waits(_):
    os.write(writing, b"!")
    time.sleep(100)

def waiting_one():
    process = fork(waits)
    os.read(begins, 1)
    return process

waiting = waiting_one()
try:
    waiting.wait(0.1)
except TimeoutError as error:
    say("wrong")
except Exception as error:
    say(type(error).__name__)
say(waiting.poll())
waiting.terminate()
say(waiting.wait())
waiting.kill()
say(waiting.wait(0.0))
killed = waiting_one()
killed.kill()
say(killed.wait())
"""
SAID = """\
after the fork
enters
obeys ['some', 'words']
wakes -1
0
1
<built-in function default_int_handler>
set()
a thread of the second
the end of the second
multiprocessing in the second
a finaliser of the second
0
after the fork
after the fork
after the fork
after the fork
after the fork
[3, 0, 1, 130, 1]
after the fork
1
set()
after the fork
TimeoutExpired
None
-15
-15
after the fork
-9
"""


def test_a_forked_process_has_only_what_is_its_own_and_ends_by_the_usual_codes(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(ENDS)
    ended = programs.run(tmp_path, module="ends.py")
    assert ended.code == 0, ended.err
    said = ended.err.splitlines()
    for error in ("what it was", "division by zero"):
        assert any(error in line for line in said), ended.err
    expected = SAID.splitlines()
    first = [line for line in said if "first" in line]
    assert [line for line in said if line in expected or line in first][: len(expected)] == expected, (
        ended.err
    )
    assert sorted(ended.out.splitlines()) == [
        "printed by a library",
        "printed by the first",
        "printed by the second",
    ]


class Machine:
    """What a process sees of itself, and how it changes while it waits."""

    def __init__(self, threads: list[int], *, python: int = 1, children: int = 0) -> None:
        self.threads, self.python, self.children = threads, python, children
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        del self.threads[: len(self.threads) > 1]

    def zygote(self, monkeypatch: pytest.MonkeyPatch, warmed: list[None]) -> Zygote:
        monkeypatch.setattr(forking, "threads", lambda: self.threads[0])
        monkeypatch.setattr(forking, "children", lambda: [1] * self.children)
        monkeypatch.setattr(forking, "sleep", self.sleep)
        monkeypatch.setattr(forking, "monotonic", lambda: self.slept)
        monkeypatch.setattr(threading, "active_count", lambda: self.python)
        monkeypatch.setattr(gc, "freeze", lambda: warmed.append(None))
        return Zygote(print, lambda: warmed.append(None))


@pytest.mark.parametrize(
    ("machine", "slept"),
    [
        (Machine([1]), 0.0),
        # Threads of Python's that were joined are there for a moment longer.
        (Machine([2, 2, 1]), 0.04),
    ],
)
def test_a_process_without_threads_and_children_is_ready_and_its_objects_are_not_copied(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, slept: float
) -> None:
    warmed: list[None] = []
    assert machine.zygote(monkeypatch, warmed).ready("cpu")
    assert (machine.slept, len(warmed)) == (pytest.approx(slept), 2)


@pytest.mark.parametrize(
    ("machine", "device", "slept"),
    [
        (Machine([1]), "cuda", 0.0),
        (Machine([2], python=2), "cpu", 0.0),
        (Machine([3]), "cpu", 1.0),
        (Machine([1], children=1), "cpu", 0.0),
        # Where the system does not count them.
        (Machine([0]), "cpu", 0.0),
    ],
)
def test_a_process_that_cannot_be_forked_from_is_not_warmed_up(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, device: str, slept: float
) -> None:
    warmed: list[None] = []
    assert not machine.zygote(monkeypatch, warmed).ready(device)
    assert machine.slept == pytest.approx(slept, abs=0.05)
    assert warmed == []


@pytest.mark.parametrize("begun", [False, True])
def test_a_process_that_uses_cuda_is_not_forked_from(monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    cuda = SimpleNamespace(is_initialized=lambda: begun)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert Machine([1]).zygote(monkeypatch, []).ready("cpu") == (not begun)


def test_threads_are_those_of_the_system_and_none_where_it_does_not_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, ended = forking.threads(), threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    assert forking.threads() == before + 1
    ended.set()
    thread.join()
    monkeypatch.setattr(forking, "Path", lambda *_: tmp_path / "nowhere")
    assert forking.threads() == 0


@pytest.mark.parametrize(
    ("names", "threads", "cuda", "expected"),
    [
        (["signals", "parent", "heartbeat"], 4, False, True),
        (["signals"], 2, False, True),
        (["signals", "theirs"], 3, False, False),
        ([], 2, False, False),
        ([], 1, True, False),
    ],
)
def test_runs_are_forked_from_a_worker_that_has_only_threads_of_its_own(
    monkeypatch: pytest.MonkeyPatch, names: list[str], threads: int, cuda: bool, expected: bool
) -> None:
    mine = threading.current_thread()
    monkeypatch.setattr(threading, "main_thread", lambda: mine)
    monkeypatch.setattr(
        threading, "enumerate", lambda: [mine, *(threading.Thread(name=name) for name in names)]
    )
    monkeypatch.setattr(forking, "threads", lambda: threads)
    begun = SimpleNamespace(is_initialized=lambda: cuda)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=begun))
    assert nursery.forkable() == expected
    monkeypatch.delitem(sys.modules, "torch")
    assert nursery.forkable() == (expected or cuda)
    monkeypatch.setattr(threading, "main_thread", threading.Thread)
    assert not nursery.forkable()


def test_a_message_has_fields_and_bytes_and_a_side_that_is_gone_is_the_end() -> None:
    one, other = Pipe()
    nursery.send(one, b"some\0bytes", figure=float("inf"), nested=[{"a": None}])
    assert nursery.receive(other) == ({"figure": float("inf"), "nested": [{"a": None}]}, b"some\0bytes")
    nursery.send(other, name="value")
    one.close()  # with what it has not read
    with pytest.raises(EOFError):
        nursery.receive(other)
    other.close()
