"""Optuna's trials at every change of the ledger, with which they are written in one transaction."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import tiny
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from programs import together
from sqlalchemy import select

from pairsearch.search.common.errors import StorageError, StudyError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome, reports_of
from pairsearch.search.ledger.studies import Choices, StoredStudy
from pairsearch.search.mirror import tables
from pairsearch.search.mirror.projecting import make_trial
from pairsearch.search.mirror.trials import AddedTrials, complete, open_view
from pairsearch.search.sampling.space import Space
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.worker import Tally
from pairsearch.studies.configuration import Configuration

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def mean_curve(outcome: Outcome) -> dict[int, float]:
    """The validation loss by epoch, mean over folds."""
    epochs = zip(*(fold.curves["val_loss"] for fold in outcome.folds), strict=True)
    return dict(enumerate(map(statistics.fmean, epochs), start=1))


def taken(ledger: Ledger, worker: str = "ann") -> Claim:
    claim = ledger.claim(worker)
    assert claim is not None
    return claim


@pytest.fixture
def trials(storage: RDBStorage, study: StoredStudy) -> Callable[[], list[FrozenTrial]]:
    """Reads the trials of the tiny study afresh."""

    def read() -> list[FrozenTrial]:
        storage.remove_session()
        return storage.get_all_trials(study.optuna_study_id)

    return read


def test_a_claim_and_its_trial_are_there_together(ledger: Ledger, trials, database: Database) -> None:
    claim = taken(ledger)
    [found] = trials()
    [(row_id, trial_id)] = tiny.rows(database, "configurations", "id, trial_id", "where rank = 0")
    assert (found._trial_id, found.number, found.state) == (trial_id, 0, TrialState.RUNNING)
    assert found.params == claim.configuration.params
    assert found.user_attrs == {"configuration": claim.configuration.key, "worker": "ann", "row": row_id}


def test_a_result_gives_a_complete_trial_with_its_mean_curve(ledger: Ledger, trials) -> None:
    claim = taken(ledger)
    outcome = tiny.outcome(claim.configuration)
    curve = mean_curve(outcome)
    ledger.report(claim, 1, curve[1])
    assert trials()[0].intermediate_values == {1: curve[1]}
    tiny.finish(ledger, claim, outcome)
    [found] = trials()
    assert (found.state, found.value) == (TrialState.COMPLETE, outcome.value)
    assert found.intermediate_values == pytest.approx(curve)
    assert found.user_attrs["folds"]["val_loss"] == [fold.curves["val_loss"][-1] for fold in outcome.folds]
    assert found.user_attrs["provenance"] == {"host": "here"}
    assert found.datetime_complete is not None


def test_a_diverged_result_gives_a_pruned_trial_with_the_reason(ledger: Ledger, trials) -> None:
    claim = taken(ledger)
    outcome = tiny.diverged(claim.configuration)
    tiny.finish(ledger, claim, outcome)
    [found] = trials()
    assert found.state == TrialState.PRUNED
    assert found.user_attrs["folds"]["reason"] == outcome.reason
    assert found.user_attrs["folds"]["val_loss"] == [0.6, None]
    # Epoch 2 has no finite mean: it is left out of the curve.
    assert found.intermediate_values == {1: 0.75}


@pytest.mark.parametrize("end", ["hand_back", "fail_attempt", "final failure", "reap"])
def test_an_attempt_without_a_result_leaves_a_failed_trial_and_the_next_has_one_of_its_own(
    ledger: Ledger, trials, database: Database, end: str
) -> None:
    claim = taken(ledger)
    if end == "hand_back":
        ledger.hand_back(claim)
    elif end == "reap":
        tiny.let_leases_run_out(database)
        ledger.reap()
    else:
        ledger.fail_attempt(claim, "out of memory", final=end != "fail_attempt")
    [found] = trials()
    reasons = {"hand_back": "handed back", "reap": "went back"}
    assert found.state == TrialState.FAIL
    assert reasons.get(end, "out of memory") in found.user_attrs["failed_reason"]
    ledger.retry()
    assert ledger.claim("bob", key=claim.configuration.key) is not None
    assert [trial.state for trial in trials()] == [TrialState.FAIL, TrialState.RUNNING]
    assert complete(database, ledger.study) == 0


def test_a_late_worker_changes_no_trial(ledger: Ledger, trials, database: Database) -> None:
    lost = taken(ledger)
    tiny.let_leases_run_out(database)
    ledger.reap()
    taken(ledger, "bob")
    before = trials()
    ledger.report(lost, 2, 0.5)
    assert not tiny.finish(ledger, lost, tiny.outcome(lost.configuration))
    assert trials() == before


@ON_SQLITE
def test_a_mean_that_is_not_finite_is_not_reported(ledger: Ledger, trials) -> None:
    claim = taken(ledger)
    for value in (math.nan, math.inf):
        ledger.report(claim, 1, value)
    assert trials()[0].intermediate_values == {}


@ON_SQLITE
@pytest.mark.parametrize(
    ("epochs", "reports"),
    [(1, (1,)), (3, (1, 2, 3)), (30, tuple(range(3, 31, 3))), (35, tuple(range(2, 36, 3)))],
)
def test_about_ten_epochs_are_reported_and_the_last_is_one(
    study: StoredStudy, epochs: int, reports: tuple[int, ...]
) -> None:
    assert dataclasses.replace(study, definition=tiny.definition(epochs=epochs)).report_steps == reports


def in_turn(study: StoredStudy) -> StoredStudy:
    """The study, had its problem trained the folds one by one."""
    return dataclasses.replace(study, traits=dataclasses.replace(study.traits, together=False))


@ON_SQLITE
def test_where_folds_train_in_turn_a_step_is_a_fold(study: StoredStudy) -> None:
    outcome = tiny.outcome(tiny.point(10, 1e-4, 0.0))
    assert in_turn(study).report_steps == (1, 2)
    finals = {fold.index + 1: fold.curves["val_loss"][-1] for fold in outcome.folds}
    assert reports_of(in_turn(study), outcome) == finals
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


def test_a_trial_of_mixed_types_keeps_them_in_the_database(database: Database, storage: RDBStorage) -> None:
    grid = {name: list(values) for name, values in CHOICES.items() if name in ("mixed", "apart")}
    study = create_study(database, tiny.anything(grid=grid)).study
    ledger, space = Ledger(database, study, view=open_view(database, study)), Space(study.choices)
    points = {taken(ledger).configuration.key for _ in study.definition.grid.points()}
    found = [Configuration(space.values(trial.params)).key for trial in storage.get_all_trials(1)]
    assert set(found) == points
    assert len(found) == len(points)


def test_a_study_reads_as_optuna_s_own(ledger: Ledger, storage: RDBStorage) -> None:
    claim = taken(ledger)
    tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    loaded = optuna.load_study(study_name="tiny", storage=storage)
    assert loaded.best_params == claim.configuration.params
    assert loaded.user_attrs["problem"] == "pairs"


RATES = CategoricalDistribution((1e-5, 1e-3, 0.1))
NOTES: dict[str, Any] = {"provenance": {"host": "ann’s", "versions": None}, "numbers": [0.1, None]}
REPORTS = {1: 0.5, 2: 0.1 + 0.2, 4: 0.25}


WRITTEN = (
    *(tables.studies, tables.directions, tables.trials),
    *(tables.params, tables.notes, tables.values, tables.reports),
)


def test_rows_are_those_that_optuna_itself_would_write(database: Database, storage: RDBStorage) -> None:
    """The same trials by Optuna's own storage and by ours, table by table."""
    theirs, values = storage.create_new_study([StudyDirection.MAXIMIZE], "theirs"), [0.1 + 0.2, None, None]
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    template = {"params": {"rate": 0.1}, "distributions": {"rate": RATES}, "user_attrs": NOTES}
    made = [
        create_trial(
            state=state,
            value=value,
            intermediate_values=REPORTS if state != TrialState.FAIL else {},
            **template,
        )
        for state, value in zip(states, values, strict=True)
    ]
    for trial in made:
        storage.create_new_trial(theirs, trial)
    with database.write() as connection:
        ours = tables.insert_study(connection, "ours", StudyDirection.MAXIMIZE)
        replaced = [
            create_trial(
                state=state,
                value=None if value is None else 0.0,
                intermediate_values={} if state == TrialState.FAIL else dict.fromkeys(REPORTS, math.inf),
                **template | {"user_attrs": NOTES | {"numbers": "replaced"}},
            )
            for state, value in zip(states, values, strict=True)
        ]
        ids = tables.insert_trials(connection, ours, replaced)
        tables.write_trials(connection, dict(zip(ids, made, strict=True)))

    def written(study_id: int) -> dict[str, list[dict[str, Any]]]:
        found = {}
        with database.read() as connection:
            trials = [
                row.trial_id
                for row in connection.execute(
                    select(tables.trials)
                    .where(tables.trials.c.study_id == study_id)
                    .order_by(tables.trials.c.number)
                )
            ]
            for table in WRITTEN:
                own, *_ = (column.name for column in table.primary_key)
                column, ids = (
                    (table.c.trial_id, trials) if "trial_id" in table.c else (table.c.study_id, [study_id])
                )
                rows = connection.execute(select(table).where(column.in_(ids)).order_by(table.c[own]))
                left = {own, "trial_id", "study_id", "study_name"}
                found[table.name] = [
                    {
                        name: value if not name.startswith("datetime") else value is not None
                        for name, value in row._asdict().items()
                        if name not in left
                    }
                    for row in rows
                ]
        return found

    assert written(ours) == written(theirs)


def add_some(url: str) -> None:
    database = open_database(url)
    running = make_trial(TrialState.RUNNING, {})
    for _ in range(20):
        with database.write() as connection:
            study_id = tables.find_study(connection, "tiny")
            assert study_id is not None
            tables.insert_trials(connection, study_id, [running] * 2)
    database.close()


def test_trials_that_are_added_at_once_have_numbers_of_their_own(
    database: Database, study: StoredStudy, trials
) -> None:
    url = database.url.render_as_string(hide_password=False)
    assert together(add_some, 3, url) == [0, 0, 0]
    assert [trial.number for trial in trials()] == list(range(120))


@pytest.mark.usefixtures("later_optuna")
def test_where_optuna_s_tables_are_not_known_trials_are_added_by_optuna_when_they_end(
    database: Database, study: StoredStudy, storage: RDBStorage, trials, make_worker
) -> None:
    ledger = Ledger(database, study, view=open_view(database, study))
    assert isinstance(ledger.view, AddedTrials)
    claim = taken(ledger)
    ledger.report(claim, 1, 0.5)
    assert trials() == []
    outcome = tiny.outcome(claim.configuration)
    tiny.finish(ledger, claim, outcome)
    [found] = trials()
    assert (found.state, found.value) == (TrialState.COMPLETE, outcome.value)
    assert found.intermediate_values == pytest.approx(mean_curve(outcome))
    said: list[str] = []
    assert make_worker(tiny.Answering(), say=said.append).run() == Tally(finished=7)
    assert any("trials are added when they have ended" in line for line in said)
    assert {trial.user_attrs["configuration"] for trial in trials()} == {
        key for (key,) in tiny.rows(database, "configurations", "key")
    }
    assert len(trials()) == 8
    optuna.delete_study(study_name="tiny", storage=storage)
    assert complete(database, study) == 8
    assert complete(database, study) == 0


@ON_SQLITE
@pytest.mark.usefixtures("later_optuna")
def test_a_study_of_somebody_else_s_gets_no_trials_by_optuna_either(
    database: Database, storage: RDBStorage, make_study
) -> None:
    theirs = storage.create_new_study([StudyDirection.MINIMIZE], "mine")
    storage.create_new_trial(theirs)
    study = make_study(name="mine")
    with pytest.raises(StudyError, match="an Optuna study of that name that pairsearch did not make"):
        open_view(database, study)


@ON_SQLITE
def test_tables_that_the_installed_optuna_does_not_know_either_are_refused(
    database: Database, study: StoredStudy
) -> None:
    tiny.execute(database, "update alembic_version set version_num = 'v9.9.9'")
    with pytest.raises(StorageError, match=r"Optuna tables of version v9\.9\.9, where Optuna .* has v"):
        open_view(database, study)
