"""Measures what a worker's statements cost one PostgreSQL in small and in large studies.

Each study has jobs of one fold, ten for each configuration. The first calls of the ledger are timed right after the
study was created, when the server has no statistics of it; then those of a worker that finds no job, after all but the
last ten jobs were marked as done, with a trial of Optuna's for each configuration. The plan of a claim is printed as
the server explains it. The section `growth` is added to `bench.json`. Example:

    python benchmarks/growth.py --output bench.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from benchfile import describe_machine, say, write
from psycopg import ClientCursor, connect
from server_load import main_process, server_seconds
from service import FOLDS, InstantFold, made_up, postgresql_url
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.psycopg import dialect

from pairsearch.search.common.machine import LEASE_SECONDS
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import OPEN_JOBS
from pairsearch.search.ledger.claims import new_token
from pairsearch.search.ledger.statements import taking
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger

CALLS = 200  # A time is the median over so many calls.
LOOKS = 1000  # The processor time of a look is the mean over so many; the system counts in steps of 10 ms.
PARAMETERS = 5  # Each has ten values, or one.
CONFIGURATIONS = (100, 100_000)

# As the ledger and its view would have left them, but for the last configuration, of which others hold all ten jobs.
_END = (
    "update pairsearch_jobs set state = 'done', lease_expires = null "
    "where id <= (select max(id) from pairsearch_jobs) - 10",
    "update pairsearch_jobs set state = 'running', lease_expires = extract(epoch from now()) + 3600 "
    "where state = 'pending'",
    "insert into trials (number, study_id, state) select c.rank, s.study_id, 'COMPLETE' from studies s, "
    "pairsearch_configurations c where c.trial_id is null",
    "update pairsearch_configurations c set trial_id = t.trial_id from trials t where c.trial_id is null "
    "and t.number = c.rank and t.state = 'COMPLETE'",
    "insert into trial_user_attributes (trial_id, key, value_json) select c.trial_id, 'row', cast(c.id as varchar(20)) "
    "from pairsearch_configurations c on conflict do nothing",
    "update trials set state = 'COMPLETE' where state = 'RUNNING'",
    "update pairsearch_configurations set state = 'finished', value = 0.5, seconds = 1.0, "
    "provenance_id = (select min(id) from pairsearch_provenances) "
    "where rank < (select max(rank) from pairsearch_configurations)",
    "vacuum analyze",
)


def milliseconds(call: Callable[[], Any], calls: int = CALLS) -> float:
    """Return the median time of so many calls."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return round(median(times), 2)


def explained(url: str, study: StoredStudy) -> list[str]:
    """Return the lines of the plan of a claim, with what it really did; the claim is taken back."""
    compiled = taking(frozenset(), begun=False).compile(dialect=dialect())  # type: ignore[no-untyped-call]
    given = {"of_study": study.id, "token": new_token(), "by": "bench", "lease": LEASE_SECONDS}
    with connect(url, cursor_factory=ClientCursor) as connection:
        query = f"explain (analyze, buffers, costs off) {compiled}"
        lines = [line for (line,) in connection.execute(query, compiled.params | given)]
        connection.rollback()
    return lines


def measure(url: str, configurations: int) -> dict[str, Any]:
    """Measure a new study in a new database."""
    database = open_database(url, create=True)
    try:
        sizes = [min(10, -(-configurations // 10**place)) for place in range(PARAMETERS)]
        grid = {f"p{place}": [float(value) for value in range(size)] for place, size in enumerate(sizes)}
        made = made_up("bench", grid)
        start = time.perf_counter()
        study = create_study(database, replace(made, traits=replace(made.traits, together=False))).study
        found: dict[str, Any] = {"jobs": prod(sizes) * FOLDS, "creation_s": time.perf_counter() - start}
        found |= at_the_start(database, study)
        found["plan"] = explained(url, study)
        with connect(url, autocommit=True) as connection:
            for statement in _END:
                connection.execute(statement)
            [(folder,)] = connection.execute("show data_directory").fetchall()
        found |= at_the_end(database, study, main_process(Path(folder)))
        return found
    finally:
        database.close()


def at_the_start(database: Database, study: StoredStudy) -> dict[str, float]:
    """Measure the calls of a worker that trains."""
    ledger = open_ledger(database, study)
    claims = []

    # Moments at which the rows were locked that others may wait for, until the commit.
    locked: dict[str, float] = {}
    held: dict[str, list[float]] = {"configuration": [], "trials": []}

    def executed(*given: Any) -> None:
        for name, begin in (
            ("configuration", "UPDATE pairsearch_configurations SET state"),
            ("trials", "SELECT studies"),
        ):
            if given[2].startswith(begin):
                locked[name] = time.perf_counter()

    def claim() -> None:
        locked.clear()
        found = ledger.claim("bench")
        assert found is not None  # noqa: S101 - there are more
        claims.append(found)
        for name, moment in locked.items():
            held[name].append(1e3 * (time.perf_counter() - moment))

    objective = InstantFold()
    event.listen(database.engine, "after_cursor_execute", executed)
    times = {"claim_ms": milliseconds(claim)}
    event.remove(database.engine, "after_cursor_execute", executed)
    times |= {f"{name}_lock_ms": round(median(held[name]), 2) for name in held}
    times["renew_ms"] = milliseconds(lambda: ledger.renew(claims[0]))
    # All folds of a configuration are held, and its next one is looked for in vain, as where many workers are.
    times["store_ms"] = milliseconds(
        lambda: ledger.finish_and_claim(
            claims[0], objective.on(claims[0].numbers)(claims.pop(0).configuration), new_token(), 1
        )
    )
    return times


def at_the_end(database: Database, study: StoredStudy, server: int) -> dict[str, float]:
    """Measure the calls of a worker that waits for the last jobs of others, and what a look for work costs the server.

    Args:
        server: its main process.
    """
    ledger = open_ledger(database, study)

    def look() -> None:
        assert ledger.claim("bench") is None  # noqa: S101 - all are held
        assert ledger.jobs_left(*OPEN_JOBS) == FOLDS  # noqa: S101 - else it would end
        ledger.stopped()
        ledger.reap()

    before = server_seconds(server)
    times = {"look_ms": milliseconds(look, LOOKS)}
    times["look_server_ms"] = 1e3 * (server_seconds(server) - before) / LOOKS
    assert ledger.view.complete() == 0  # noqa: S101 - else it is not the usual call that is measured
    times["complete_ms"] = milliseconds(ledger.view.complete, 5)
    return times


def main() -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--configurations",
        type=int,
        nargs="+",
        default=CONFIGURATIONS,
        help="of each study; powers of ten up to 100000",
    )
    parser.add_argument("--output", type=Path, help="file to write or to add to")
    given = parser.parse_args()
    machine = describe_machine()
    say(f"{machine['hardware']['processor']}, {machine['hardware']['cores']} cores")
    section = []
    for configurations in given.configurations:
        with postgresql_url() as url:
            if url is None:
                raise SystemExit("not measured: pip install 'pairsearch[test]' brings a server")
            found = measure(url, configurations)
        for line in found["plan"]:
            say(f"  {line}")
        say(", ".join(f"{name} {value:.4g}" for name, value in found.items() if name != "plan"))
        section.append(found)
    if given.output is not None:
        write(given.output, [], {"growth": section, "machine of growth": machine})
        say(f"written: {given.output}")


if __name__ == "__main__":
    main()
