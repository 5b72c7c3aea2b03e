"""`make soak`: many faults in one study, and many workers on a large one; seeds and figures are printed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import programs
import promise
import pytest
import tiny
from bouncer import bouncing
from chaos import Chaos, Plan
from server import Server
from service import Instant, wide_study

from pairsearch.search.database.connection import open_database
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.worker import Worker

pytestmark = pytest.mark.soak

FAULTS = Plan(
    kills=150, early_kills=30, stops=10, cuts=60, restarts=6, crashes=6, away=1.0, long_absences=1, pause=0.15
)
OVER_FOLDS = Plan(kills=3, early_kills=1, halts=1, pause=0.1)
OVER_ROUNDS = Plan(kills=8, early_kills=1, halts=2, pause=0.1)
ROUNDS = 6
GRID = {
    "batch_size": [5, 10, 25, 50],
    "learning_rate": [1e-5, 1e-4, 1e-3, 1e-2],
    "weight_decay": [0.0, 1e-4, 1e-3, 1e-2, 0.1],
    "hidden_units": [10, 50, 100],
}
# On fast cores 60 epochs end before the last faults.
WS = {"architecture": "ws", "epochs": 100, "grid": GRID}
POINTS = 240

SLICE = 1_000
"""Figures of the start and of the end are over so many configurations."""
LONGEST_SECONDS = 1200


def test_the_promise_under_many_faults(server: Server, server_url: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"\nfaults: seed {seed}, {POINTS} configurations, 4 workers")
    expected = promise.undisturbed(tmp_path / "alone", **WS)
    study = promise.create(tmp_path, server_url, **WS)
    with closing(open_database(server_url)) as database:
        chaos = Chaos(server, database, study, tmp_path, workers=4, lease=2.0, seed=seed)
        start = time.monotonic()
        damage = chaos.run(FAULTS)
        seconds = time.monotonic() - start
        promise.assert_kept(database, expected, POINTS)
        [(superseded,)] = tiny.rows(database, "superseded", "count(*)")
        states = promise.trial_states(database)
    for what, count in sorted(damage.done.items()):
        print(f"  {what}: {count}")
    print(f"  connections cut: {damage.cut}")
    print(f"  configurations held by killed workers: {damage.holding}")
    print(
        f"  longest recovery after a kill: {max(damage.recoveries):.1f} s, the lease being {chaos.lease} s; "
        f"where the server was away too: {max(damage.late_recoveries, default=0.0):.1f} s"
    )
    print(f"  workers started: {chaos.started}, exit codes {dict(damage.codes)}")
    print(
        f"  finished: {POINTS}, duplicates 0, holes 0, left RUNNING {states['RUNNING']}, "
        f"bit-identical {POINTS}, superseded results {superseded}, trials closed as failed {states['FAIL']}"
    )
    print(f"  {seconds:.0f} s")
    assert set(damage.codes) == {0, -9}, "\n".join(damage.complaints)


LONG = (promise.create_long, partial(promise.create_long, rest=0.0), promise.LONG_POINTS, 4)
PAPER = partial(
    promise.create, epochs=60, evaluation={"epochs": 200},
    grid=promise.FIELDS["grid"] | {"weight_decay": [0.0, 0.001, 0.01, 0.1]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("make", "alone", "points", "top"),
    [
        pytest.param(*LONG, id="own problem with checkpoints"),
        pytest.param(PAPER, PAPER, 24, 12, id="paper's problem"),
    ],
)
def test_rounds_and_stops(
    database_url: str,
    tmp_path: Path,
    make: Callable[..., Path],
    alone: Callable[..., Path],
    points: int,
    top: int,
) -> None:
    """Workers are killed over folds and over rounds, and `pairsearch stop` ends all of them in the middle."""
    seed = random.SystemRandom().randrange(1_000_000)
    rounds = ("--top", str(top), "--rounds", str(ROUNDS))
    expected = promise.undisturbed(tmp_path / "alone", alone, rounds)
    (tmp_path / "study").mkdir()
    study = make(tmp_path / "study", database_url)
    database = open_database(database_url)
    chaos = Chaos(None, database, study, tmp_path, workers=3, lease=1.0, seed=seed)
    start = time.monotonic()
    chaos.run(OVER_FOLDS)
    promise.ask_for_rounds(tmp_path, database_url, study, *rounds)
    damage = chaos.run(OVER_ROUNDS)
    seconds = time.monotonic() - start
    promise.assert_kept(database, expected, points)
    stored = tiny.rows(database, "runs", "key, count(*)", "where kind = 'round' group by key")
    assert sorted(count for _, count in stored) == [ROUNDS] * top
    assert tiny.rows(database, "checkpoints") == []
    database.close()
    assert set(damage.codes) == {0, -9}, "\n".join(damage.complaints)
    assert damage.codes[-9] == damage.done["worker killed"] + damage.done["starting worker killed"]
    print(
        f"\nrounds and stops: seed {seed}, {dict(damage.done)}, jobs held by killed workers {damage.holding}, "
        f"workers started {chaos.started}, {points} configurations and {top * ROUNDS} rounds, each once and "
        f"bit-identical, {seconds:.0f} s"
    )


def work(url: str, configurations: int, folder: str) -> None:
    """One of many workers, whose objective trains nothing."""
    from pairsearch.search.ledger.studies import list_studies  # noqa: PLC0415

    database = open_database(url)
    (study,) = list_studies(database)
    worker = Worker(
        open_ledger(database, study),
        Instant(),
        stopping=threading.Event(),
        limit=configurations,
        say=lambda _: None,
    )
    # All begin together: starting up is not what is measured.
    (Path(folder) / f"{worker.name}.ready").touch()
    programs.wait_for((Path(folder) / "go").exists, "the others", patience=300)
    worker.run()
    database.close()


@pytest.mark.parametrize(
    ("workers", "configurations", "connections"),
    [(32, 10_000, None), (96, 3_000, 20)],
    ids=["direct", "PgBouncer"],
)
def test_many_workers_on_a_large_study(
    server: Server,
    server_url: str,
    tmp_path: Path,
    workers: int,
    configurations: int,
    connections: int | None,
) -> None:
    """Directly, and behind a PgBouncer that has so many connections to the server."""
    database = open_database(server_url, create=True)
    create_study(database, wide_study())
    way = (
        nullcontext(server_url)
        if connections is None
        else bouncing(server, server_url, tmp_path, connections)
    )
    with way as url:
        crowd = programs.start_together(work, workers, url, configurations, str(tmp_path))
        programs.wait_for(lambda: len(list(tmp_path.glob("*.ready"))) == workers, "all workers", patience=300)
        (tmp_path / "go").touch()
        start, most = time.monotonic(), 0
        while any(worker.is_alive() for worker in crowd):
            assert time.monotonic() - start < LONGEST_SECONDS, tiny.states(database)
            # Less the one of this test.
            most = max(most, server.connections(database.url.database or "") - 1)
            time.sleep(1.0)
        seconds = time.monotonic() - start
    assert [worker.exitcode for worker in crowd] == [0] * workers

    done = tiny.rows(
        database,
        "configurations",
        "finished_at, finished_at - started_at",
        "where state = 'finished' order by finished_at",
    )
    assert len(done) == configurations
    assert tiny.rows(database, "configurations", "sum(lapses), sum(errors), max(claims)") == [(0, 0, 1)]
    assert tiny.rows(database, "superseded", "count(*)") == [(0,)]
    folds = tiny.rows(database, "runs", "count(*), count(distinct key)", "where kind = 'fold'")
    assert folds == [(configurations * 10, configurations)]
    assert promise.trial_states(database) == {"COMPLETE": configurations}
    database.close()

    print(f"\ncrowd: {workers} workers, {configurations} configurations in {seconds:.0f} s, no duplicates")
    for name, part in (("first", done[:SLICE]), ("last", done[-SLICE:])):
        rate = (len(part) - 1) / (part[-1][0] - part[0][0])
        held = sorted(row[1] for row in part)[len(part) // 2]
        print(
            f"  {name} {SLICE}: {rate:.0f} a second, {1000 / rate:.1f} ms a configuration for the whole machine, "
            f"{1000 * held:.0f} ms in a worker's hands (median)"
        )
    print(f"  connections to the server: {most} at most, {most / workers:.2f} a worker")
