"""Two hosts, as network namespaces: the database on one, workers on the other, and the link between them cut."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import programs
import promise
import pytest
import tiny
from availability import unavailable
from server import running

from pairsearch.search.database.connection import open_database
from pairsearch.search.workers.program import MAIN

pytestmark = pytest.mark.soak

ADDRESSES = ("10.213.77.1", "10.213.77.2")
"""Of the database's host and of the workers', in a network of their own."""
NETWORK = 0x40000000  # CLONE_NEWNET
LEASE = 4.0
"""Seconds of a lease; the link is cut for longer."""


class Hosts:
    """Two hosts with a cable between them, called by the names of their namespaces."""

    def __init__(self) -> None:
        self.here, self.there = (f"pairsearch-{name}-{os.getpid()}" for name in ("db", "work"))

    @contextmanager
    def entered(self, host: str) -> Iterator[None]:
        """Processes that this thread starts inside the block are on a host."""
        libc = ctypes.CDLL(None)
        with Path("/proc/thread-self/ns/net").open() as home, Path("/run/netns", host).open() as there:
            assert libc.setns(there.fileno(), NETWORK) == 0
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), NETWORK) == 0

    def connect(self) -> None:
        """Lay the cable."""
        ends = zip((self.here, self.there), ADDRESSES, ("db0", "work0"), strict=True)
        _ip("link", "add", "db0", "netns", self.here, "type", "veth", "peer", "work0", "netns", self.there)
        for host, address, device in ends:
            _ip("-n", host, "addr", "add", f"{address}/24", "dev", device)
            for up in ("lo", device):
                _ip("-n", host, "link", "set", up, "up")

    def link(self, state: str) -> None:
        """Cut the cable (`down`), or put it back (`up`); nobody is told."""
        _ip("-n", self.there, "link", "set", "work0", state)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Two hosts, which go with the test."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        unavailable("network namespaces need root and ip (Debian: apt-get install iproute2)")
    made = Hosts()
    with ExitStack() as stack:
        for host in (made.here, made.there):
            try:
                _ip("netns", "add", host)
            except subprocess.CalledProcessError as error:
                unavailable(f"no network namespace can be made here: {error.stderr.strip()}")
            stack.callback(_ip, "netns", "delete", host)
        made.connect()
        yield made


def test_a_link_that_is_cut_and_comes_back_loses_nothing_and_doubles_nothing(
    hosts: Hosts, tmp_path: Path, at_leisure: list[tuple[object, ...]], show: Callable[[str], None]
) -> None:
    with running() as server, ExitStack() as stack:
        server.stop()
        with hosts.entered(hosts.here):
            server.start(ADDRESSES[0])
        local = server.create_database("far")
        study = promise.create_own(tmp_path / "study", local, rest=0.15)
        database = open_database(local)
        stack.callback(database.close)
        url = f"postgresql://postgres@{ADDRESSES[0]}/far"
        words = (sys.executable, "-P", MAIN, "worker", str(study), "--lease", str(LEASE), "--patience", "120")
        workers = []
        # One worker on the database's own host goes on while the link is cut.
        for number, host in enumerate((hosts.there, hosts.there, hosts.here)):
            log = stack.enter_context((tmp_path / f"log-{number}").open("w"))
            variables = programs.environment(PAIRSEARCH_STORAGE=url)
            with hosts.entered(host):
                workers.append(subprocess.Popen(words, env=variables, stdout=log, stderr=log))
            stack.callback(workers[-1].kill)

        def finished() -> int:
            return tiny.states(database)["finished"]

        def lapses() -> int:
            [(count,)] = tiny.rows(database, "configurations", "sum(lapses)")
            return int(count)

        # A short cut, which the workers behind it wait out.
        programs.wait_for(lambda: finished() >= 6, "the first results", 120)
        hosts.link("down")
        time.sleep(2 * LEASE)
        hosts.link("up")
        # A long one: the worker that is left ends the rest, and then takes what the others hold.
        programs.wait_for(lambda: finished() >= 36, "more results", 120)
        hosts.link("down")
        programs.wait_for(lambda: lapses() > 0, "leases to run out", 120)
        hosts.link("up")
        codes = [worker.wait(300) for worker in workers]
        logs = [(tmp_path / f"log-{number}").read_text(encoding="utf-8") for number in range(3)]
        assert codes == [0, 0, 0], logs
        promise.assert_kept(database, at_leisure, promise.OWN_POINTS)
        ends = "; ".join(log.strip().splitlines()[-1] for log in logs)
        show(f"two hosts: {lapses()} leases ran out behind the link; {ends}")
