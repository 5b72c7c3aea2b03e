"""Jobs of single folds: they spread over workers, each is stored as it ends, and the result is that of one worker."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from pairsearch.search.cli.tables import progress_json, progress_lines
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.checkpoints import Kept
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Finish, Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.trials import open_view
from pairsearch.search.report import coverage
from pairsearch.search.report.reading import read_all
from pairsearch.search.results.progress import read_progress
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.objective import CrossValidation, Progress
from pairsearch.search.workers.tally import Tally
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import parse
from pairsearch.studies.loading import Loaded, load

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
FOLDS = 4
PROBLEM = """
from pairsearch.studies.problem import Metric, OneByOne

class Mine(OneByOne):
    metrics = {"loss": Metric(), "error": Metric()}

    def fit(self, params, run, report):
        for epoch in (1, 2):
            wild = params.get("wild", -1) == run.index
            value = float("nan") if wild and epoch == 2 else params["x"] / 3 + 0.1 * run.index ** 2 / epoch
            report(epoch, loss=value, error=value / 7)
"""


def make(database: Database, folder: Path, **changes: Any) -> tuple[StoredStudy, Loaded]:
    """A study of a problem that trains one fold after the other."""
    (folder / "mine.py").write_text(PROBLEM, encoding="utf-8")
    fields = {"name": "mine", "problem": "mine.py:Mine", "metric": "loss", "epochs": 2, "folds": FOLDS}
    loaded = load(parse(fields | {"grid": {"x": [1.0, 2.0]}} | changes, "mine"), folder)
    return create_study(database, loaded).study, loaded


def shown(database: Database, study: StoredStudy) -> Ledger:
    return Ledger(database, study, view=open_view(database, study))


def end(ledger: Ledger, loaded: Loaded, claim: Claim) -> Finish:
    """Train a job and store it."""
    outcome = CrossValidation(loaded).on(claim.left)(claim.configuration)
    assert outcome is not None
    return tiny.finish(ledger, claim, outcome)


def claims(ledger: Ledger, number: int) -> list[Claim]:
    taken = [ledger.claim(f"worker{place}") for place in range(number)]
    assert None not in taken
    return [claim for claim in taken if claim is not None]


def results(database: Database) -> list[object]:
    """Everything that is stored of results but who computed them, and when."""
    return [
        tiny.rows(database, "configurations", "key, state, value, figures, reason", "order by id"),
        tiny.rows(database, "runs", "key, kind, run, epochs, figures, diverged_epoch", "order by key, run"),
        tiny.rows(database, "curves", "figure, points, (select key from pairsearch_runs where id = run_id), "
                  "(select run from pairsearch_runs where id = run_id)", "order by 3, 4, 1"),
    ]  # fmt: skip


def test_each_fold_is_a_job_where_folds_train_one_after_the_other(database: Database, tmp_path: Path) -> None:
    study, _ = make(database, tmp_path)
    jobs = tiny.rows(database, "jobs", "first, count, rank, state", "order by id")
    assert jobs == [(fold, 1, rank, "pending") for rank in range(2) for fold in range(FOLDS)]
    taken = claims(shown(database, study), 5)
    assert [list(claim.numbers) for claim in taken] == [[0], [1], [2], [3], [0]]
    assert len({claim.configuration for claim in taken}) == 2


@ON_SQLITE
@pytest.mark.parametrize("pruner", ["race", "wilcoxon", "median"])
def test_a_pruner_gets_the_folds_of_a_configuration_in_one_job(
    database: Database, tmp_path: Path, pruner: str
) -> None:
    make(database, tmp_path, pruner=pruner)
    assert tiny.rows(database, "jobs", "first, count") == [(0, FOLDS)] * 2


def test_many_workers_give_the_bits_of_one_in_whatever_order_they_end(
    database: Database, tmp_path: Path
) -> None:
    study, loaded = make(database, tmp_path)
    ledger = shown(database, study)
    taken = claims(ledger, 2 * FOLDS)
    for claim in reversed(taken[1:]):
        assert end(ledger, loaded, claim)
    assert tiny.states(database) == {"finished": 1, "running": 1}
    assert end(ledger, loaded, taken[0])
    assert ledger.claim("ann") is None
    for configuration in study.definition.grid.configurations():
        found, alone = ledger.outcome(configuration.key), CrossValidation(loaded)(configuration)
        assert found is not None
        assert alone is not None
        assert (found.state, found.value, found.figures) == (alone.state, alone.value, alone.figures)
        assert found.folds == alone.folds
        assert found.seconds == pytest.approx(sum(fold.seconds or 0 for fold in found.folds))


def test_the_two_last_folds_that_end_at_once_close_the_configuration_once(
    database: Database, storage: RDBStorage, tmp_path: Path
) -> None:
    study, loaded = make(database, tmp_path)
    ledger = shown(database, study)
    taken = claims(ledger, 2 * FOLDS)
    with ThreadPoolExecutor(2 * FOLDS) as pool:
        ends = pool.map(lambda claim: end(shown(database, study), loaded, claim), taken)
        assert Counter(ends) == {Finish.CLOSED: 2, Finish.STORED: 2 * FOLDS - 2}
    assert tiny.states(database) == {"finished": 2}
    trials = storage.get_all_trials(study.optuna_study_id)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_which_folds_stand_beside_one_that_diverged_does_not_depend_on_who_came_first(
    database: Database, tmp_path: Path
) -> None:
    """As of one worker, which trains no fold after the one that diverged."""
    study, loaded = make(database, tmp_path, grid={"x": [1.0], "wild": [1]})
    expected: list[object] | None = None
    ledger = shown(database, study)
    for order in itertools.permutations(range(FOLDS)):
        taken = claims(ledger, FOLDS)
        for place in order:
            end(ledger, loaded, taken[place])
        assert tiny.states(database) == {"diverged": 1}
        assert [run for (run,) in tiny.rows(database, "runs", "run", "order by run")] == [0, 1]
        expected = expected or results(database)
        assert results(database) == expected
        assert ledger.claim("ann") is None
        tiny.execute(
            database,
            "delete from pairsearch_superseded",
            "delete from pairsearch_curves",
            "delete from pairsearch_runs",
            "update pairsearch_jobs set state = 'pending'",
            "update pairsearch_configurations set state = 'pending', trial_id = null",
        )
    alone = CrossValidation(loaded)(study.definition.grid.configurations()[0])
    assert alone is not None
    assert expected is not None
    assert expected[0][0][4] == alone.reason  # type: ignore[index]


def test_a_fold_that_diverged_waits_for_those_before_it_and_drops_those_after_it(
    database: Database, tmp_path: Path
) -> None:
    study, loaded = make(database, tmp_path, grid={"x": [1.0], "wild": [2]})
    ledger = shown(database, study)
    taken = claims(ledger, 3)
    assert end(ledger, loaded, taken[2])
    assert tiny.states(database) == {"running": 1}
    assert [state for (state,) in tiny.rows(database, "jobs", "state", "order by first")] == [
        "running", "running", "done", "dropped",
    ]  # fmt: skip
    assert end(ledger, loaded, taken[0])
    assert end(ledger, loaded, taken[1])
    assert tiny.states(database) == {"diverged": 1}


def test_a_worker_on_a_fold_that_is_not_needed_any_more_loses_it(database: Database, tmp_path: Path) -> None:
    study, loaded = make(database, tmp_path, grid={"x": [1.0], "wild": [0]})
    ledger = shown(database, study)
    taken = claims(ledger, 2)
    assert end(ledger, loaded, taken[0])
    assert tiny.states(database) == {"diverged": 1}
    assert not ledger.renew(taken[1])
    assert not end(ledger, loaded, taken[1])
    assert tiny.rows(database, "runs", "run") == [(0,)]


def test_nothing_of_a_fold_is_stored_once_its_configuration_ended_while_its_job_was_locked(
    postgresql_url: str, tmp_path: Path
) -> None:
    """A job that is locked, here by a renewal, is not dropped with the others of its configuration."""
    database, other = open_database(postgresql_url, create=True), open_database(postgresql_url)
    study, loaded = make(database, tmp_path, grid={"x": [1.0], "wild": [0]})
    ledger, second = shown(database, study), shown(other, study)
    first, rest = ledger.claim("ann"), second.claim("bob", runs=FOLDS)
    assert first is not None
    assert rest is not None
    with other.write() as connection:
        assert second._renewed(connection, rest)
        assert end(ledger, loaded, first) == Finish.CLOSED
    outcome = CrossValidation(loaded).on(rest.left)(rest.configuration)
    assert outcome is not None
    assert not second.save_checkpoint(rest, 1, Kept(1, {}, 0.0, b"state"))
    assert tiny.rows(database, "checkpoints") == []
    tiny.execute(database, "update pairsearch_jobs set state = 'running' where state = 'dropped'")
    assert not second.store(rest, outcome.folds[1], outcome.provenance)
    assert tiny.states(database) == {"diverged": 1}
    assert tiny.rows(database, "runs", "run") == [(0,)]
    assert not second.renew(rest)
    tiny.execute(database, "update pairsearch_jobs set state = 'running' where state = 'dropped'")
    assert tiny.finish(second, rest, outcome) == Finish.SUPERSEDED
    assert tiny.rows(database, "jobs", "state", "order by first") == [("done",), ("dropped",)]
    assert tiny.rows(database, "runs", "run") == [(0,)]
    database.close()
    other.close()


def test_a_fold_that_fails_is_the_end_of_its_configuration_until_it_is_retried(
    database: Database, storage: RDBStorage, tmp_path: Path
) -> None:
    study, loaded = make(database, tmp_path)
    ledger = shown(database, study)
    first, second = claims(ledger, 2)
    assert end(ledger, loaded, second)
    assert ledger.fail_attempt(first, "no room", final=True, traceback="Traceback …") == State.FAILED
    key = first.configuration.key
    states = "where key = (select key from pairsearch_configurations where rank = 0) order by first"
    assert [state for (state,) in tiny.rows(database, "jobs", "state", states)] == [
        "failed", "done", "dropped", "dropped",
    ]  # fmt: skip
    assert tiny.states(database) == {"failed": 1, "pending": 1}
    [trial] = storage.get_all_trials(study.optuna_study_id)
    assert (trial.state, trial.user_attrs["failed_reason"]) == (TrialState.FAIL, "no room")
    assert ledger.retry() == [key]
    while (claim := ledger.claim("ann", key=key)) is not None:
        assert end(ledger, loaded, claim)
    assert tiny.states(database) == {"finished": 1, "pending": 1}
    assert len(tiny.rows(database, "runs")) == FOLDS


def test_optuna_shows_the_folds_that_a_running_configuration_has(
    database: Database, storage: RDBStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that took some time, as these do by the pause that is set."""
    monkeypatch.setattr("pairsearch.search.mirror.trials.REPORT_SECONDS", 0.0)
    study, loaded = make(database, tmp_path)
    ledger = shown(database, study)
    taken = claims(ledger, 2)
    end(ledger, loaded, taken[1])

    def trial() -> tuple[TrialState, list[int]]:
        storage.remove_session()
        [found] = storage.get_all_trials(study.optuna_study_id)
        return found.state, sorted(found.intermediate_values)

    assert trial() == (TrialState.RUNNING, [2])
    end(ledger, loaded, taken[0])
    assert trial() == (TrialState.RUNNING, [1, 2]), "it stays open between two jobs"
    assert tiny.states(database) == {"pending": 2}
    for _ in range(2):
        claim = ledger.claim("ann")
        assert claim is not None
        end(ledger, loaded, claim)
    assert trial() == (TrialState.COMPLETE, [1, 2, 3, 4])


def test_the_next_fold_is_claimed_with_the_end_of_the_last_once_if_that_is_repeated(
    database: Database, tmp_path: Path
) -> None:
    """As after an answer that was lost; what failed, or is to stop, is left to the usual order."""
    study, loaded = make(database, tmp_path)
    ledger = shown(database, study)
    first, second = claims(ledger, 2)
    assert ledger.fail_attempt(second, "broken") == State.PENDING

    def ended(claim: Claim, token: str, runs: int = 1) -> tuple[Finish, Claim | None]:
        outcome = CrossValidation(loaded).on(claim.left)(claim.configuration)
        assert outcome is not None
        before = ledger.finish_and_claim(claim, outcome, token, runs)
        assert ledger.finish_and_claim(claim, outcome, token, runs) == before
        return before

    stored, third = ended(first, "one", 2)
    assert stored == Finish.STORED
    assert third is not None
    assert (third.left, third.token, third.worker) == ((2, 3), "one", first.worker)
    assert tiny.states(database) == {"running": 1, "pending": 1}
    assert tiny.rows(database, "configurations", "claims", "where rank = 0") == [(3,)]
    assert ended(third, "two") == (Finish.STORED, None)
    assert tiny.states(database) == {"pending": 2}
    again = ledger.claim("ann", key=first.configuration.key)
    assert again is not None
    assert ended(again, "three") == (Finish.CLOSED, None)
    assert tiny.rows(database, "runs", "run", "order by run") == [(run,) for run in range(FOLDS)]

    (other,) = claims(ledger, 1)
    ledger.stop()
    assert ended(other, "four") == (Finish.STORED, None)


class Counting(CrossValidation):
    """Notes which folds are trained, and ends the training after some."""

    trained: list[int]
    left: int

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        def counted(step: Any) -> State | None:
            ended = progress(step) if progress is not None else None
            if step.ended is not None:
                self.trained.append(step.ended.index)
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
            return ended

        return super().__call__(configuration, counted)


def test_short_folds_are_claimed_together_and_are_one_job_from_then_on(
    database: Database, tmp_path: Path
) -> None:
    study, loaded = make(database, tmp_path)
    ledger = shown(database, study)
    first = ledger.claim("ann")
    second = ledger.claim("bob", runs=2)
    assert first is not None
    assert second is not None
    assert (list(first.numbers), list(second.numbers)) == ([0], [1, 2])
    assert ledger.held("bob", second.token) == second
    third = ledger.claim("eve", runs=FOLDS)
    assert third is not None
    assert list(third.numbers) == [3], "no folds of another configuration"
    assert ledger.hand_back(second)
    again = ledger.claim("eve")
    assert again is not None
    assert list(again.numbers) == [1, 2]
    for claim in (again, third, first):
        end(ledger, loaded, claim)
    assert tiny.states(database) == {"finished": 1, "pending": 1}
    assert read_progress(database, study).folds == (FOLDS, 2 * FOLDS)


@ON_SQLITE
def test_folds_that_are_not_next_or_were_tried_stay_jobs_of_their_own(
    database: Database, tmp_path: Path
) -> None:
    study, _ = make(database, tmp_path)
    ledger = shown(database, study)
    taken = claims(ledger, 3)
    ledger.fail_attempt(taken[1], "no luck")
    ledger.hand_back(taken[0])
    claim = ledger.claim("ann", runs=FOLDS)
    assert claim is not None
    assert list(claim.numbers) == [0]
    claim = ledger.claim("ann", runs=FOLDS)
    assert claim is not None
    assert list(claim.numbers) == [3]


@ON_SQLITE
def test_a_pruned_configuration_has_no_folds_of_an_earlier_attempt_behind_its_last(
    database: Database, tmp_path: Path
) -> None:
    """The first two folds were short and not stored yet when the fourth of that attempt failed."""
    study, loaded = make(database, tmp_path, pruner="median", grid={"x": [1.0]})
    ledger = shown(database, study)
    claim = ledger.claim("ann")
    assert claim is not None
    every = CrossValidation(loaded)(claim.configuration)
    assert every is not None
    assert ledger.store(claim, every.folds[2], every.provenance)
    pruned = CrossValidation(loaded)(claim.configuration, lambda step: State.PRUNED if step.ended else None)
    assert pruned is not None
    assert tiny.finish(ledger, claim, pruned) == Finish.CLOSED
    stored = ledger.outcome(claim.configuration.key)
    assert stored is not None
    assert (stored.folds, stored.reason) == (pruned.folds, pruned.reason)


@ON_SQLITE
def test_a_worker_whose_output_is_closed_does_not_keep_the_next_fold(
    database: Database, tmp_path: Path
) -> None:
    study, loaded = make(database, tmp_path, grid={"x": [1.0]})

    def say(line: str) -> None:
        raise BrokenPipeError(line)

    worker = Worker(
        open_ledger(database, study), CrossValidation(loaded), stopping=threading.Event(), say=say
    )
    with pytest.raises(BrokenPipeError):
        worker.run()
    assert Counter(state for (state,) in tiny.rows(database, "jobs", "state")) == {"done": 1, "pending": 1}


@ON_SQLITE
def test_a_worker_counts_configurations_however_many_jobs_they_are(
    database: Database, tmp_path: Path
) -> None:
    study, loaded = make(database, tmp_path)
    worker = Worker(open_ledger(database, study), CrossValidation(loaded), stopping=threading.Event())
    assert worker.run(max_trials=1) == Tally(finished=1)
    assert tiny.states(database) == {"finished": 1, "pending": 1}
    assert len(tiny.rows(database, "runs")) == FOLDS
    # After the first fold, which took a moment, it took the others at once.
    assert tiny.rows(database, "jobs", "count", "where rank = 0 order by first") == [(1,), (FOLDS - 1,)]


def test_a_kill_costs_the_fold_that_was_being_trained_and_no_other(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of several folds, whose worker is interrupted after two of them."""
    monkeypatch.setattr("pairsearch.search.workers.worker.SHORT_SECONDS", 0.0)
    study, loaded = make(database, tmp_path, pruner="race")
    objective = Counting(loaded)
    objective.trained, objective.left = [], 2
    worker = Worker(open_ledger(database, study), objective, stopping=threading.Event())
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert objective.trained == [0, 1]
    assert tiny.rows(database, "runs", "run", "order by run") == [(0,), (1,)]
    assert tiny.rows(database, "jobs", "state", "order by id limit 1") == [("pending",)]
    claim = Ledger(database, study).claim("ann")
    assert claim is not None
    assert (claim.stored, claim.left) == ((0, 1), (2, 3))
    Ledger(database, study).hand_back(claim)
    objective.trained.clear()
    objective.left = -1
    again = Worker(open_ledger(database, study), objective, stopping=threading.Event())
    assert again.run() == Tally(finished=2)
    assert objective.trained == [2, 3, 0, 1, 2, 3]
    assert tiny.states(database) == {"finished": 2}
    outcome = Ledger(database, study).outcome(claim.configuration.key)
    alone = CrossValidation(loaded)(claim.configuration)
    assert outcome is not None
    assert alone is not None
    assert (outcome.value, outcome.figures, outcome.folds) == (alone.value, alone.figures, alone.folds)


def test_a_run_is_stored_only_under_a_held_claim_and_once(database: Database, tmp_path: Path) -> None:
    study, loaded = make(database, tmp_path, pruner="race")
    ledger = shown(database, study)
    [claim] = claims(ledger, 1)
    outcome = CrossValidation(loaded)(claim.configuration)
    assert outcome is not None
    first, second, *_ = outcome.folds
    for _ in range(2):
        assert ledger.store(claim, first, {"host": "here"})
    assert tiny.rows(database, "runs", "run") == [(0,)]
    tiny.let_leases_run_out(database)
    assert ledger.store(claim, second, {"host": "here"}), "nobody has reaped it"
    assert ledger.reap() == []
    tiny.let_leases_run_out(database)
    ledger.reap()
    assert not ledger.store(claim, outcome.folds[2], {"host": "here"})
    assert not tiny.finish(ledger, claim, outcome)
    assert tiny.rows(database, "runs", "run", "order by run") == [(0,), (1,)]


Ending = Callable[[Ledger, Claim], object]
ENDINGS: Iterable[tuple[str, Ending]] = (
    ("hand_back", lambda ledger, claim: ledger.hand_back(claim)),
    ("fail", lambda ledger, claim: ledger.fail_attempt(claim, "no luck")),
)


@pytest.mark.parametrize(("name", "ending"), ENDINGS)
def test_a_configuration_stays_in_hand_while_one_of_its_folds_is(
    database: Database, storage: RDBStorage, tmp_path: Path, name: str, ending: Ending
) -> None:
    study, _ = make(database, tmp_path)
    ledger = shown(database, study)
    one, other = claims(ledger, 2)
    ending(ledger, one)
    assert tiny.states(database) == {"running": 1, "pending": 1}
    assert [trial.state for trial in storage.get_all_trials(study.optuna_study_id)] == [TrialState.RUNNING]
    ending(ledger, other)
    assert tiny.states(database) == {"pending": 2}
    storage.remove_session()
    assert [trial.state for trial in storage.get_all_trials(study.optuna_study_id)] == [TrialState.FAIL]


@ON_SQLITE
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sampler_s_configurations_are_trained_fold_by_fold_too(
    database: Database, tmp_path: Path, sampler: str
) -> None:
    study, loaded = make(database, tmp_path, sampler=sampler, grid={"x": [1.0, 2.0, 3.0]})
    said: list[str] = []
    worker = Worker(
        open_ledger(database, study), CrossValidation(loaded), stopping=threading.Event(), say=said.append
    )
    assert worker.run() == Tally(finished=3)
    assert tiny.states(database) == {"finished": 3}
    keys = [line.rpartition(" ")[2] for line in said]
    assert [key for key, _ in itertools.groupby(keys)] == list(dict.fromkeys(keys)), "one after the other"


def test_progress_counts_folds_where_workers_take_them_one_by_one(
    database: Database, study: StoredStudy, tmp_path: Path
) -> None:
    assert read_progress(database, study).folds is None, "they train together"
    mine, loaded = make(database, tmp_path)
    ledger = shown(database, mine)
    ledger.insert_rounds(mine.definition.grid.configurations()[0], 1)
    assert read_progress(database, mine).folds == (0, 8)
    claim = ledger.claim("ann", kind="fold")
    assert claim is not None
    end(ledger, loaded, claim)
    progress = read_progress(database, mine)
    assert (progress.folds, progress.covered, progress.ended) == ((1, 8), 0, 0.25)
    assert read_progress(database, mine, limit=1).folds == (1, 4)
    assert progress_lines([progress])[0].startswith("mine: 0/2 done, 1/8 folds, ")
    assert progress_json(progress)["folds"] == {"ended": 1, "total": 8}
    assert progress.rounds_left == 1

    reading = read_all(database, [mine])[0]
    origin = reading.origins[0]
    assert (origin.work, origin.results, reading.folds) == ("search, folds", 1, (1, 8))
    assert "no result yet, 1 of 8 folds are trained" in str(coverage.section(reading))
