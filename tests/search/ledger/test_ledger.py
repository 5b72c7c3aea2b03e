"""The ledger's contract, on SQLite and PostgreSQL alike: what claims give, and what a claim may change."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable

import pytest
import tiny
from sqlalchemy import select, text

from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import COVERED, OPEN, OPEN_JOBS, JobState, State
from pairsearch.search.database.tables import jobs
from pairsearch.search.ledger.claims import Claim, new_token, worker_name
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.studies.seeds import layout_order

OTHER = tiny.point(batch_size=99, learning_rate=0.5, weight_decay=0.0)


def taken(ledger: Ledger, worker: str = "ann", key: str | None = None) -> Claim:
    claim = ledger.claim(worker, key=key)
    assert claim is not None
    return claim


def test_a_worker_s_name_says_where_it_is() -> None:
    assert re.fullmatch(rf"{re.escape(socket.gethostname())}:{os.getpid()}:[0-9a-f]{{6}}", worker_name())
    assert worker_name() != worker_name()


def test_every_configuration_is_laid_out_once(database: Database, study: StoredStudy, ledger: Ledger) -> None:
    order = layout_order(study.definition)
    assert [key for (key,) in tiny.rows(database, "configurations", "key", "order by rank")] == [
        configuration.key for configuration in order
    ]
    with database.write() as connection:
        assert ledger.insert(connection, order) == 0
    assert len(tiny.rows(database, "configurations")) == len(order) == 8


def test_laying_out_more_appends_the_new_ones(database: Database, study: StoredStudy, ledger: Ledger) -> None:
    before = tiny.rows(database, "configurations", "key, rank", "order by rank")
    with database.write() as connection:
        assert ledger.insert(connection, [OTHER, *layout_order(study.definition)]) == 1
    assert tiny.rows(database, "configurations", "key, rank", "order by rank") == [*before, (OTHER.key, 8)]


def test_claims_come_in_the_order_of_the_layout(study: StoredStudy, ledger: Ledger) -> None:
    claims = [taken(ledger) for _ in range(8)]
    assert [claim.configuration for claim in claims] == layout_order(study.definition)
    assert len({claim.token for claim in claims}) == 8
    assert ledger.claim("ann") is None


def test_jobs_of_configurations_that_have_ended_since_are_dropped(
    database: Database, study, ledger: Ledger
) -> None:
    order = layout_order(study.definition)
    tiny.execute(database, "update pairsearch_configurations set state = 'failed' where rank < 2")
    assert taken(ledger).configuration == order[2]
    assert tiny.rows(database, "jobs", "state", "order by rank, first")[:4] == [
        ("dropped",), ("dropped",), ("running",), ("pending",),
    ]  # fmt: skip


def test_a_limit_leaves_the_rest_of_the_grid_alone(ledger: Ledger) -> None:
    assert ledger.jobs_left(JobState.PENDING, limit=2) == 2
    assert ledger.claim("ann", limit=2)
    assert ledger.claim("bob", limit=2)
    assert ledger.claim("ann", limit=2) is None
    assert (ledger.jobs_left(JobState.PENDING, limit=2), ledger.jobs_left(*OPEN_JOBS, limit=2)) == (0, 2)
    assert (tiny.count(ledger, State.PENDING), tiny.count(ledger, *OPEN)) == (6, 8)


def test_a_configuration_can_be_asked_for_by_its_key(study: StoredStudy, ledger: Ledger) -> None:
    wanted = layout_order(study.definition)[5]
    claim = ledger.claim("ann", key=wanted.key)
    assert claim is not None
    assert claim.configuration == wanted
    assert ledger.claim("bob", key=wanted.key) is None
    assert ledger.claim("bob", key=OTHER.key) is None


def test_a_claim_is_recorded_with_its_worker_and_lease(database: Database, ledger: Ledger) -> None:
    claim = taken(ledger)
    [(state, worker, claims, lease)] = tiny.rows(
        database,
        "configurations",
        "c.state, c.worker, c.claims, lease_expires - started_at",
        "c join pairsearch_jobs j on j.key = c.key where c.rank = 0",
    )
    assert (state, worker, claims) == ("running", claim.worker, 1)
    # A day is 86,400 seconds, and SQLite's julianday() resolves a millisecond.
    assert lease == pytest.approx(ledger.lease_seconds, abs=0.1)


def left(database: Database) -> float:
    """How long the lease of the first configuration lasts, on the database's clock."""
    with database.read() as connection:
        expires = select(jobs.c.lease_expires - now()).where(jobs.c.rank == 0)
        return float(connection.execute(expires).scalar_one())


def test_leases_are_measured_by_the_database_s_clock_however_wrong_the_worker_s_is(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1.0)
    claim = taken(ledger)
    assert left(database) == pytest.approx(ledger.lease_seconds, abs=5)
    for renewed in (lambda: ledger.renew(claim), lambda: ledger.held("ann", claim.token)):
        tiny.let_leases_run_out(database)
        assert renewed()
        assert left(database) == pytest.approx(ledger.lease_seconds, abs=5)
        assert ledger.reap() == []


def test_what_is_handed_back_is_claimed_again_by_whoever_comes(ledger: Ledger) -> None:
    first = taken(ledger)
    assert ledger.hand_back(first)
    second = taken(ledger, "bob")
    assert second.configuration == first.configuration
    assert second.token != first.token


def test_a_finished_configuration_is_never_claimed_again(ledger: Ledger) -> None:
    for _ in range(8):
        claim = taken(ledger)
        assert tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    assert ledger.claim("ann") is None
    assert tiny.count(ledger, *OPEN) == 0


def test_finishing_twice_stores_once(database: Database, ledger: Ledger) -> None:
    """As a worker does whose database went away between the commit and its answer."""
    claim = taken(ledger)
    outcome = tiny.outcome(claim.configuration)
    assert tiny.finish(ledger, claim, outcome)
    stored = [tiny.rows(database, table) for table in ("configurations", "runs", "curves")]
    assert tiny.finish(ledger, claim, outcome)
    assert [tiny.rows(database, table) for table in ("configurations", "runs", "curves")] == stored
    assert tiny.rows(database, "superseded") == []


@pytest.mark.parametrize("end", ["finish", "hand_back", "fail_attempt", "reap"])
def test_a_claim_that_ended_changes_nothing_more(database: Database, ledger: Ledger, end: str) -> None:
    """Every change that ends an attempt knows its own repetition, where only the answer was lost, and no other."""
    claim = taken(ledger)
    ends: dict[str, Callable[[], object]] = {
        "finish": lambda: tiny.finish(ledger, claim, tiny.outcome(claim.configuration)),
        "hand_back": lambda: ledger.hand_back(claim),
        "fail_attempt": lambda: ledger.fail_attempt(claim, "no luck"),
    }
    if end == "reap":
        tiny.let_leases_run_out(database)
        ledger.reap()
        answer: object = None
    else:
        answer = ends[end]()
    before = written(database)
    assert not ledger.renew(claim)
    assert ledger.held("ann", claim.token) is None
    for other, change in ends.items():
        if other == end:
            assert change() == answer
        elif other != "finish":
            assert not change()
    assert written(database) == before
    if end != "finish":
        assert not ends["finish"](), "a result that comes late is kept, and counts nowhere"
        assert written(database) == before
        assert len(tiny.rows(database, "superseded")) == 1


def written(database: Database) -> list[object]:
    """All that a claim may change, but for late results."""
    names = ("configurations", "jobs", "failures", "runs", "curves")
    return [tiny.rows(database, name, rest="order by 1") for name in names]


def test_a_repeated_failure_is_counted_once_even_after_the_next_one(
    database: Database, ledger: Ledger
) -> None:
    first = taken(ledger)
    key = first.configuration.key
    assert ledger.fail_attempt(first, "out of memory") == State.PENDING
    second = taken(ledger, "bob", key)
    assert ledger.fail_attempt(first, "out of memory") == State.PENDING
    assert tiny.rows(database, "jobs", "state, errors", "where rank = 0") == [("running", 1)]
    assert ledger.fail_attempt(second, "out of memory") == State.FAILED
    assert ledger.fail_attempt(second, "out of memory") == State.FAILED
    assert tiny.rows(database, "jobs", "state, errors", "where rank = 0") == [("failed", 2)]


@pytest.mark.parametrize("lost", [True, False])
def test_taking_a_failure_back_twice_takes_back_no_other_s(
    database: Database, ledger: Ledger, lost: bool
) -> None:
    first = taken(ledger)
    key = first.configuration.key
    ledger.fail_attempt(first, "no luck", traceback="Traceback …")
    ledger.fail_attempt(taken(ledger, "bob", key), "no luck", traceback="Traceback …")
    assert tiny.states(database)["failed"] == 1
    for _ in range(2):
        ledger.forgive([first.token], lost=lost)
        for table in ("jobs", "configurations"):
            assert tiny.rows(database, table, "state, errors, lapses", "where rank = 0") == [
                ("pending", 1, int(lost))
            ]


def test_an_attempt_that_failed_is_tried_again_and_the_second_failure_is_final(
    database: Database, ledger: Ledger
) -> None:
    claim = taken(ledger)
    key = claim.configuration.key
    ends = [ledger.fail_attempt(claim, "out of memory")]
    ends += [ledger.fail_attempt(taken(ledger, key=key), "out of memory")]
    assert ends == [State.PENDING, State.FAILED]
    assert tiny.rows(database, "configurations", "errors, reason", "where state = 'failed'") == [
        (2, "out of memory")
    ]
    assert ledger.claim("ann", key=key) is None
    assert ledger.outcome(key) is None


def test_what_failed_or_took_its_worker_with_it_comes_after_all_others(
    database: Database, study: StoredStudy, ledger: Ledger
) -> None:
    order = layout_order(study.definition)
    ledger.fail_attempt(taken(ledger), "out of memory")
    taken(ledger, key=order[1].key)
    tiny.let_leases_run_out(database)
    ledger.reap()
    claimed = [taken(ledger).configuration for _ in range(8)]
    assert claimed == [*order[2:], order[0], order[1]]


def test_a_claim_whose_answer_was_lost_is_found_by_its_token(database: Database, ledger: Ledger) -> None:
    token = new_token()
    assert ledger.held("ann", token) is None
    claim = ledger.claim("ann", token=token)
    tiny.let_leases_run_out(database)
    assert ledger.held("ann", token) == claim
    assert ledger.reap() == [], "its lease was renewed"
    assert claim is not None
    ledger.hand_back(claim)
    assert ledger.held("ann", token) is None


def test_what_failed_is_laid_out_again_only_when_asked_for(database: Database, ledger: Ledger) -> None:
    first = taken(ledger)
    ledger.fail_attempt(first, "out of memory", final=True)
    second = taken(ledger)
    tiny.finish(ledger, second, tiny.outcome(second.configuration))
    assert tiny.count(ledger, State.PENDING) == 6
    assert ledger.retry() == [first.configuration.key]
    assert tiny.rows(database, "configurations", "state, errors, reason, finished_at", "where rank = 0") == [
        ("pending", 0, None, None)
    ]
    assert tiny.states(database) == {"pending": 7, "finished": 1}
    assert ledger.retry() == []
    assert taken(ledger).configuration == first.configuration


def test_ledgers_of_two_studies_do_not_meet(database: Database, ledger: Ledger, make_study) -> None:
    other = Ledger(database, make_study(name="other"))
    assert other.claim("ann") is not None
    assert (tiny.count(ledger, State.PENDING), tiny.count(other, State.PENDING)) == (8, 7)
    tiny.let_leases_run_out(database)
    assert ledger.reap() == []
    assert len(other.reap()) == 1


@pytest.mark.parametrize("end", ["hand_back", "fail_attempt", "reap", "retry", "forgive"])
def test_a_configuration_that_is_free_again_keeps_nothing_of_its_claim(
    database: Database, ledger: Ledger, end: str
) -> None:
    claim = taken(ledger)
    key = claim.configuration.key
    assert tiny.rows(database, "configurations", "trial_id is null", "where rank = 0") == [(False,)]
    if end == "hand_back":
        ledger.hand_back(claim)
    elif end == "fail_attempt":
        ledger.fail_attempt(claim, "out of memory")
    elif end == "reap":
        tiny.let_leases_run_out(database)
        ledger.reap()
    elif end == "retry":
        ledger.fail_attempt(claim, "out of memory", final=True)
        ledger.retry()
    else:
        ledger.fail_attempt(claim, "out of memory", traceback="Traceback …")
        other = taken(ledger, key=key)
        ledger.fail_attempt(other, "out of memory", traceback="Traceback …")
        ledger.forgive([claim.token, other.token], lost=False)
    of_claim = "worker, started_at, trial_id, finished_at, value"
    assert tiny.rows(database, "configurations", f"state, {of_claim}", "where rank = 0") == [
        ("pending", *[None] * 5)
    ]
    assert tiny.rows(database, "jobs", "state, lease_expires", "where rank = 0") == [("pending", None)]
    [(reason,)] = tiny.rows(database, "configurations", "reason", "where rank = 0")
    assert reason == ("out of memory" if end == "fail_attempt" else None)
    again = taken(ledger, "bob", key)
    assert tiny.rows(database, "configurations", "reason, worker", "where rank = 0") == [(None, "bob")]
    assert ledger.held("bob", again.token) == again


def test_what_ended_has_its_time_and_no_lease(database: Database, ledger: Ledger) -> None:
    claim = taken(ledger)
    tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    ledger.fail_attempt(taken(ledger), "out of memory", final=True)
    rows = tiny.rows(
        database,
        "configurations",
        "finished_at - started_at, seconds, claims",
        "where rank < 2 order by rank",
    )
    [(finished, seconds, claims), (failed, *_)] = rows
    assert (seconds, claims) == (0.25, 1)
    assert tiny.rows(database, "jobs", "state, lease_expires", "where rank < 2 order by rank") == [
        ("done", None),
        ("failed", None),
    ]
    assert 0 <= finished < 60
    assert failed is None, "an attempt without a result leaves no claim"
    [(when,)] = tiny.rows(database, "configurations", "finished_at", "where state = 'failed'")
    assert when > 1e9


def test_of_a_long_reason_the_beginning_is_kept_and_of_a_long_traceback_the_end(
    database: Database, ledger: Ledger
) -> None:
    claim = taken(ledger)
    long = "".join(f"line {number}\n" for number in range(10_000))
    ledger.fail_attempt(claim, long, traceback=long)
    [(reason, kept)] = tiny.rows(database, "failures", "reason, traceback")
    assert tiny.rows(database, "configurations", "reason", "where rank = 0") == [(reason,)]
    assert (len(reason), len(kept)) == (1000, 20_000)
    assert long.startswith(reason)
    assert long.endswith(kept)
    claim = taken(ledger, key=claim.configuration.key)
    tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    assert tiny.rows(database, "configurations", "reason", "where rank = 0") == [(None,)]
    assert ledger.first_traceback() is None
    ledger.fail_attempt(taken(ledger), long, final=True)
    assert tiny.rows(database, "configurations", "reason", "where state = 'failed'") == [(reason,)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_first_traceback_is_that_of_the_lowest_rank(ledger: Ledger, make_study) -> None:
    assert ledger.first_traceback() is None
    claims = [taken(ledger) for _ in range(4)]
    for claim in reversed(claims[1:]):
        ledger.fail_attempt(claim, "no luck", traceback=f"Traceback of {claim.configuration.key}")
    ledger.fail_attempt(claims[0], "too long", final=True)
    second = claims[1].configuration.key
    assert ledger.first_traceback() == (second, f"Traceback of {second}")
    # Whatever the order in which rows were inserted.
    with ledger.database.write() as connection:
        connection.execute(text("update pairsearch_jobs set rank = 100 - rank"))
    last = claims[3].configuration.key
    assert ledger.first_traceback() == (last, f"Traceback of {last}")
    assert Ledger(ledger.database, make_study(name="other")).first_traceback() is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_counts_are_of_the_study_its_limit_and_its_states(ledger: Ledger, make_study, database) -> None:
    other = Ledger(database, make_study(name="other"))
    assert not tiny.count(ledger, *COVERED)
    for _ in range(3):
        claim = taken(ledger)
    taken(other)
    tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    ledger.fail_attempt(taken(ledger), "too long", final=True)
    states = ((State.RUNNING,), (State.PENDING,), OPEN)
    assert [tiny.count(ledger, *some) for some in states] == [2, 4, 6]
    assert (
        ledger.jobs_left(JobState.RUNNING, limit=1),
        ledger.jobs_left(JobState.PENDING, limit=5),
        ledger.jobs_left(*OPEN_JOBS, limit=5),
    ) == (1, 1, 3)
    assert (tiny.count(ledger, *COVERED), tiny.count(other, *COVERED)) == (1, 0)
    assert (ledger.one_finished(), other.one_finished()) == (claim.configuration, None)
    key = claim.configuration.key
    assert ledger.outcome(key) == tiny.outcome(claim.configuration)
    assert other.outcome(key) is None
