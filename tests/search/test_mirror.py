"""Optuna's trials after a worker died at any point: reconciling mends each, and leaves live ones alone."""

from __future__ import annotations

import math

import optuna
import pytest
import tiny
from optuna.trial import FrozenTrial, TrialState

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.configurations import Claim, Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.contents import report_epochs
from pairsearch.search.mirror.sampling import Sampler
from pairsearch.search.mirror.storage import TrialStorage
from pairsearch.search.mirror.trials import Mirror

ORIGIN = {"host": "here"}


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
    mirror.report(trial_id, 1, outcome.val_loss[:, 0].mean())
    mirror.finish(trial_id, outcome, frozenset({1}))
    found = trial(trial_id)
    assert (found.state, found.value) == (TrialState.COMPLETE, outcome.value)
    assert found.intermediate_values == pytest.approx(dict(enumerate(outcome.val_loss.mean(axis=0), 1)))
    assert found.user_attrs["folds"]["val_loss"] == list(outcome.val_loss[:, -1])


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
    assert found.intermediate_values == pytest.approx(dict(enumerate(outcome.val_loss.mean(axis=0), 1)))
    assert mirror.running() == []


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


@pytest.mark.parametrize(("lease", "mended"), [(60.0, 0), (0.0, 1)])
def test_a_sampler_s_trial_without_a_claim_is_closed_when_it_is_old(
    database: Database, storage: TrialStorage, make_study, lease: float, mended: int
) -> None:
    study = make_study(sampler="random")
    mirror = Mirror(database, storage, study, Ledger(database, study.id, lease))
    Sampler(mirror).ask()
    assert mirror.reconcile() == mended
    assert len(mirror.running()) == 1 - mended


def test_a_mean_that_is_not_finite_is_not_reported(mirror: Mirror, ledger: Ledger, trial) -> None:
    trial_id = mirror.start(taken(ledger), ORIGIN)
    mirror.report(trial_id, 1, math.nan)
    assert trial(trial_id).intermediate_values == {}


@pytest.mark.parametrize(
    ("epochs", "reports"),
    [(1, (1,)), (3, (1, 2, 3)), (30, tuple(range(3, 31, 3))), (35, tuple(range(2, 36, 3)))],
)
def test_about_ten_epochs_are_reported_and_the_last_is_one(epochs: int, reports: tuple[int, ...]) -> None:
    assert report_epochs(epochs) == reports


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
    assert loaded.user_attrs["architecture"] == "b1"
    assert ledger.result_of(claim.configuration.key, claim.token, trial_id)[0] == State.FINISHED
