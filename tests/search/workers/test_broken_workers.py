"""A worker that is broken takes nobody's work down with it: its failures are its own, and it ends."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import programs
import pytest
import tiny
from sqlalchemy import update

from pairsearch.models import fused
from pairsearch.search.common.errors import WorkError
from pairsearch.search.common.machine import ONE_CORE
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import JobState, State
from pairsearch.search.database.tables import jobs
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.ledger.unfinished import MAX_LAPSES
from pairsearch.search.workers import evaluating
from pairsearch.search.workers.faults import MOST_UNKNOWN
from pairsearch.search.workers.objective import Progress, Step
from pairsearch.search.workers.tally import Tally
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.seeds import layout_order

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Broken(tiny.Answering):
    """Fails at everything after so many that it trained."""

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self.left = after

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        self.asked[configuration.key] += 1
        self.left -= 1
        if self.left < 0:
            raise OSError("no space left on device")
        return tiny.outcome(configuration)


class Choosy(tiny.Answering):
    """Cannot train some configurations, as no machine can."""

    def __init__(self, bad: list[Configuration]) -> None:
        super().__init__()
        self.bad = bad

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        if configuration in self.bad:
            self.asked[configuration.key] += 1
            raise MemoryError("too large for any machine")
        return super().__call__(configuration, progress)


def against(database: Database) -> Counter[tuple[int, int]]:
    """How many configurations have which errors and lapses against them."""
    return Counter((row[0], row[1]) for row in tiny.rows(database, "configurations", "errors, lapses"))


def test_a_worker_whose_first_configurations_all_fail_hands_them_back_and_ends(
    database: Database, make_worker
) -> None:
    objective = Broken()
    with pytest.raises(
        WorkError, match=r"the first 8 configurations all failed here.*OSError: no space left"
    ) as error:
        make_worker(objective).run()
    assert "\n" not in str(error.value)
    assert set(objective.asked.values()) == {1}
    assert tiny.states(database) == {"pending": 8}
    # Nobody knows yet whose fault it is: they went with their worker, as if it had been killed.
    assert against(database) == {(0, 1): 8}
    assert make_worker(tiny.Answering()).run() == Tally(finished=8)


@ON_SQLITE
def test_a_worker_beside_a_healthy_one_finds_out_that_it_is_broken(database: Database, make_worker) -> None:
    assert make_worker(tiny.Answering()).run(max_trials=1) == Tally(finished=1)
    with pytest.raises(WorkError, match=r"an attempt failed here .*, and so does .*, trained before"):
        make_worker(Broken()).run()
    assert tiny.states(database) == {"finished": 1, "pending": 7}
    assert against(database) == {(0, 0): 8}, "as if it had never been there"
    assert tiny.rows(database, "configurations", "count(*)", "where reason is not null") == [(0,)]


@ON_SQLITE
def test_a_worker_that_breaks_on_the_way_ends_too(database: Database, make_worker) -> None:
    with pytest.raises(WorkError, match="an attempt failed here"):
        make_worker(Broken(after=2)).run()
    assert tiny.states(database) == {"finished": 2, "pending": 6}
    assert against(database) == {(0, 0): 8}


@ON_SQLITE
def test_broken_workers_come_and_go_while_a_healthy_one_finishes_the_grid(
    database: Database, make_worker
) -> None:
    for _ in range(5):
        with pytest.raises(WorkError):
            make_worker(Broken()).run()
    assert make_worker(tiny.Answering()).run(max_trials=1) == Tally(finished=1)
    for _ in range(20):
        with pytest.raises(WorkError):
            make_worker(Broken()).run()
    assert make_worker(tiny.Answering()).run() == Tally(finished=7)
    assert tiny.states(database) == {"finished": 8}


@pytest.mark.parametrize("good", [0, 3, 7])
def test_configurations_that_no_machine_can_train_fail_wherever_the_first_good_one_stands(
    database: Database, study: StoredStudy, make_worker, good: int
) -> None:
    """A single worker ends the grid: once one is trained, it tells whose fault the failures are."""
    order = layout_order(study.definition)
    objective = Choosy([one for one in order if one != order[good]])
    assert make_worker(objective).run() == Tally(finished=1, failed=7)
    assert tiny.states(database) == {"finished": 1, "failed": 7}
    # Each is tried at once again after the control, those before the good one later.
    assert [objective.asked[one.key] for one in order[:good]] == [3] * good
    assert [objective.asked[one.key] for one in order[good + 1 :]] == [2] * (7 - good)


def test_what_two_workers_cannot_train_has_failed(
    database: Database, study: StoredStudy, make_worker
) -> None:
    bad = layout_order(study.definition)[0]
    for state in ("pending", "failed"):
        make_worker(Choosy([bad])).run(max_trials=1)
        assert tiny.rows(database, "configurations", "state", "where rank = 0") == [(state,)]
        with database.write() as connection:
            # The second worker takes it first too.
            connection.execute(update(jobs).where(jobs.c.rank > 0).values(state="running", lease_expires=2e9))


@ON_SQLITE
def test_an_attempt_that_fails_by_chance_is_made_again_at_once(
    database: Database, study: StoredStudy, make_worker
) -> None:
    unlucky = layout_order(study.definition)[3].key

    class Unlucky(tiny.Answering):
        def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
            outcome = super().__call__(configuration, progress)
            if configuration.key == unlucky and self.asked[unlucky] == 1:
                raise OSError("stale file handle")
            return outcome

    objective = Unlucky()
    assert make_worker(objective).run() == Tally(finished=8)
    assert objective.asked[unlucky] == 2
    assert against(database) == {(0, 0): 8}


@ON_SQLITE
def test_a_worker_suspects_itself_before_it_has_gone_through_a_large_grid(
    database: Database, make_study, make_worker
) -> None:
    rates = [round(0.001 * (1 + step), 3) for step in range(MOST_UNKNOWN + 5)]
    grid = {"batch_size": [10], "learning_rate": rates, "weight_decay": [0.0]}
    study = make_study(name="large", grid=grid)
    objective = Broken()
    with pytest.raises(WorkError, match=f"the first {MOST_UNKNOWN} configurations all failed here"):
        make_worker(objective, study).run()
    assert objective.asked.total() == MOST_UNKNOWN
    assert against(database) == {(0, 0): 5, (0, 1): MOST_UNKNOWN}


@ON_SQLITE
def test_an_exception_that_a_stop_brought_about_is_no_failure(database: Database, make_worker) -> None:
    """A signal to a group of processes ends those of a problem too, which then raises."""
    stopping = threading.Event()

    class Stopped(Broken):
        def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
            stopping.set()
            return super().__call__(configuration, progress)

    assert make_worker(Stopped(), stopping=stopping).run() == Tally(handed_back=1)
    assert against(database) == {(0, 0): 8}


@ON_SQLITE
def test_a_grid_that_is_too_small_for_a_streak_fails_at_last(
    database: Database, make_study, make_worker
) -> None:
    grid = {"batch_size": [10], "learning_rate": [1e-3, 1e-2], "weight_decay": [0.0]}
    study = make_study(name="small", grid=grid)
    assert make_worker(Broken(), study).run() == Tally(failed=2)
    assert tiny.states(database) == {"failed": 2}
    larger = make_study(name="larger", grid=grid | {"learning_rate": [1e-4, 1e-3, 1e-2]})
    with pytest.raises(WorkError, match="the first 3 configurations all failed here"):
        make_worker(Broken(), larger).run()


@ON_SQLITE
@pytest.mark.parametrize("broken", [True, False])
def test_a_worker_finds_out_about_earlier_failures_as_soon_as_another_has_finished_something(
    database: Database, make_study, make_worker, broken: bool
) -> None:
    grid = {"batch_size": [10], "learning_rate": [1e-3, 1e-2], "weight_decay": [0.0]}
    study = make_study(name="small", grid=grid)
    first, second = layout_order(study.definition)
    other = Ledger(database, study)
    held = other.claim("healthy", key=second.key)
    assert held is not None
    objective = Broken() if broken else Choosy([first])
    asked_at_look: list[int] = []

    class Waits(threading.Event):
        """The other one finishes while this worker waits for it."""

        def wait(self, timeout: float | None = None) -> bool:
            asked_at_look.append(objective.asked.total())
            assert tiny.finish(other, held, tiny.outcome(second))
            return False

    worker = make_worker(objective, study, stopping=Waits())
    if broken:
        with pytest.raises(WorkError, match=rf"and so does {second.key}"):
            worker.run()
        assert objective.asked == {first.key: 1, second.key: 1}
    else:
        assert worker.run() == Tally(failed=1)
        # The control once for what was before, and once more for the last attempts.
        assert objective.asked == {first.key: 3, second.key: 2}
    assert asked_at_look == [1]


@ON_SQLITE
def test_a_grid_that_fails_everywhere_comes_to_an_end(
    database: Database, study: StoredStudy, make_worker
) -> None:
    """Every worker gives up: when all configurations went with ten workers, they are failed."""
    ended = 0
    while tiny.states(database)["pending"]:
        ended += 1
        assert ended < 100
        with suppress(WorkError):
            make_worker(Broken()).run()
    assert tiny.states(database) == {"failed": 8}
    assert {reason for (reason,) in tiny.rows(database, "configurations", "reason")} == {
        "OSError: no space left on device"
    }


def test_what_failed_here_is_left_to_a_worker_that_is_at_work(
    database: Database, study: StoredStudy, make_worker
) -> None:
    """It counts once for each worker: the second attempt is another's."""
    bad = layout_order(study.definition)[0]
    other = Ledger(database, study)
    held = other.claim("healthy", key=layout_order(study.definition)[7].key)
    assert held is not None
    stopping = threading.Event()
    objective = Choosy([bad])
    worker = threading.Thread(target=make_worker(objective, stopping=stopping, study=study).run)
    worker.start()
    programs.wait_for(lambda: tiny.states(database)["finished"] == 6, "six to be finished")
    programs.wait_for(lambda: objective.asked[bad.key] == 1, "the first attempt")
    taken = other.claim("healthy", key=bad.key)
    assert taken is not None, "it waits for whom it has not failed with"
    assert tiny.finish(other, taken, tiny.outcome(bad))
    assert tiny.finish(other, held, tiny.outcome(held.configuration))
    worker.join(programs.PATIENCE)
    assert not worker.is_alive()
    assert objective.asked[bad.key] == 1
    assert tiny.states(database) == {"finished": 8}


@ON_SQLITE
def test_samplers_do_not_propose_again_and_again_what_failed_here(
    database: Database, storage, make_study, make_worker
) -> None:
    study = make_study(name="sampled", sampler="random")
    bad = layout_order(study.definition)[0]
    objective = Choosy([bad])
    assert make_worker(objective, study).run() == Tally(finished=7, failed=1)
    assert objective.asked[bad.key] <= 3


def taken(ledger: Ledger, key: str | None = None, but: tuple[str, ...] = ()):
    claim = ledger.claim("ann", key=key, but=but)
    assert claim is not None
    return claim


def test_a_claim_may_leave_configurations_out(study: StoredStudy, ledger: Ledger) -> None:
    keys = [configuration.key for configuration in layout_order(study.definition)]
    assert taken(ledger, but=(keys[0], keys[1])).configuration.key == keys[2]
    assert ledger.claim("ann", key=keys[0], but=(keys[0],)) is None
    assert (
        ledger.jobs_left(JobState.PENDING, but=keys[:2]),
        tiny.count(ledger, State.PENDING),
        tiny.count(ledger, State.RUNNING),
    ) == (5, 7, 1)


@pytest.mark.parametrize("lost", [False, True])
def test_forgiven_attempts_count_no_more_whatever_became_of_the_configuration(
    database: Database, study: StoredStudy, ledger: Ledger, lost: bool
) -> None:
    order = [configuration.key for configuration in layout_order(study.definition)]
    pending, failed, running, finished, retried, late = order[:6]
    mine = []
    for key in (pending, *[failed] * 2, running, finished, retried, late):
        mine.append(taken(ledger, key))
        ledger.fail_attempt(mine[-1], "broken", traceback="...")
    theirs = mine.pop(2)
    assert theirs.configuration.key == failed
    ledger.fail_attempt(taken(ledger, late), "longer than the time limit", final=True)
    held = taken(ledger, running)
    done = taken(ledger, finished)
    tiny.finish(ledger, done, tiny.outcome(done.configuration))
    before = tiny.rows(database, "configurations", rest="where state = 'finished'")
    # As `retry` does of what has failed.
    tiny.execute(
        database,
        f"update pairsearch_failures set counts = 0 where claim = '{mine[4].token}'",  # noqa: S608 - our own
        "update pairsearch_jobs set errors = 0 where rank = 4",
        "update pairsearch_configurations set errors = 0 where rank = 4",
    )
    ledger.forgive([claim.token for claim in mine], lost=lost)
    assert tiny.rows(database, "configurations", "errors, lapses, state", "order by rank limit 6") == [
        (0, lost, "pending"),
        (1, lost, "pending"),
        (0, lost, "running"),
        (1, 0, "finished"),
        (0, 0, "pending"),
        (2, 0, "failed"),
    ]
    assert tiny.rows(database, "configurations", rest="where state = 'finished'") == before
    assert tiny.finish(ledger, held, tiny.outcome(held.configuration)), "its worker still holds it"


def test_what_was_lost_with_its_worker_too_often_stays_failed(
    database: Database, study: StoredStudy, ledger: Ledger
) -> None:
    key = layout_order(study.definition)[0].key
    for _ in range(MAX_LAPSES):
        claim = taken(ledger, key)
        ledger.fail_attempt(claim, "broken", traceback="...")
        ledger.forgive([claim.token], lost=True)
    assert tiny.rows(database, "configurations", "state, reason", "where rank = 0") == [("failed", "broken")]
    ledger.forgive([claim.token], lost=False)
    assert tiny.rows(database, "configurations", "state", "where rank = 0") == [("failed",)]


@ON_SQLITE
@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("failed_before", [False, True])
def test_what_failed_by_the_time_limit_is_nobody_s_to_forgive(
    database: Database, study: StoredStudy, ledger: Ledger, lost: bool, failed_before: bool
) -> None:
    key = layout_order(study.definition)[0].key
    if failed_before:
        ledger.fail_attempt(taken(ledger, key), "broken", traceback="Traceback …")
    late = taken(ledger, key)
    assert ledger.fail_attempt(late, "too long", final=True) == State.FAILED
    before = tiny.rows(database, "configurations", rest="where rank = 0")
    ledger.forgive([late.token], lost=lost)
    assert tiny.rows(database, "configurations", rest="where rank = 0") == before


@ON_SQLITE
def test_any_finished_configuration_serves_as_a_control(study: StoredStudy, ledger: Ledger) -> None:
    assert ledger.one_finished() is None
    claim = taken(ledger)
    tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    assert ledger.one_finished() == claim.configuration


def fail(*_: object, **__: object) -> None:
    raise MemoryError


def without_memory() -> None:
    """Nothing can be trained in this process."""
    fused.train = fail


def test_a_worker_that_cannot_train_claims_nothing(tmp_path: Path, sqlite_url: str) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    variables = {"PAIRSEARCH_STORAGE": sqlite_url}
    assert programs.run(tmp_path, "create", "tiny.toml", "--data", "digits", **variables).code == 0
    worker = programs.run(tmp_path, "worker", "tiny.toml", prepare=without_memory, **variables)
    assert (worker.code, worker.err) == (
        1,
        "error: this machine cannot train study tiny on cpu (MemoryError: no reason given): nothing was taken; "
        "`pairsearch doctor STUDY` checks what it needs\n",
    )
    database = open_database(sqlite_url)
    assert tiny.rows(database, "configurations", "sum(claims), sum(errors)") == [(0, 0)]
    database.close()


@ON_SQLITE
def test_an_evaluation_that_cannot_train_says_why(
    database: Database, study: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "train", fail)
    chosen = [evaluating.Chosen("search", study, [])]
    evaluator = evaluating.Evaluator(ONE_CORE)
    loaded = {study.name: tiny.loaded()}
    with pytest.raises(
        WorkError, match=r"this machine cannot train study tiny on cpu \(MemoryError: no reason given\)"
    ):
        evaluating.evaluate(database, chosen, [], loaded, evaluator, None)


@ON_SQLITE
def test_states_of_the_control_are_not_stored(database: Database, make_worker) -> None:
    """It ends after an epoch, and its result stays what it was."""
    told: list[State | None] = []

    class Watching(Broken):
        def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
            if self.asked.total() == 2 and progress is not None:
                told.append(progress(Step(1, 0.5)))
            return super().__call__(configuration, progress)

    with pytest.raises(WorkError):
        make_worker(Watching(after=1)).run()
    assert tiny.rows(database, "configurations", "claims, state", "where state = 'finished'") == [
        (1, "finished")
    ]
    assert told == [State.PENDING]
