"""Leases: what becomes of the configurations of workers that fell silent, and of results that come too late."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny

from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.unfinished import RETURN_SECONDS
from pairsearch.search.setup.creation import create_study


def lapsed(database: Database, ledger: Ledger) -> Claim:
    """A claim of the first configuration whose lease has run out."""
    [(key,)] = tiny.rows(database, "configurations", "key", "where rank = 0")
    claim = ledger.claim("ann", key=key)
    assert claim is not None
    tiny.let_leases_run_out(database)
    return claim


def test_a_live_lease_is_left_alone(ledger: Ledger) -> None:
    ledger.claim("ann")
    assert ledger.reap() == []


def test_a_lease_that_ran_out_frees_its_configuration(database: Database, ledger: Ledger) -> None:
    claim = lapsed(database, ledger)
    assert ledger.reap() == [(claim.configuration.key, "ann")]
    assert ledger.reap() == []
    again = ledger.claim("bob", key=claim.configuration.key)
    assert again is not None


def test_a_worker_that_was_only_slow_keeps_what_nobody_reaped(database: Database, ledger: Ledger) -> None:
    claim = lapsed(database, ledger)
    assert tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    assert ledger.reap() == []
    assert tiny.rows(database, "superseded") == []


def test_a_lost_claim_changes_nothing(database: Database, ledger: Ledger) -> None:
    lost = lapsed(database, ledger)
    ledger.reap()
    held = ledger.claim("bob", key=lost.configuration.key)
    assert held is not None
    before = tiny.rows(database, "configurations", rest="order by rank")
    assert not ledger.renew(lost)
    assert not ledger.hand_back(lost)
    assert ledger.fail_attempt(lost, "too late") is None
    assert tiny.rows(database, "configurations", rest="order by rank") == before
    assert ledger.hand_back(held)
    assert not ledger.hand_back(lost), "another gave it back"


def test_a_result_after_the_other_s_is_recorded_as_superseded(database: Database, ledger: Ledger) -> None:
    lost = lapsed(database, ledger)
    ledger.reap()
    held = ledger.claim("bob", key=lost.configuration.key)
    assert held is not None
    result = tiny.outcome(held.configuration)
    assert tiny.finish(ledger, held, result)
    stored = [tiny.rows(database, table) for table in ("configurations", "runs", "curves")]
    for _ in ("the answer to the first call was lost", "so it is called again"):
        assert not tiny.finish(ledger, lost, result)
    assert [tiny.rows(database, table) for table in ("configurations", "runs", "curves")] == stored
    assert tiny.rows(database, "superseded", "claim, worker, value") == [(lost.token, "ann", result.value)]


def test_a_result_before_the_other_s_does_not_take_its_place(database: Database, ledger: Ledger) -> None:
    lost = lapsed(database, ledger)
    ledger.reap()
    held = ledger.claim("bob", key=lost.configuration.key)
    assert held is not None
    assert not tiny.finish(ledger, lost, tiny.outcome(lost.configuration))
    assert tiny.rows(database, "runs") == []
    assert tiny.states(database) == {"pending": 7, "running": 1}
    assert tiny.finish(ledger, held, tiny.outcome(held.configuration))
    assert len(tiny.rows(database, "superseded")) == 1


def test_a_result_after_reaping_waits_for_nobody_and_does_not_count(
    database: Database, ledger: Ledger
) -> None:
    lost = lapsed(database, ledger)
    ledger.reap()
    assert not tiny.finish(ledger, lost, tiny.outcome(lost.configuration))
    assert tiny.states(database) == {"pending": 8}


def test_a_configuration_that_takes_every_worker_with_it_fails_in_the_end(
    database: Database, ledger: Ledger
) -> None:
    """As one that needs more memory than there is: the kernel kills the worker, and nobody reports an error."""
    for lapses in range(1, 10):
        lapsed(database, ledger)
        ledger.reap()
        assert tiny.rows(database, "configurations", "state, lapses", "where rank = 0") == [
            ("pending", lapses)
        ]
    lapsed(database, ledger)
    assert [worker for _, worker in ledger.reap()] == ["ann"]
    [(state, reason)] = tiny.rows(database, "configurations", "state, reason", "where rank = 0")
    assert state == "failed"
    assert "lost with its worker 10 times" in reason
    assert len(ledger.retry()) == 1
    assert tiny.rows(database, "configurations", "state, lapses", "where rank = 0") == [("pending", 0)]


def test_reaping_does_not_count_as_an_error(database: Database, ledger: Ledger) -> None:
    for _ in range(4):
        lapsed(database, ledger)
        assert len(ledger.reap()) == 1
    assert tiny.rows(database, "configurations", "state, errors, claims", "where rank = 0") == [
        ("pending", 0, 4)
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("lease", "up", "expired"), [(60, 14, False), (60, 16, True), (5, 4, False), (5, 6, True)]
)
def test_workers_have_a_while_to_return_after_the_database_was_away(
    database: Database,
    study: StoredStudy,
    monkeypatch: pytest.MonkeyPatch,
    lease: int,
    up: int,
    expired: bool,
) -> None:
    """Fifteen seconds, or as long as a lease lasts."""
    monkeypatch.setattr("pairsearch.search.ledger.unfinished.RETURN_SECONDS", RETURN_SECONDS)
    monkeypatch.setattr("pairsearch.search.ledger.unfinished.up_since", lambda: now() - up)
    ledger = Ledger(database, study, lease)
    lapsed(database, ledger)
    assert ledger.expired() == expired
    assert len(ledger.reap()) == int(expired)


def test_what_lapsed_is_told_by_its_key(database: Database, ledger: Ledger) -> None:
    keys = [claim.configuration.key for _ in range(8) if (claim := ledger.claim("ann"))]
    tiny.let_leases_run_out(database)
    assert [key for key, _ in ledger.reap()] == sorted(keys) != keys


def test_jobs_that_another_transaction_holds_are_passed_over(
    postgresql_url: str,
) -> None:
    database, other = open_database(postgresql_url, create=True), open_database(postgresql_url)
    loaded = tiny.anything(folds=4, grid={"x": [1]})
    apart = replace(loaded, traits=replace(loaded.traits, together=False))
    ledger = Ledger(database, create_study(database, apart).study)
    with other.write() as connection:
        connection.exec_driver_sql("select id from pairsearch_jobs where first in (0, 2) for update")
        claim = ledger.claim("ann", runs=4)
        assert claim is not None
        assert list(claim.numbers) == [1], "the next one is locked"
        claim = ledger.claim("ann", runs=4)
        assert claim is not None
        assert list(claim.numbers) == [3]
    taken = [ledger.claim("ann") for _ in range(2)]
    tiny.let_leases_run_out(database)
    with other.write() as connection:
        connection.exec_driver_sql("select id from pairsearch_jobs where first > 0 for update")
        assert len(ledger.reap()) == 1
    assert len(ledger.reap()) == 3
    assert None not in taken
    database.close()
    other.close()
