"""Optuna's trials after a worker died at any point: reconciling mends each, and leaves live ones alone."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import statistics

import optuna
import pytest
import tiny
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import OperationalError, PendingRollbackError, ProgrammingError

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.errors import DatabaseAwayError, DiskFullError
from pairsearch.search.ledger.configurations import Claim, Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import Choices, StoredStudy
from pairsearch.search.mirror.contents import report_steps, reports_of
from pairsearch.search.mirror.sampling import Sampler
from pairsearch.search.mirror.storage import TrialStorage
from pairsearch.search.mirror.study import LostTrialError, Space, translated, watched
from pairsearch.search.mirror.trials import Mirror
from pairsearch.search.setup.creation import create_study
from pairsearch.studies.configuration import Configuration

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ORIGIN = {"host": "here"}


def mean_curve(outcome: Outcome) -> dict[int, float]:
    """The validation loss by epoch, mean over folds."""
    epochs = zip(*(fold.curves["val_loss"] for fold in outcome.folds), strict=True)
    return dict(enumerate(map(statistics.fmean, epochs), start=1))


def taken(ledger: Ledger, worker: str = "ann") -> Claim:
    claim = ledger.claim(worker)
    assert claim is not None
    return claim


@pytest.fixture
def trial(storage: TrialStorage):
    """Reads a trial afresh."""

    def read(trial_id: int) -> FrozenTrial:
        return storage.get_trial(trial_id)

    return read


def test_a_trial_carries_its_configuration_and_claim(mirror: Mirror, ledger: Ledger, trial) -> None:
    claim = taken(ledger)
    found = trial(mirror.start(claim, ORIGIN))
    assert found.state == TrialState.RUNNING
    assert found.params == claim.configuration.params
    assert found.user_attrs == {
        "configuration": claim.configuration.key,
        "claim": claim.token,
        "worker": "ann",
        "provenance": ORIGIN,
    }


def test_a_result_gives_a_complete_trial_with_its_mean_curve(mirror: Mirror, ledger: Ledger, trial) -> None:
    claim = taken(ledger)
    trial_id = mirror.start(claim, ORIGIN)
    outcome = tiny.outcome(claim.configuration)
    curve = mean_curve(outcome)
    mirror.report(trial_id, 1, curve[1])
    mirror.finish(trial_id, outcome, frozenset({1}))
    found = trial(trial_id)
    assert (found.state, found.value) == (TrialState.COMPLETE, outcome.value)
    assert found.intermediate_values == pytest.approx(curve)
    assert found.user_attrs["folds"]["val_loss"] == [fold.curves["val_loss"][-1] for fold in outcome.folds]


def test_a_worker_that_died_after_its_claim_leaves_no_trial(
    mirror: Mirror, ledger: Ledger, database: Database
) -> None:
    taken(ledger)
    tiny.let_leases_run_out(database)
    ledger.reap()
    assert mirror.reconcile() == 0
    assert mirror.running() == []
    assert tiny.states(database) == {"pending": 8}


def test_a_worker_that_died_before_its_result_leaves_a_failed_trial(
    mirror: Mirror, ledger: Ledger, database: Database, trial
) -> None:
    trial_id = mirror.start(taken(ledger), ORIGIN)
    tiny.let_leases_run_out(database)
    ledger.reap()
    assert mirror.reconcile() == 1
    assert trial(trial_id).state == TrialState.FAIL
    assert "went back" in trial(trial_id).user_attrs["failed_reason"]
    assert mirror.running() == []


def test_a_worker_that_died_after_its_result_leaves_a_complete_trial(
    mirror: Mirror, ledger: Ledger, trial
) -> None:
    claim = taken(ledger)
    trial_id = mirror.start(claim, ORIGIN)
    outcome = tiny.outcome(claim.configuration)
    ledger.finish(claim, outcome)
    assert mirror.reconcile() == 1
    found = trial(trial_id)
    assert (found.state, found.value) == (TrialState.COMPLETE, outcome.value)
    assert found.intermediate_values == pytest.approx(mean_curve(outcome))
    assert mirror.running() == []


@ON_SQLITE
def test_a_diverged_result_gives_a_pruned_trial_with_the_reason(
    mirror: Mirror, ledger: Ledger, trial
) -> None:
    claim = taken(ledger)
    trial_id = mirror.start(claim, ORIGIN)
    outcome = tiny.diverged(claim.configuration)
    ledger.finish(claim, outcome)
    assert mirror.reconcile() == 1
    found = trial(trial_id)
    assert found.state == TrialState.PRUNED
    assert found.user_attrs["folds"]["reason"] == outcome.reason
    assert found.user_attrs["folds"]["val_loss"] == [0.6, None]
    # Epoch 2 has no finite mean: it is left out of the curve.
    assert found.intermediate_values == {1: 0.75}


@ON_SQLITE
def test_a_failed_attempt_that_was_not_told_leaves_a_failed_trial(
    mirror: Mirror, ledger: Ledger, trial
) -> None:
    claim = taken(ledger)
    trial_id = mirror.start(claim, ORIGIN)
    ledger.fail_attempt(claim, "out of memory")
    assert mirror.reconcile() == 1
    assert trial(trial_id).state == TrialState.FAIL


def test_live_trials_are_left_alone(mirror: Mirror, ledger: Ledger) -> None:
    ids = {mirror.start(taken(ledger), ORIGIN) for _ in range(2)}
    assert mirror.reconcile() == 0
    assert {trial.trial_id for trial in mirror.running()} == ids


def test_a_configuration_taken_over_keeps_the_new_trial_and_closes_the_old(
    mirror: Mirror, ledger: Ledger, database: Database, trial
) -> None:
    old = mirror.start(taken(ledger), ORIGIN)
    tiny.let_leases_run_out(database)
    ledger.reap()
    new = mirror.start(taken(ledger, "bob"), ORIGIN)
    assert mirror.reconcile() == 1
    assert (trial(old).state, trial(new).state) == (TrialState.FAIL, TrialState.RUNNING)


@pytest.mark.parametrize("finished", [False, True])
def test_of_two_trials_of_one_claim_only_the_one_that_the_ledger_noted_counts(
    mirror: Mirror, ledger: Ledger, trial, finished: bool
) -> None:
    """The answer to the making of the first was lost, and the worker made a second."""
    claim = taken(ledger)
    first, second = mirror.start(claim, ORIGIN), mirror.start(claim, ORIGIN)
    if finished:
        ledger.finish(claim, tiny.outcome(claim.configuration))
    mirror.reconcile()
    assert trial(first).state == TrialState.FAIL
    assert trial(second).state == (TrialState.COMPLETE if finished else TrialState.RUNNING)


def test_reconciling_again_changes_nothing(mirror: Mirror, ledger: Ledger, trial) -> None:
    claim = taken(ledger)
    trial_id = mirror.start(claim, ORIGIN)
    ledger.finish(claim, tiny.outcome(claim.configuration))
    mirror.reconcile()
    before = trial(trial_id)
    assert mirror.reconcile() == 0
    assert trial(trial_id) == before


def test_telling_a_trial_that_another_worker_mended_is_no_error(
    mirror: Mirror, ledger: Ledger, trial
) -> None:
    claim = taken(ledger)
    trial_id = mirror.start(claim, ORIGIN)
    outcome = tiny.outcome(claim.configuration)
    ledger.finish(claim, outcome)
    mirror.reconcile()
    mirror.finish(trial_id, outcome)
    assert trial(trial_id).state == TrialState.COMPLETE


@ON_SQLITE
@pytest.mark.parametrize(("lease", "mended"), [(60.0, 0), (0.0, 1)])
def test_a_sampler_s_trial_without_a_claim_is_closed_when_it_is_old(
    database: Database, storage: TrialStorage, make_study, lease: float, mended: int
) -> None:
    study = make_study(sampler="random")
    mirror = Mirror(database, storage, study, Ledger(database, study.id, lease))
    Sampler(mirror).ask()
    assert mirror.reconcile() == mended
    assert len(mirror.running()) == 1 - mended


@ON_SQLITE
def test_a_mean_that_is_not_finite_is_not_reported(mirror: Mirror, ledger: Ledger, trial) -> None:
    trial_id = mirror.start(taken(ledger), ORIGIN)
    mirror.report(trial_id, 1, math.nan)
    assert trial(trial_id).intermediate_values == {}


@ON_SQLITE
@pytest.mark.parametrize(
    ("epochs", "reports"),
    [(1, (1,)), (3, (1, 2, 3)), (30, tuple(range(3, 31, 3))), (35, tuple(range(2, 36, 3)))],
)
def test_about_ten_epochs_are_reported_and_the_last_is_one(
    study: StoredStudy, epochs: int, reports: tuple[int, ...]
) -> None:
    assert report_steps(dataclasses.replace(study, definition=tiny.definition(epochs=epochs))) == reports


def in_turn(study: StoredStudy) -> StoredStudy:
    """The study, had its problem trained the folds one by one."""
    return dataclasses.replace(study, traits=dataclasses.replace(study.traits, together=False))


@ON_SQLITE
def test_where_folds_train_in_turn_a_step_is_a_fold(study: StoredStudy) -> None:
    outcome = tiny.outcome(tiny.point(10, 1e-4, 0.0))
    assert report_steps(in_turn(study)) == (1, 2)
    finals = {fold.index + 1: fold.curves["val_loss"][-1] for fold in outcome.folds}
    assert reports_of(in_turn(study), outcome) == finals
    assert reports_of(in_turn(study), outcome, {1}) == {2: finals[2]}
    first = dataclasses.replace(outcome, folds=outcome.folds[:1])
    assert reports_of(in_turn(study), first) == {1: finals[1]}


CHOICES: Choices = {
    "plain": (1, 2),
    "mixed": (1, 1.0, True, "1", "True", 0, False),
    "text": ("True", "1.0", "it's", 'a "b"'),
    "apart": (1, "1", 0.5),
}


def test_values_become_categories_and_come_back_with_their_types() -> None:
    space = Space(CHOICES)
    for name, values in CHOICES.items():
        categories = [space.categories({name: value})[name] for value in values]
        assert len(set(categories)) == len(values)
        assert all(category in space.distributions[name].choices for category in categories)
        assert repr([space.values({name: category})[name] for category in categories]) == repr(list(values))
    assert space.categories({"plain": 2, "apart": "1"}) == {"plain": 2, "apart": "1"}
    assert list(space.of({"text": "1.0"})) == ["text"]


def test_a_trial_of_mixed_types_keeps_them_in_the_database(database: Database, storage: TrialStorage) -> None:
    grid = {name: list(values) for name, values in CHOICES.items() if name in ("mixed", "apart")}
    study = create_study(database, tiny.anything(grid=grid), storage).study
    ledger = Ledger(database, study.id)
    mirror, space = Mirror(database, storage, study, ledger), Space(study.choices)
    claims = {}
    for point in study.definition.grid.configurations():
        claim = ledger.claim("ann", key=point.key)
        assert claim is not None
        claims[mirror.start(claim, ORIGIN)] = point
    storage.remove_session()
    for trial_id, point in claims.items():
        assert Configuration(space.values(storage.get_trial(trial_id).params)) == point


def test_a_study_reads_as_optuna_s_own(
    mirror: Mirror, ledger: Ledger, storage: TrialStorage, study: StoredStudy
) -> None:
    claim = taken(ledger)
    trial_id = mirror.start(claim, ORIGIN)
    outcome = tiny.outcome(claim.configuration)
    ledger.finish(claim, outcome)
    mirror.finish(trial_id, outcome)
    loaded = optuna.load_study(study_name="tiny", storage=storage)
    assert loaded.best_params == claim.configuration.params
    assert loaded.user_attrs["problem"] == "pairs"
    assert ledger.result_of(claim.configuration.key, claim.token, trial_id)[0] == State.FINISHED


@ON_SQLITE
def test_errors_of_optuna_s_storage_are_those_of_the_database_beneath(database: Database) -> None:
    def broken(cause: BaseException | None) -> StorageInternalError:
        error = StorageInternalError("An exception is raised during the commit.")
        error.__cause__ = cause
        return error

    of_driver = sqlite3.OperationalError("database or disk is full")
    of_driver.sqlite_errorname = "SQLITE_FULL"
    full = OperationalError("insert", {}, of_driver)
    for cause, expected, words in (
        (full, DiskFullError, "the disk is full"),
        (PendingRollbackError("Can't reconnect"), DatabaseAwayError, "the connection broke off"),
        (None, StorageInternalError, "An exception is raised during the commit"),
    ):
        for block in (translated(database), watched(database, "tiny")):
            with pytest.raises(expected, match=words), block:
                raise broken(cause)
    with (
        pytest.raises(LostTrialError, match="study tiny: what Optuna has of it was deleted"),
        watched(database, "tiny"),
    ):
        raise KeyError("no such trial")
    # A bug is neither.
    bug = ProgrammingError("select", {}, sqlite3.ProgrammingError("Incorrect number of bindings supplied"))
    with pytest.raises(ProgrammingError), watched(database, "tiny"):
        raise bug
