"""A crowd of workers on a real PostgreSQL, both hurt at random moments: nothing lost, nothing twice.

`make soak` runs the same for longer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import promise
from chaos import Chaos, Plan
from server import Server

from pairsearch.search.database.connection import open_database

LONGER = {"epochs": 60}
PLAN = Plan(kills=8, early_kills=2, stops=1, cuts=2, restarts=1, crashes=1)


def test_the_promise_is_kept_whatever_happens(
    server: Server, server_url: str, tmp_path: Path, show: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    expected = promise.undisturbed(tmp_path / "alone", **LONGER)
    study = promise.create(tmp_path, server_url, **LONGER)
    database = open_database(server_url)
    show(f"faults: seed {seed}")
    chaos = Chaos(server, database, study, tmp_path, workers=3, lease=1.5, seed=seed)
    damage = chaos.run(PLAN)
    promise.assert_kept(database, expected)
    database.close()
    assert damage.codes[-9] == PLAN.kills + PLAN.early_kills
    assert damage.holding >= PLAN.kills / 2
    assert damage.recoveries + damage.late_recoveries, "what killed workers held became free again"
    assert set(damage.codes) == {0, -9}, "\n".join(damage.complaints)
    show(
        f"faults of seed {seed}: {dict(damage.done)}, {damage.cut} connections cut, "
        f"longest recovery {max(damage.recoveries, default=0.0):.1f} s of {len(damage.recoveries)}"
    )
