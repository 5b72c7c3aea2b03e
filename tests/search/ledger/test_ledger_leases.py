"""Leases: what becomes of the configurations of workers that fell silent, and of results that come too late."""

from __future__ import annotations

import tiny

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.unfinished import MAX_LAPSES, Lapsed


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
    assert ledger.reap() == [Lapsed(claim.configuration.key, "ann")]
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
    for lapses in range(1, MAX_LAPSES):
        lapsed(database, ledger)
        ledger.reap()
        assert tiny.rows(database, "configurations", "state, lapses", "where rank = 0") == [
            ("pending", lapses)
        ]
    lapsed(database, ledger)
    assert [lapse.worker for lapse in ledger.reap()] == ["ann"]
    [(state, reason)] = tiny.rows(database, "configurations", "state, reason", "where rank = 0")
    assert state == "failed"
    assert f"lost with its worker {MAX_LAPSES} times" in reason
    assert len(ledger.retry()) == 1
    assert tiny.rows(database, "configurations", "state, lapses", "where rank = 0") == [("pending", 0)]


def test_reaping_does_not_count_as_an_error(database: Database, ledger: Ledger) -> None:
    for _ in range(4):
        lapsed(database, ledger)
        assert len(ledger.reap()) == 1
    assert tiny.rows(database, "configurations", "state, errors, claims", "where rank = 0") == [
        ("pending", 0, 4)
    ]
