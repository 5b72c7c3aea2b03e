"""Optuna's study after others deleted it, or parts of it: the ledger is the truth, and gives it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import programs
import pytest
import tiny
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from pairsearch.data.sources import Source
from pairsearch.search.common.errors import StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy, find_study, get_study
from pairsearch.search.mirror import presence
from pairsearch.search.mirror.projecting import FAILED_REASON
from pairsearch.search.mirror.tables import make_tables
from pairsearch.search.setup import opening
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.advising import Adviser
from pairsearch.search.workers.objective import Progress
from pairsearch.search.workers.worker import Tally
from pairsearch.studies.configuration import Configuration

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

OPTUNA_TABLES = (
    "trial_user_attributes", "trial_system_attributes", "trial_params", "trial_values", "trial_intermediate_values",
    "trial_heartbeats", "trials", "study_user_attributes", "study_system_attributes", "study_directions", "studies",
    "alembic_version", "version_info",
)  # fmt: skip


class Mixed(tiny.Answering):
    """Finishes most configurations; one diverges, one raises an exception whenever it is tried."""

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        if configuration.params == {"batch_size": 25, "learning_rate": 1e-3, "weight_decay": 0.1}:
            raise MemoryError("no room")
        self.answer = (
            tiny.diverged
            if configuration.params["batch_size"] == 10 and configuration.params["weight_decay"]
            else tiny.outcome
        )
        return super().__call__(configuration, progress)


@pytest.fixture
def done(study: StoredStudy, make_worker) -> StoredStudy:
    """The tiny study, searched to its end."""
    assert make_worker(Mixed(), study).run() == Tally(finished=7, failed=1)
    return study


def statement(database: Database, *statements: str) -> None:
    with database.write() as connection:
        for words in statements:
            connection.execute(text(words))


def facts(storage: RDBStorage, name: str = "tiny") -> dict[str, dict[str, Any]]:
    """All that a study's results are in Optuna, by configuration; attempts without a result are left out."""
    storage.remove_session()
    trials = storage.get_all_trials(storage.get_study_id_from_name(name))
    return {
        trial.user_attrs["configuration"]: {
            field: getattr(trial, field)
            for field in ("state", "values", "params", "distributions", "user_attrs", "intermediate_values")
        }
        for trial in trials
        if trial.state != TrialState.FAIL
    }


def failures(storage: RDBStorage) -> list[FrozenTrial]:
    trials = storage.get_all_trials(storage.get_study_id_from_name("tiny"))
    return [trial for trial in trials if trial.state == TrialState.FAIL]


def delete_study(database: Database, storage: RDBStorage) -> None:
    optuna.delete_study(study_name="tiny", storage=storage)


def drop_all_tables(database: Database, storage: RDBStorage) -> None:
    storage.remove_session()
    cascade = "" if database.is_sqlite else " cascade"
    statement(database, *(f"drop table {table}{cascade}" for table in OPTUNA_TABLES))


def rename(database: Database, storage: RDBStorage) -> None:
    statement(database, "update studies set study_name = 'theirs' where study_name = 'tiny'")


def delete_and_take_the_name(database: Database, storage: RDBStorage) -> None:
    delete_study(database, storage)
    storage.create_new_study([StudyDirection.MINIMIZE], "tiny")


DAMAGES = [delete_study, drop_all_tables, rename, delete_and_take_the_name]
# SQLite gives the ids of what was deleted again, PostgreSQL does not.
ON_EITHER = [
    *[(damage, "sqlite") for damage in DAMAGES],
    (drop_all_tables, "postgresql"),
    (delete_and_take_the_name, "postgresql"),
]
SAMPLER = {"sampler": "random", "pruner": "median"}
Damage = Callable[[Database, RDBStorage], None]


@pytest.mark.parametrize(("damage", "database_url"), ON_EITHER, indirect=["database_url"])
def test_a_study_that_was_deleted_is_made_anew_from_the_ledger(
    database: Database, storage: RDBStorage, done: StoredStudy, damage: Damage
) -> None:
    before, ledger = (
        facts(storage),
        tiny.rows(database, "configurations", "key, state, value", "order by id"),
    )
    assert len(before) == 7
    assert presence.shown(database, done)
    damage(database, storage)
    assert not presence.shown(database, done)
    opening.reconcile(database, [get_study(database, "tiny")])
    assert facts(storage) == before
    assert [trial.user_attrs[FAILED_REASON] for trial in failures(storage)] == ["MemoryError: no room"]
    assert tiny.rows(database, "configurations", "key, state, value", "order by id") == ledger
    found = get_study(database, "tiny")
    assert found.optuna_study_id == storage.get_study_id_from_name("tiny")
    assert "note" in str(storage.get_study_system_attrs(found.optuna_study_id))
    # Once is enough.
    assert presence.shown(database, found)
    opening.reconcile(database, [found])
    assert len(storage.get_all_trials(found.optuna_study_id)) == 8


@ON_SQLITE
@pytest.mark.parametrize("maximise", [False, True])
def test_a_study_comes_back_with_its_direction(
    database: Database, storage: RDBStorage, make_study, maximise: bool
) -> None:
    study = make_study(metrics={"val_loss": {"maximise": maximise}})
    delete_study(database, storage)
    opening.reconcile(database, [study])
    wanted = StudyDirection.MAXIMIZE if maximise else StudyDirection.MINIMIZE
    assert storage.get_study_directions(storage.get_study_id_from_name("tiny")) == [wanted]


@ON_SQLITE
def test_times_come_back_too(database: Database, storage: RDBStorage, done: StoredStudy) -> None:
    def times() -> dict[str, list[Any]]:
        trials = storage.get_all_trials(storage.get_study_id_from_name("tiny"))
        return {
            trial.user_attrs["configuration"]: [trial.datetime_start, trial.datetime_complete]
            for trial in trials
            if trial.state != TrialState.FAIL
        }

    before = times()
    delete_study(database, storage)
    opening.reconcile(database, [done])
    for key, (start, complete) in times().items():
        # The ledger notes them a moment before or after Optuna.
        assert abs((start - before[key][0]).total_seconds()) < 10
        assert abs((complete - before[key][1]).total_seconds()) < 10


@ON_SQLITE
def test_single_trials_that_were_deleted_come_back_under_numbers_of_their_own(
    database: Database, storage: RDBStorage, done: StoredStudy
) -> None:
    before = facts(storage)
    lost = [
        row[0] for row in tiny.rows(database, "configurations", "trial_id", "where state <> 'failed' limit 2")
    ]
    for table in OPTUNA_TABLES:
        if table.startswith("trial"):
            statement(database, f"delete from {table} where trial_id in ({lost[0]}, {lost[1]})")  # noqa: S608 - our own words
    assert len(facts(storage)) == 5
    opening.reconcile(database, [done])
    assert facts(storage) == before
    numbers = [trial.number for trial in storage.get_all_trials(done.optuna_study_id)]
    assert len(numbers) == len(set(numbers))


def test_create_and_status_notice_it_and_say_so(tmp_path: Path, database_url: str) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    options = ("--storage", database_url)
    made = ("create", "tiny.toml", "--data", "digits", *options)
    assert programs.run(tmp_path, *made).code == 0
    optunas = optuna.storages.RDBStorage(database_url.replace("postgresql://", "postgresql+psycopg://"))
    for command, stream, words in (
        (made, "out", "tiny: was there, 0 configurations inserted"),
        (
            ("status", "tiny", *options),
            "err",
            "note: tiny: Optuna's study or some of its trials had been deleted",
        ),
        (("worker", "tiny.toml", "--max-trials", "1", *options), "out", "worker ends: 1 finished"),
    ):
        optuna.delete_study(study_name="tiny", storage=optunas)
        ended = programs.run(tmp_path, *command)
        assert (ended.code, "Traceback" in ended.err) == (0, False), ended.err
        assert words in getattr(ended, stream)
        optunas.remove_session()
        loaded = optuna.load_study(study_name="tiny", storage=optunas)
    assert [trial.state for trial in loaded.trials] == [TrialState.COMPLETE]
    optuna.delete_study(study_name="tiny", storage=optunas)
    assert "1 trials of Optuna's restored" in programs.run(tmp_path, *made).out
    optunas.remove_session()
    optunas.engine.dispose()


class Deleting(tiny.Answering):
    """Has the study deleted under its worker, in the first epoch, and another one made in its place."""

    def __init__(self, database: Database, storage: RDBStorage, damage: Damage) -> None:
        super().__init__()
        self.damage = lambda: damage(database, storage)
        self.database = database
        self.storage = storage
        self.other: optuna.Study | None = None

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        if sum(self.asked.values()) == 3:
            self.damage()
            if self.damage.__closure__ is not None:
                make_tables(self.database)
            self.other = optuna.create_study(study_name="other", storage=self.storage)
            # As many as there were: on SQLite they have the ids of those that were deleted.
            for _ in range(9):
                self.other.ask()
        return super().__call__(configuration, progress)


@pytest.mark.parametrize(
    ("damage", "database_url", "changes"),
    [
        *[(damage, "sqlite", SAMPLER) for damage in DAMAGES],
        (delete_study, "sqlite", {}),
        (drop_all_tables, "sqlite", {}),
        (drop_all_tables, "postgresql", SAMPLER),
        (rename, "postgresql", {}),
    ],
    indirect=["database_url"],
)
def test_a_worker_goes_on_and_leaves_another_study_alone(
    database: Database,
    storage: RDBStorage,
    make_study,
    make_worker,
    damage: Damage,
    changes: dict[str, object],
) -> None:
    study = make_study(**changes)
    objective = Deleting(database, storage, damage)
    tally = make_worker(objective, study).run()
    assert (tally.finished, tally.failed) == (8, 0)
    assert set(tiny.states(database)) <= {"finished", "pruned"}
    assert presence.shown(database, study)
    storage.remove_session()
    assert len(facts(storage)) == 8
    other = storage.get_all_trials(storage.get_study_id_from_name("other"))
    assert [(trial.state, trial.user_attrs, trial.intermediate_values) for trial in other] == [
        (TrialState.RUNNING, {}, {})
    ] * 9


@ON_SQLITE
def test_somebody_else_s_study_of_the_same_name_is_left_alone(
    database: Database, storage: RDBStorage, done: StoredStudy, digits_source: Source
) -> None:
    delete_study(database, storage)
    theirs = optuna.create_study(study_name="tiny", storage=storage)
    theirs.add_trial(optuna.create_trial(value=1.0))
    for call in (
        lambda: opening.reconcile(database, [done]),
        lambda: create_study(database, tiny.loaded(source=digits_source)),
    ):
        with pytest.raises(StudyError, match="that pairsearch did not make"):
            call()
    assert [trial.value for trial in theirs.trials] == [1.0]
    assert tiny.states(database) == {"finished": 5, "diverged": 2, "failed": 1}


@ON_SQLITE
def test_a_copy_and_an_archived_study_are_left_alone(
    database: Database, storage: RDBStorage, done: StoredStudy
) -> None:
    storage.set_study_system_attr(done.optuna_study_id, "dashboard:archived", True)
    copy = {"from_storage": storage, "to_storage": storage, "from_study_name": "tiny"}
    optuna.copy_study(**copy, to_study_name="copied")
    before, copied = facts(storage), facts(storage, "copied")
    assert presence.shown(database, done)
    opening.reconcile(database, [done])
    assert (facts(storage), facts(storage, "copied")) == (before, copied)
    assert storage.get_study_system_attrs(done.optuna_study_id)["dashboard:archived"] is True
    delete_study(database, storage)
    opening.reconcile(database, [done])
    assert (facts(storage), facts(storage, "copied")) == (before, copied)


def test_a_copy_put_back_under_the_name_is_the_study_again(
    database: Database, storage: RDBStorage, done: StoredStudy
) -> None:
    before = facts(storage)
    both = {"from_storage": storage, "to_storage": storage}
    optuna.copy_study(**both, from_study_name="tiny", to_study_name="copied")
    delete_study(database, storage)
    optuna.copy_study(**both, from_study_name="copied", to_study_name="tiny")
    opening.reconcile(database, [done])
    assert facts(storage) == before
    assert presence.shown(database, done)


def test_a_grid_that_grows_after_its_study_was_deleted(
    database: Database, storage: RDBStorage, done: StoredStudy, make_worker, digits_source: Source
) -> None:
    delete_study(database, storage)
    optuna.create_study(study_name="other", storage=storage)
    larger = tiny.loaded(source=digits_source, grid=tiny.RAW["grid"] | {"batch_size": [1, 10, 25]})
    made = create_study(database, larger)
    assert (made.inserted, made.restored) == (4, 8)
    assert make_worker(tiny.Answering(), made.study).run() == Tally(finished=4)
    assert len(facts(storage)) == 11
    found = find_study(database, "tiny")
    assert found is not None
    trials = storage.get_all_trials(found.optuna_study_id)
    assert len({repr(trial.distributions["batch_size"]) for trial in trials}) == 1
    assert storage.get_n_trials(storage.get_study_id_from_name("other")) == 0


def test_a_trial_that_starts_when_the_study_was_deleted_begins_it_anew(
    database: Database, storage: RDBStorage, done: StoredStudy, ledger: Ledger
) -> None:
    ledger.retry()
    delete_study(database, storage)
    claim = ledger.claim("ann")
    assert claim is not None
    [trial] = storage.get_all_trials(storage.get_study_id_from_name("tiny"))
    assert (trial.state, trial.params) == (TrialState.RUNNING, claim.configuration.params)
    opening.reconcile(database, [done])
    storage.remove_session()
    assert len(facts(storage)) == 8
    assert tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    storage.remove_session()
    assert {found["state"] for found in facts(storage).values()} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_sampler_does_not_mind_what_became_of_optuna_s_study(
    database: Database, storage: RDBStorage, make_study
) -> None:
    study = make_study(**SAMPLER)
    adviser = Adviser(database, study)
    drop_all_tables(database, storage)
    configuration = adviser.propose()
    assert configuration in study.definition.grid.configurations()
    assert not adviser.should_prune(configuration, {1: 0.5})


def test_a_lost_trial_is_no_reason_to_lose_a_result(
    database: Database, storage: RDBStorage, ledger: Ledger
) -> None:
    claim = ledger.claim("ann")
    assert claim is not None
    delete_study(database, storage)
    ledger.report(claim, 1, 0.5)
    assert tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    storage.remove_session()
    [found] = facts(storage).values()
    assert found["state"] == TrialState.COMPLETE
    assert len(found["intermediate_values"]) == 2
    assert presence.shown(database, get_study(database, "tiny"))
