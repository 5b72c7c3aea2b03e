"""Workers that claim at the same time never get the same configuration, and together get all of them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import programs
import tiny

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.studies.seeds import layout_order

GRID = {
    "batch_size": list(range(1, 41)),
    "learning_rate": [1e-4, 1e-3],
    "weight_decay": [0.0],
}


def claim_all(ledger: Ledger, worker: str) -> list[str]:
    keys = []
    while (claim := ledger.claim(worker)) is not None:
        keys.append(claim.configuration.key)
    return keys


def claim_all_from_a_process(url: str, folder: str) -> None:
    database = open_database(url)
    keys = claim_all(Ledger(database, get_study(database, "tiny")), "process")
    database.close()
    with (Path(folder) / "claimed").open("a") as file:
        file.write(json.dumps(keys) + "\n")


def expected(study: StoredStudy) -> list[str]:
    return sorted(configuration.key for configuration in layout_order(study.definition))


def test_threads_claim_every_configuration_once(database: Database, make_study) -> None:
    study = make_study(grid=GRID)
    with ThreadPoolExecutor(4) as pool:
        claimed = list(pool.map(lambda worker: claim_all(Ledger(database, study), worker), "abcd"))
    assert sorted(chain.from_iterable(claimed)) == expected(study)


def test_processes_claim_every_configuration_once(
    database: Database, make_study, database_url: str, tmp_path: Path
) -> None:
    study = make_study(grid=GRID)
    codes = programs.together(claim_all_from_a_process, 4, database_url, str(tmp_path))
    assert codes == [0, 0, 0, 0]
    claimed = [json.loads(line) for line in (tmp_path / "claimed").read_text().splitlines()]
    assert len(claimed) == 4
    assert sorted(chain.from_iterable(claimed)) == expected(study)


def test_only_one_of_many_finishes_the_same_claim_stores(database: Database, ledger: Ledger) -> None:
    claim = ledger.claim("ann")
    assert claim is not None
    outcome = tiny.outcome(claim.configuration)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: tiny.finish(ledger, claim, outcome), range(8)))
    assert answers == [True] * 8
    assert len(tiny.rows(database, "runs")) == 2
