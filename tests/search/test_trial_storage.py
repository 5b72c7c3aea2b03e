"""The short cuts of our Optuna storage, held to Optuna's own: the same rows, the same errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from programs import together
from sqlalchemy import Table, event, select

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.mirror import storage as trial_storage
from pairsearch.search.mirror.storage import TrialStorage
from pairsearch.search.mirror.trials import open_storage

RATES = CategoricalDistribution((1e-5, 1e-3, 0.1))
NOTES: dict[str, Any] = {
    "claim": "0f",
    "provenance": {"host": "ann’s", "versions": None},
    "numbers": [0.1, None],
}
STARTED = datetime(2026, 3, 1, 12, 30, 15, 250_000)
ABSENT = 10_000


def template(**changes: Any) -> FrozenTrial:
    fields: dict[str, Any] = {
        "number": -1,
        "trial_id": -1,
        "state": TrialState.RUNNING,
        "value": None,
        "datetime_start": STARTED,
        "datetime_complete": None,
        "params": {"learning_rate": 0.1, "batch_size": 25},
        "distributions": {"learning_rate": RATES, "batch_size": CategoricalDistribution((1, 25))},
        "user_attrs": NOTES,
        "system_attrs": {},
        "intermediate_values": {},
    }
    return FrozenTrial(**(fields | changes))


class Plain(TrialStorage):
    """The reference: every call goes Optuna's own way."""

    short_cuts = False


@pytest.fixture
def plain(database: Database, storage: TrialStorage) -> Iterator[Plain]:
    """The reference on the same database."""
    opened = Plain(
        database.url.render_as_string(hide_password=False), engine_kwargs=database.engine_options(1)
    )
    yield opened
    opened.remove_session()
    opened.engine.dispose()


Both = tuple[tuple[TrialStorage, int], tuple[TrialStorage, int]]


@pytest.fixture
def both(storage: TrialStorage, plain: Plain) -> Both:
    """The short cuts and the reference, each with the id of an empty study of its own."""
    first, second = (
        (used, used.create_new_study([StudyDirection.MINIMIZE], name))
        for used, name in ((storage, "short"), (plain, "plain"))
    )
    return first, second


def rows(storage: RDBStorage, table: Table, trial_ids: list[int]) -> list[dict[str, Any]]:
    """A table's rows of some trials, without the ids that the database chose."""
    own_id, *_ = (column.name for column in table.primary_key)
    with storage.engine.connect() as connection:
        found = connection.execute(
            select(table).where(table.c.trial_id.in_(trial_ids)).order_by(table.primary_key.columns[own_id])
        ).mappings()
        return [
            {name: value for name, value in row.items() if name not in {own_id, "trial_id", "study_id"}}
            for row in found
        ]


def contents(storage: RDBStorage, study_id: int) -> dict[str, list[dict[str, Any]]]:
    """What Optuna's tables say of a study's trials; the time of their end only as there or not."""
    storage.remove_session()
    trial_ids = [trial._trial_id for trial in storage.get_all_trials(study_id)]
    found = {table.name: rows(storage, table, trial_ids) for table in trial_storage.KNOWN}
    for trial in found["trials"]:
        trial["datetime_complete"] = trial["datetime_complete"] is not None
    return found


Act = Callable[[TrialStorage, int], None]


def start(storage: TrialStorage, study_id: int) -> None:
    for _ in range(3):
        storage.create_new_trial(study_id, template())
    storage.create_new_trial(study_id, template(params={}, distributions={}, user_attrs={}))


def report(storage: TrialStorage, study_id: int) -> None:
    first, second = (storage.create_new_trial(study_id, template()) for _ in range(2))
    for step, value in enumerate((0.5, math.nan, math.inf, -math.inf, 0.1 + 0.2), 1):
        storage.set_trial_intermediate_value(first, step, value)
        storage.set_trial_intermediate_value(second, step, 1.0)
    storage.set_trial_intermediate_value(first, 1, 0.25)


def close(
    storage: TrialStorage,
    study_id: int,
    *,
    state: TrialState,
    value: float | None,
    reports: dict[int, float],
) -> None:
    trial_id = storage.create_new_trial(study_id, template())
    storage.set_trial_intermediate_value(trial_id, 1, 0.75)
    storage.close_trial(trial_id, state, value, {"folds": {"val_loss": [0.1]}, "claim": "other"}, reports)


def other_templates(storage: TrialStorage, study_id: int) -> None:
    done = template(state=TrialState.COMPLETE, value=0.5, datetime_complete=STARTED)
    for given in (None, done, template(system_attrs={"fixed": 1}), template(intermediate_values={1: 0.5})):
        storage.create_new_trial(study_id, given)


ACTS: dict[str, Act] = {
    "started": start,
    "reported, also what is not finite, and again": report,
    "complete": partial(close, state=TrialState.COMPLETE, value=0.1 + 0.2, reports={1: 0.5, 4: 0.25}),
    "pruned": partial(close, state=TrialState.PRUNED, value=None, reports={}),
    "failed": partial(close, state=TrialState.FAIL, value=None, reports={2: math.inf}),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_short_cuts_write_the_rows_that_optuna_writes(both: Both, act: Act) -> None:
    (short, short_study), (plain, plain_study) = both
    act(short, short_study)
    act(plain, plain_study)
    written = contents(short, short_study)
    assert written == contents(plain, plain_study)
    assert written["trials"]


def test_templates_of_other_kinds_go_optunas_own_way(both: Both) -> None:
    (short, short_study), (plain, plain_study) = both
    other_templates(short, short_study)
    other_templates(plain, plain_study)
    written, expected = contents(short, short_study), contents(plain, plain_study)
    for found in (written, expected):
        found["trials"][0].pop("datetime_start")  # of the trial that had no template: now
    assert written == expected


@pytest.mark.parametrize("kind", [0, 1], ids=["short cuts", "reference"])
def test_a_finished_trial_takes_neither_a_report_nor_another_end(both: Both, kind: int) -> None:
    storage, study_id = both[kind]
    trial_id = storage.create_new_trial(study_id, template())
    storage.close_trial(trial_id, TrialState.COMPLETE, 0.5, {}, {})
    before = contents(storage, study_id)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    for reports in ({}, {1: 0.5}):
        with pytest.raises(UpdateFinishedTrialError):
            storage.close_trial(trial_id, TrialState.FAIL, None, {"failed_reason": "late"}, reports)
    assert contents(storage, study_id) == before


@pytest.mark.parametrize("kind", [0, 1], ids=["short cuts", "reference"])
def test_a_trial_that_is_not_there_is_refused(both: Both, kind: int) -> None:
    storage, _ = both[kind]
    with pytest.raises(KeyError):
        storage.set_trial_intermediate_value(ABSENT, 1, 0.5)
    with pytest.raises(KeyError):
        storage.close_trial(ABSENT, TrialState.FAIL, None, {"failed_reason": "lost"}, {})


def test_a_trial_costs_a_transaction_to_start_one_a_report_and_one_to_close(
    storage: TrialStorage, both: Both
) -> None:
    commits = []
    event.listen(storage.engine, "commit", commits.append)
    _, study_id = both[0]
    trial_id = storage.create_new_trial(study_id, template())
    assert len(commits) == 1
    storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    assert len(commits) == 2
    storage.close_trial(trial_id, TrialState.COMPLETE, 0.5, {"folds": {}}, {2: 0.5, 3: 0.5})
    assert len(commits) == 3


def test_running_trials_are_those_that_optuna_knows(both: Both) -> None:
    (storage, study_id), (plain, _) = both
    _, silent, closed = (storage.create_new_trial(study_id, template()) for _ in range(3))
    bare = storage.create_new_trial(study_id, template(params={}, distributions={}, user_attrs={}))
    for step in (1, 3):
        storage.set_trial_intermediate_value(silent, step, 0.5)
    storage.close_trial(closed, TrialState.COMPLETE, 0.5, {"folds": {}}, {1: 0.5})
    found = storage.running_trials(study_id)
    assert found == plain.running_trials(study_id)
    assert [trial.started for trial in found] == [STARTED] * 3
    assert [sorted(trial.reported) for trial in found] == [[], [1, 3], []]
    assert found[-1].trial_id == bare


def test_tables_of_another_optuna_go_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial_storage.tables_known()
    fewer = trial_storage.KNOWN[trial_storage.trials] - {"number"}
    monkeypatch.setitem(trial_storage.KNOWN, trial_storage.trials, fewer)  # type: ignore[arg-type]
    assert not trial_storage.tables_known()


def _start_ten(url: str, study_id: int) -> None:
    database = open_database(url)
    storage = open_storage(database)
    for _ in range(10):
        storage.create_new_trial(study_id, template())


def test_trials_started_by_four_processes_at_once_are_numbered_through(
    database_url: str, storage: TrialStorage
) -> None:
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "numbered")
    assert together(_start_ten, 4, database_url, study_id) == [0] * 4
    assert sorted(trial.number for trial in storage.get_all_trials(study_id)) == list(range(40))


def test_optunas_own_study_reads_and_writes_through_it(database: Database, storage: TrialStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="theirs")
    study.optimize(lambda trial: trial.suggest_categorical("learning_rate", [0.1]), n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


def test_trials_that_have_ended_are_added_as_optuna_adds_them(both: Both) -> None:
    (storage, study_id), (plain, plain_id) = both
    ended = {"state": TrialState.COMPLETE, "datetime_complete": STARTED}
    templates = [
        template(**ended, value=0.5, intermediate_values={1: 0.75, 2: 0.5}),
        template(**ended | {"state": TrialState.FAIL}),
        template(**ended | {"state": TrialState.PRUNED}, intermediate_values={1: math.inf}),
    ]
    for used, its_study in ((storage, study_id), (plain, plain_id)):
        used.create_new_trial(its_study, template())
        ids = used.add_trials(its_study, templates)
        assert [used.get_trial(trial_id).number for trial_id in ids] == [1, 2, 3]
    assert contents(storage, study_id) == contents(plain, plain_id)


@pytest.mark.parametrize("kind", [0, 1], ids=["short cuts", "reference"])
def test_a_trial_is_started_in_the_study_of_its_name(both: Both, kind: int) -> None:
    storage, study_id = both[kind]
    given = template()
    trial_id = storage.start_trial(
        ("short", "plain")[kind], given, lambda _: (given.params, given.distributions)
    )
    assert [trial._trial_id for trial in storage.get_all_trials(study_id)] == [trial_id]
    assert storage.get_trial(trial_id).params == given.params
    with pytest.raises(KeyError):
        storage.start_trial("absent", given, lambda _: (given.params, given.distributions))
