"""A worker with an objective that answers at once: how it starts, ends, and treats every kind of answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import programs
import pytest
import tiny
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.trials import open_view
from pairsearch.search.results.progress import read_progress
from pairsearch.search.results.ranking import read_best
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.failure import TimeLimitError
from pairsearch.search.workers.objective import Progress, Step
from pairsearch.search.workers.tally import Tally, total
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.seeds import layout_order

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def trial_states(storage: RDBStorage, study: StoredStudy) -> Counter[TrialState]:
    return Counter(trial.state for trial in storage.get_all_trials(study.optuna_study_id))


def reasons(storage: RDBStorage, study: StoredStudy) -> list[str]:
    """Why attempts failed, as Optuna has it."""
    failed = storage.get_all_trials(study.optuna_study_id, states=(TrialState.FAIL,))
    return [trial.user_attrs["failed_reason"] for trial in failed]


def test_works_to_the_end_of_the_grid(database: Database, storage, study, make_worker) -> None:
    objective = tiny.Answering()
    assert make_worker(objective).run() == Tally(finished=8)
    assert objective.asked == {configuration.key: 1 for configuration in layout_order(study.definition)}
    assert tiny.states(database) == {"finished": 8}
    trials = storage.get_all_trials(study.optuna_study_id)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    values = {trial.user_attrs["configuration"]: trial.value for trial in trials}
    assert values == {c.key: tiny.value_of(c) for c in layout_order(study.definition)}


def test_what_a_worker_did_in_several_studies_is_added_up() -> None:
    assert total([Tally(1, 2, 3, 4, 5), Tally(10, 20, 30, 40, 50)]) == Tally(11, 22, 33, 44, 55)
    assert total([]) == Tally()


@ON_SQLITE
def test_finds_nothing_to_do_in_a_finished_study(make_worker) -> None:
    make_worker(tiny.Answering()).run()
    objective = tiny.Answering()
    assert make_worker(objective).run() == Tally()
    assert objective.asked == {}


@ON_SQLITE
def test_ends_after_so_many_trials(database: Database, make_worker) -> None:
    assert make_worker(tiny.Answering()).run(max_trials=3) == Tally(finished=3)
    assert tiny.states(database) == {"finished": 3, "pending": 5}


@ON_SQLITE
def test_ends_at_the_limit(database: Database, study: StoredStudy, make_worker) -> None:
    objective = tiny.Answering()
    assert make_worker(objective, limit=3).run() == Tally(finished=3)
    assert list(objective.asked) == [c.key for c in layout_order(study.definition)[:3]]
    assert tiny.states(database) == {"finished": 3, "pending": 5}


def test_stopping_hands_the_current_configuration_back(
    database: Database, storage: RDBStorage, study: StoredStudy, make_worker
) -> None:
    stopping = threading.Event()
    order = layout_order(study.definition)

    def answer(configuration: Configuration) -> Outcome:
        if configuration == order[1]:
            stopping.set()
        return tiny.outcome(configuration)

    tally = make_worker(tiny.Answering(answer), stopping=stopping).run()
    assert tally == Tally(finished=1, handed_back=1)
    assert tiny.states(database) == {"finished": 1, "pending": 7}
    assert trial_states(storage, study) == {TrialState.COMPLETE: 1, TrialState.FAIL: 1}
    assert tiny.rows(database, "configurations", "errors, worker", "where rank = 1") == [(0, None)]
    assert reasons(storage, study) == ["handed back"]


@ON_SQLITE
def test_a_stopped_worker_starts_nothing(database: Database, make_worker) -> None:
    stopping = threading.Event()
    stopping.set()
    assert make_worker(tiny.Answering(), stopping=stopping).run() == Tally()
    assert tiny.states(database) == {"pending": 8}


def test_an_exception_is_tried_at_once_again_and_the_second_is_final(
    database: Database, storage: RDBStorage, study: StoredStudy, make_worker
) -> None:
    bad = layout_order(study.definition)[2]

    def answer(configuration: Configuration) -> Outcome:
        if configuration == bad:
            raise MemoryError("no room for this one")
        return tiny.outcome(configuration)

    objective = tiny.Answering(answer)
    assert make_worker(objective).run() == Tally(finished=7, failed=1)
    assert objective.asked[bad.key] == 2
    assert read_progress(database, study).failures == {bad.key: "MemoryError: no room for this one"}
    key, trace = Ledger(database, study).first_traceback() or ("", "")
    assert key == bad.key
    assert trace.startswith("Traceback (most recent call last):")
    assert trace.rstrip().endswith("MemoryError: no room for this one")
    assert trial_states(storage, study) == {TrialState.COMPLETE: 7, TrialState.FAIL: 1}


@ON_SQLITE
def test_an_exception_that_passes_leaves_a_finished_configuration(
    database: Database, study: StoredStudy, make_worker
) -> None:
    failures = iter([OSError("once")])

    def answer(configuration: Configuration) -> Outcome:
        for error in failures:
            raise error
        return tiny.outcome(configuration)

    assert make_worker(tiny.Answering(answer)).run() == Tally(finished=8)
    assert tiny.rows(database, "configurations", "state, errors, reason", "where rank = 0") == [
        ("finished", 1, None)
    ]


@ON_SQLITE
def test_a_diverged_configuration_is_pruned_with_its_reason_and_never_tried_again(
    database: Database, storage: RDBStorage, study: StoredStudy, make_worker
) -> None:
    bad = layout_order(study.definition)[0]

    def answer(configuration: Configuration) -> Outcome:
        return tiny.diverged(configuration) if configuration == bad else tiny.outcome(configuration)

    objective = tiny.Answering(answer)
    assert make_worker(objective).run() == Tally(finished=8)
    assert objective.asked[bad.key] == 1
    assert make_worker(objective).run() == Tally()
    assert tiny.states(database) == {"finished": 7, "diverged": 1}
    [pruned] = storage.get_all_trials(study.optuna_study_id, states=(TrialState.PRUNED,))
    assert pruned.user_attrs["configuration"] == bad.key
    assert pruned.user_attrs["folds"]["reason"] == tiny.diverged(bad).reason
    assert bad not in [ranked.configuration for ranked in read_best(database, study, 8)]


@ON_SQLITE
def test_a_configuration_that_trains_for_too_long_fails_at_once(
    database: Database, storage: RDBStorage, make_study, make_worker
) -> None:
    study = make_study()
    slow = layout_order(study.definition)[2]

    class Slow(tiny.Answering):
        def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
            found = super().__call__(configuration, progress)
            if configuration == slow:
                raise TimeLimitError("longer than the time limit of 10 s, after 1 of 2 epochs")
            return found

    objective = Slow()
    worker = make_worker(objective, study)
    assert worker.run() == Tally(finished=7, failed=1)
    assert objective.asked[slow.key] == 1
    assert read_progress(database, study).failures == {
        slow.key: "longer than the time limit of 10 s, after 1 of 2 epochs"
    }
    assert trial_states(storage, study) == {TrialState.COMPLETE: 7, TrialState.FAIL: 1}


def test_a_result_whose_lease_was_lost_is_superseded_and_the_worker_goes_on(
    database: Database, storage: RDBStorage, study: StoredStudy, ledger: Ledger, make_worker
) -> None:
    taken_over = layout_order(study.definition)[0]

    def answer(configuration: Configuration) -> Outcome:
        outcome = tiny.outcome(configuration)
        if configuration == taken_over:
            tiny.let_leases_run_out(database)
            ledger.reap()
            claim = ledger.claim("bob", key=configuration.key)
            assert claim is not None
            tiny.finish(ledger, claim, outcome)
        return outcome

    assert make_worker(tiny.Answering(answer)).run() == Tally(finished=7, superseded=1)
    assert tiny.states(database) == {"finished": 8}
    assert len(tiny.rows(database, "superseded")) == 1
    assert len(tiny.rows(database, "runs")) == 2 * 8
    assert trial_states(storage, study) == {TrialState.COMPLETE: 8, TrialState.FAIL: 1}


class NoticesItsLoss(tiny.Answering):
    """Takes its first configuration away from itself, and trains on until it is told to end."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        super().__init__()
        self.database = database
        self.ledger = ledger
        self.told: State | None = None

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        if self.told is None and progress is not None:
            tiny.let_leases_run_out(self.database)
            self.ledger.reap()
            programs.wait_for(lambda: self.is_told(progress), "the heartbeat to notice")
            return None
        return super().__call__(configuration, progress)

    def is_told(self, progress: Progress) -> bool:
        self.told = progress(Step(1, 0.5))
        return self.told is not None


@ON_SQLITE
def test_a_worker_whose_lease_was_lost_ends_the_training(
    database: Database, storage: RDBStorage, study: StoredStudy, make_worker
) -> None:
    # The heart beats every quarter of the lease.
    ledger = Ledger(database, study, 0.4, open_view(database, study))
    objective = NoticesItsLoss(database, ledger)
    assert make_worker(objective, ledger=ledger).run() == Tally(finished=8)
    assert objective.told == State.PENDING
    assert reasons(storage, study) == ["its worker ended or lost its lease: the configuration went back"]
    assert trial_states(storage, study) == {TrialState.COMPLETE: 8, TrialState.FAIL: 1}


def test_a_worker_takes_over_from_one_that_died(
    database: Database, storage: RDBStorage, study: StoredStudy, ledger: Ledger, make_worker
) -> None:
    assert ledger.claim("dead") is not None
    tiny.let_leases_run_out(database)
    said: list[str] = []
    assert make_worker(tiny.Answering(), say=said.append).run() == Tally(finished=8)
    assert any("lease of dead ran out" in line for line in said)
    assert trial_states(storage, study) == {TrialState.COMPLETE: 8, TrialState.FAIL: 1}


def test_a_worker_waits_for_what_another_holds_and_takes_it_when_the_lease_is_over(
    database: Database, study: StoredStudy, make_worker
) -> None:
    silent = Ledger(database, study, lease_seconds=0.3)
    claim = silent.claim("silent")
    assert claim is not None
    objective = tiny.Answering()
    assert make_worker(objective).run() == Tally(finished=8)
    assert objective.asked[claim.configuration.key] == 1


@ON_SQLITE
def test_a_worker_says_what_it_did_and_complains_of_what_failed_with_one_traceback(
    database: Database, study: StoredStudy, ledger: Ledger, make_worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(ledger.view), "notice", "the view lags", raising=False)
    good, *bad = layout_order(study.definition)[:3]

    def answer(configuration: Configuration) -> Outcome:
        if configuration in bad:
            raise ValueError("no such number")
        return tiny.outcome(configuration)

    said: list[str] = []
    complaints: list[str] = []
    worker = make_worker(tiny.Answering(answer), ledger=ledger, say=said.append, complain=complaints.append)
    assert worker.run(max_trials=3) == Tally(finished=1, failed=2)
    assert said == [
        "tiny: the view lags",
        f"tiny: finished in 0.2 s, val_loss {tiny.value_of(good):.4f}: {good.key}",
    ]
    first, *_, error, told, told_too = complaints
    assert (first, error) == ("Traceback (most recent call last):", "ValueError: no such number")
    for line, one in zip((told, told_too), bad, strict=True):
        assert line == f"tiny: ValueError: no such number (failed): {one.key}"
    assert complaints.count(first) == 1


class FoldByFold:
    """Trains folds of a study one by one, each of which takes so many seconds as it says."""

    def __init__(self, seconds: float | None, folds: tuple[int, ...] = ()) -> None:
        self.seconds = seconds
        self.folds = folds

    def provenance(self) -> dict[str, str]:
        return {"host": "here"}

    def on(self, folds: Iterable[int], keeper: object = None) -> FoldByFold:
        return FoldByFold(self.seconds, tuple(folds))

    def __call__(self, configuration: Configuration, progress: Progress) -> Outcome:
        full = tiny.outcome(configuration, folds=4)
        trained = [replace(full.folds[fold], seconds=self.seconds) for fold in self.folds]
        for fold in trained:
            assert progress(Step(fold.index + 1, 0.5, fold)) is None
        return replace(full, folds=tuple(trained))


@ON_SQLITE
@pytest.mark.parametrize(
    ("seconds", "jobs", "stored"),
    [(None, [1, 3], [1]), (0.09, [1, 3], [1]), (0.1, [1, 1, 1, 1], []), (0.15, [1, 1, 1, 1], [])],
)
def test_short_folds_are_taken_several_at_once_and_stored_together(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float | None,
    jobs: list[int],
    stored: list[int],
) -> None:
    grid = {"batch_size": [10], "learning_rate": [1e-3]}
    study = create_study(database, tiny.anything(together=False, folds=4, grid=grid)).study
    kept: list[int] = []
    store = Ledger.store
    monkeypatch.setattr(
        Ledger,
        "store",
        lambda ledger, claim, run, facts: kept.append(run.index) or store(ledger, claim, run, facts),
    )
    worker = Worker(open_ledger(database, study), cast(Any, FoldByFold(seconds)), stopping=threading.Event())
    monkeypatch.setattr("pairsearch.search.workers.worker.time", SimpleNamespace(monotonic=lambda: 100.0))
    assert worker.run() == Tally(finished=1)
    assert tiny.rows(database, "jobs", "count", "order by first") == [(count,) for count in jobs]
    assert kept == stored
    assert len(tiny.rows(database, "runs")) == 4
