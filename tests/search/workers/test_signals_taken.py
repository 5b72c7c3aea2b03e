"""A worker hears the signals that ask it to end whatever its problem does with them, and takes none from others."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from programs import wait_for

from pairsearch.search.workers.signals import (
    in_training,
    interrupted_by_signals,
    put_back,
    signals,
    stop_with_parent,
)

WANTED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@pytest.fixture(autouse=True)
def left_as_they_were() -> Iterator[None]:
    """The block leaves handlers, descriptor and threads as they were."""
    mine = [signal.signal(number, take) for number in WANTED]
    descriptor = signal.set_wakeup_fd(-1)
    yield
    assert [signal.getsignal(number) for number in WANTED] == [take] * 3
    assert signal.set_wakeup_fd(descriptor) == -1
    assert "signals" not in names()
    for number, handler in zip(WANTED, mine, strict=True):
        signal.signal(number, handler)


def take(_number: int, _frame: object) -> None:
    """A handler of a problem's."""


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that does not block."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("number", WANTED)
def test_a_signal_stops_and_is_told_whoever_handles_it(number: int) -> None:
    own: list[Callable[[], object]] = [
        lambda: None,
        lambda: signal.signal(number, take),  # it is heard by the descriptor
        lambda: (signal.signal(number, signal.SIG_DFL), put_back()),
        lambda: (signal.signal(number, take), put_back()),
        lambda: (signal.set_wakeup_fd(-1), put_back()),
    ]
    if number == signal.SIGINT:
        own.append(lambda: (signal.signal(number, signal.default_int_handler), put_back()))
    for change in own:
        stopping = threading.Event()
        with signals(stopping) as caught:
            assert "signals" in names()
            change()
            assert (caught, stopping.is_set()) == (set(), False)
            send(number)
            assert stopping.wait(30)
            assert caught == {number}


def test_other_signals_and_what_a_problem_puts_in_place_are_let_be() -> None:
    stopping, mine = threading.Event(), signal.signal(signal.SIGUSR1, take)
    with signals(stopping) as caught, pipe() as (reading, writing):
        signal.signal(signal.SIGTERM, take)
        signal.set_wakeup_fd(writing)
        put_back()
        assert signal.getsignal(signal.SIGTERM) is take
        put_back()  # it has a place still
        for number in (signal.SIGUSR1, signal.SIGTERM):
            send(number)
            heard = b""

            def hears() -> bool:
                nonlocal heard
                try:
                    heard += os.read(reading, 1)
                except BlockingIOError:
                    return False
                return True

            wait_for(hears, "the problem to hear it too")
            assert heard == bytes([number])
            assert stopping.is_set() == (number == signal.SIGTERM)
        assert stopping.wait(30)
        assert caught == {signal.SIGTERM}
        signal.set_wakeup_fd(-1)
        put_back()
        send(signal.SIGHUP)
        wait_for(lambda: signal.SIGHUP in caught, "the second one")
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
        signal.set_wakeup_fd(writing)
        put_back()
    # Its end of the pipe is closed by now.
    signal.signal(signal.SIGUSR1, mine)


def test_a_descriptor_that_a_problem_has_closed_does_no_harm() -> None:
    stopping = threading.Event()
    with signals(stopping) as caught:
        with pipe() as (_, writing):
            signal.set_wakeup_fd(writing)
            put_back()
        for number in (signal.SIGHUP, signal.SIGTERM):
            send(number)
            wait_for(lambda: number in caught, "it to be heard")  # noqa: B023


def test_a_second_interrupt_ends_a_training_alone() -> None:
    with signals(threading.Event()) as caught:
        for _ in range(2):
            send(signal.SIGINT)
            send(signal.SIGTERM)
        assert signal.SIGINT in caught
    with signals(threading.Event()):
        with in_training():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                send(number)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
        send(signal.SIGINT)


def test_a_forked_process_has_its_signals_back_but_for_what_the_problem_took() -> None:
    with signals(threading.Event()), pipe() as (reading, writing):
        for taken in (False, True):
            if taken:
                signal.signal(signal.SIGTERM, take)
                signal.set_wakeup_fd(writing)
            if (child := os.fork()) == 0:
                handlers = [signal.getsignal(number) for number in WANTED]
                expected = [take if taken else signal.SIG_DFL, signal.SIG_DFL, signal.default_int_handler]
                descriptor = signal.set_wakeup_fd(-1)
                put_back()
                same = [signal.getsignal(number) for number in WANTED] == handlers
                good = handlers == expected and descriptor == (writing if taken else -1) and same
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0
        os.set_blocking(reading, False)
        put_back()
        signal.set_wakeup_fd(-1)


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals(threading.Event()) as caught, interrupted_by_signals():
        send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert caught == set()
    signal.signal(signal.SIGHUP, take)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_is_interrupted_by_signals_as_by_ctrl_c(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        send(number)


def test_only_the_main_thread_puts_signals_back() -> None:
    with signals(threading.Event()):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        thread = threading.Thread(target=put_back)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("closed", [False, True])
def test_a_worker_stops_as_its_parent_s_end_of_the_pipe_is_closed(closed: bool) -> None:
    stdin, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    try:
        if closed:
            os.close(0)
        stopping = threading.Event()
        stop_with_parent(stopping)
        if not closed:
            assert [one.daemon for one in threading.enumerate() if one.name == "parent"] == [True]
            os.write(writing, b"words of no use")
            time.sleep(0.1)
            assert not stopping.is_set()
            os.close(writing)
        assert stopping.wait(30)
    finally:
        os.dup2(stdin, 0)
        for descriptor in (stdin, reading, *([writing] if closed else [])):
            os.close(descriptor)
