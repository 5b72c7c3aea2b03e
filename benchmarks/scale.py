"""Measures what many workers cost one PostgreSQL.

Simulated workers, each a thread with a connection of its own, claim jobs of one fold with the real ledger and Optuna's
view, hold each for a while, renew its lease as a heartbeat does, and store the fold. They run in several processes,
because the threads of one share a core. With `--times 10` each thread does what ten workers do: it holds a job for a
tenth of the time and renews ten times as often. The server is a temporary one with its usual settings, but for
`max_connections` and a log of some of its statements, from which their times are taken. The section `scale N`, N
workers, is added to `bench.json`; the exit code is 1 where a fold was lost or stored twice, a lease ran out, or a
worker broke. Examples:

    python benchmarks/scale.py --output bench.json
    python benchmarks/scale.py --times 10
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import psutil
from benchfile import describe_machine, say, write
from psycopg import connect
from server_load import Snapshot, statement_times, watched
from service import InstantFold, postgresql_url, wide_study

from pairsearch.search.common.errors import DatabaseAwayError
from pairsearch.search.common.machine import LEASE_SECONDS, PATIENCE_SECONDS
from pairsearch.search.database.connection import open_database
from pairsearch.search.database.retry import patiently
from pairsearch.search.ledger.claims import Claim, new_token, worker_name
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.choosing import Choice
from pairsearch.search.workers.faults import Faults

ENDING = 30.0  # Seconds between the first and the last worker that hands back.
SPREAD = (
    0.2  # Jobs take so much less or more, evenly; else folds of a configuration would always end together.
)
BEATS = 4  # A heartbeat renews so many times in a lease (`search.workers.heartbeat`).
STARTING = 20.0  # Seconds in which the processes start.
SETTLING = 5.0  # Seconds between the last start and the measurement.
SPARE = 100  # Connections of the server beside those of the workers.
STATEMENTS = 12  # The times of so many kinds of statements are printed.

Returned = TypeVar("Returned")


@dataclass(frozen=True)
class Plan:
    """What each simulated worker does; moments are of `time.monotonic`, which processes of a machine share.

    Args:
        hold: seconds for which a job is held, on average.
        beat: seconds between two renewals.
        starting: the moment at which the first worker starts.
        workers: how many threads there are.
        apart: seconds between the starts of two of them.
        end: the moment at which workers begin to hand back what they hold, one after the other.
    """

    url: str
    study: str
    hold: float
    beat: float
    starting: float
    workers: int
    apart: float
    end: float


@dataclass
class Tally:
    """What workers did.

    Attributes:
        calls: kind, moment of the end and seconds of each call of the ledger that was answered.
        counts: how often something else happened.
    """

    calls: list[tuple[str, float, float]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def timed(self, kind: str, call: Callable[[], Returned]) -> Returned:
        """Make a call, as patiently as a worker does, and note how long it took."""
        start = time.monotonic()

        def once() -> Returned:
            try:
                return call()
            except DatabaseAwayError:
                self.counts["repeated"] += 1
                raise

        answer = patiently(once, PATIENCE_SECONDS)
        end = time.monotonic()
        self.calls.append((kind, end, end - start))
        return answer


class Simulated:
    """A worker whose training is a pause."""

    def __init__(self, plan: Plan, end: float, tally: Tally, compiled: dict[Any, Any]) -> None:
        self._plan = plan
        self._end = end
        self._tally = tally
        self._database = patiently(lambda: open_database(plan.url, waiting=True), PATIENCE_SECONDS)
        # Workers are processes of their own and build each statement once; those of a process here build it together.
        self._database.engine.update_execution_options(compiled_cache=compiled)
        study = get_study(self._database, plan.study)
        self._ledger = open_ledger(self._database, study)
        self._ledger.reap()
        self._objective = InstantFold()
        faults = Faults(self._ledger, cast(Any, self._objective), lambda call: call())
        self._choice = Choice(self._ledger, worker_name(), faults, None, {})
        # Folds that train apart are reported by being stored.
        self._reports = study.report_steps if study.traits.together else ()
        self._epochs = study.definition.epochs
        self._beat = time.monotonic() + plan.beat

    def run(self) -> None:
        """Work until the end of the plan, or until no job is left."""
        following: Claim | None = None
        while time.monotonic() < self._end:
            claim = following or self._tally.timed("claim", self._choice.next)
            if claim is None:
                self._tally.counts["without a job"] += 1
                break
            following = self._work(claim)
        if following is not None:
            self._tally.timed("hand back", partial(self._ledger.hand_back, following))
        self._database.close()

    def _work(self, claim: Claim) -> Claim | None:
        """Hold a job and store it; return the claim that came with that."""
        if not self._held(claim):
            return None
        outcome = self._objective.on(claim.numbers)(claim.configuration)
        token = new_token()
        stored, following = self._tally.timed(
            "store", lambda: self._ledger.finish_and_claim(claim, outcome, token, 1)
        )
        self._tally.counts["stored" if stored else "superseded"] += 1
        if following is not None:
            self._tally.calls.append(("claim with a store", time.monotonic(), 0.0))
        return following

    def _held(self, claim: Claim) -> bool:
        """Hold a job for its time; return False if it was lost, or handed back at the end of the plan."""
        start = time.monotonic()
        hold = self._plan.hold * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - no secret
        done = start + hold
        reports = [(start + hold * step / self._epochs, step) for step in self._reports]
        while (now := time.monotonic()) < done:
            if now >= self._end:
                self._tally.timed("hand back", partial(self._ledger.hand_back, claim))
                return False
            if now >= self._beat:
                if not self._tally.timed("renew", lambda: self._ledger.renew(claim)):
                    self._tally.counts["lost leases"] += 1
                    return False
                self._beat = time.monotonic() + self._plan.beat
            elif reports and now >= reports[0][0]:
                self._tally.timed("report", partial(self._ledger.report, claim, reports.pop(0)[1], 0.5))
            moments = [done, self._end, self._beat, *(moment for moment, _ in reports[:1])]
            time.sleep(max(0.0, min(moments) - time.monotonic()))
        return True


def work(plan: Plan, numbers: Sequence[int]) -> Tally:
    """Run the workers of these numbers, each in a thread, and return what they did together."""
    tallies = [Tally() for _ in numbers]
    compiled: dict[Any, Any] = {}

    def one(number: int, tally: Tally) -> None:
        time.sleep(max(0.0, plan.starting + number * plan.apart - time.monotonic()))
        try:
            Simulated(plan, plan.end + ENDING * number / plan.workers, tally, compiled).run()
        except Exception as error:
            tally.counts.update(["broken", f"{type(error).__name__}: {error}"[:200]])

    threads = [threading.Thread(target=one, args=pair) for pair in zip(numbers, tallies, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = Tally()
    for tally in tallies:
        together.calls += tally.calls
        together.counts += tally.counts
    return together


def kept(url: str, tally: Tally) -> dict[str, int]:
    """Return what the database says at the end beside what workers were told; all but the first two are to be zero."""
    with connect(url) as connection:

        def count(query: str) -> int:
            [(found,)] = connection.execute(query).fetchall()
            return int(found)

        runs = count("select count(*) from pairsearch_runs")
        distinct = count("select count(distinct (study_id, key, kind, run)) from pairsearch_runs")
        folds = count("select count(*) from pairsearch_jobs where state = 'done'")
        return {
            "runs": runs,
            "distinct_runs": distinct,
            "jobs_done_without_their_answer": folds - tally.counts["stored"],
            "lapses": count("select coalesce(sum(lapses), 0) from pairsearch_jobs"),
            "held_at_the_end": count("select count(*) from pairsearch_jobs where state = 'running'"),
            "superseded": count("select count(*) from pairsearch_superseded"),
            "lost_leases": tally.counts["lost leases"],
            "broken_workers": tally.counts["broken"],
        }


def measure(url: str, given: argparse.Namespace, study: str) -> dict[str, Any]:
    """Start the workers, and return what they and the server did during the measurement."""
    with watched(url, given.workers + SPARE) as watch:
        starting = time.monotonic() + STARTING
        begin = starting + given.hold + SETTLING
        end = begin + given.duration
        plan = Plan(
            url=url,
            study=study,
            hold=given.hold / given.times,
            beat=LEASE_SECONDS / BEATS / given.times,
            starting=starting,
            workers=given.workers,
            apart=given.hold / given.workers,
            end=end,
        )
        shares = [range(start, given.workers, given.processes) for start in range(given.processes)]
        spawning = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(given.processes, mp_context=spawning) as pool:
            running = [pool.submit(work, plan, share) for share in shares]
            time.sleep(max(0.0, begin - time.monotonic()))
            clients = [psutil.Process(process.pid) for process in multiprocessing.active_children()]
            before = Snapshot.take(watch, clients)
            while (now := time.monotonic()) < end:
                watch.look()
                time.sleep(min(1.0, max(0.0, end - now)))
            after = Snapshot.take(watch, clients)
            tally = Tally()
            for share in running:
                found = share.result()
                tally.calls += found.calls
                tally.counts += found.counts
        return {
            "workers": given.workers * given.times,
            "threads": given.workers,
            "hold": plan.hold,
            "calls": calls_between(tally, before.moment, after.moment),
            "server": after.since(before) | watch.seen(),
            "statements": statement_times(watch.folder, before, after)[:STATEMENTS],
            "kept": kept(url, tally),
            "other": {name: count for name, count in tally.counts.items() if name != "stored"},
        }


def calls_between(tally: Tally, begin: float, end: float) -> dict[str, dict[str, float]]:
    """Return how many calls of each kind were answered a second, and median and 99th percentile of their ms."""
    found: dict[str, list[float]] = {}
    for kind, moment, seconds in tally.calls:
        if begin <= moment < end:
            found.setdefault(kind, []).append(1e3 * seconds)
    return {
        kind: {
            "a_second": round(len(times) / (end - begin), 2),
            "ms_median": round(float(np.median(times)), 1),
            "ms_99": round(float(np.quantile(times, 0.99)), 1),
        }
        for kind, times in sorted(found.items())
    }


def show(section: dict[str, Any]) -> None:
    """Print what was measured."""
    for kind, figures in section["calls"].items():
        say(
            f"{kind}: {figures['a_second']} a second, median {figures['ms_median']} ms, "
            f"99 % within {figures['ms_99']} ms"
        )
    for part in ("server", "kept", "other"):
        for name, value in section[part].items():
            say(f"{name}: {value}")
    for found in section["statements"]:
        say(
            f"{found['server_seconds_a_second']:.4f} s a second, {found['a_second']:.1f} a second of "
            f"{found['ms']:.3f} ms: {found['statement']}"
        )


def main() -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1000, help="threads, each a worker (1000)")
    parser.add_argument(
        "--times", type=int, default=1, help="each thread does the work of so many workers (1)"
    )
    parser.add_argument("--hold", type=float, default=60.0, help="seconds of a job, on average (60)")
    parser.add_argument("--duration", type=float, default=180.0, help="seconds of the measurement (180)")
    parser.add_argument("--processes", type=int, default=8, help="processes that share the threads (8)")
    parser.add_argument(
        "--whole", action="store_true", help="a job is a configuration, ten folds that report epochs"
    )
    parser.add_argument("--output", type=Path, help="file to write or to add to")
    given = parser.parse_args()
    machine = describe_machine()
    say(f"{machine['hardware']['processor']}, {machine['hardware']['cores']} cores")
    with postgresql_url() as url:
        if url is None:
            raise SystemExit("not measured: pip install 'pairsearch[test]' brings a server")
        database = open_database(url, create=True)
        study = create_study(database, wide_study(together=given.whole)).study
        database.close()
        say(f"{given.workers} threads, each {given.times} workers with jobs of {given.hold:g} s")
        section = measure(url, given, study.name)
    show(section)
    if given.output is not None:
        write(given.output, [], {f"scale {section['workers']}": section, "machine of scale": machine})
        say(f"written: {given.output}")
    kept_badly = {name: count for name, count in list(section["kept"].items())[2:] if count}
    if kept_badly or section["kept"]["runs"] != section["kept"]["distinct_runs"]:
        raise SystemExit(f"not kept: {kept_badly}")


if __name__ == "__main__":
    main()
