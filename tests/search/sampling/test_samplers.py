"""Samplers and pruners other than the defaults: the grid is covered, and nothing is trained twice."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
import tiny
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from pairsearch.data.sources import Source
from pairsearch.search.common.errors import DatabaseAwayError
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.mirror.trials import open_view
from pairsearch.search.sampling.space import Space
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.advising import Adviser
from pairsearch.search.workers.worker import Tally
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.seeds import layout_order

# What a sampler proposes has nothing to do with the kind of database, so each test has one of the two.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
SMALL: dict[str, list[float]] = {"batch_size": [10, 25], "learning_rate": [1e-4, 1e-3], "weight_decay": [0.0]}


def worse(outcome: Outcome, by: float) -> Outcome:
    """An outcome whose validation losses are higher throughout."""
    folds = [
        dataclasses.replace(
            fold, curves={**fold.curves, "val_loss": [loss + by for loss in fold.curves["val_loss"]]}
        )
        for fold in outcome.folds
    ]
    return dataclasses.replace(outcome, folds=tuple(folds))


@pytest.mark.parametrize(
    ("sampler", "database_url"),
    [("tpe", "sqlite"), ("random", "postgresql"), ("gp", "postgresql")],
    indirect=["database_url"],
)
def test_a_sampler_goes_through_the_grid_and_trains_each_configuration_once(
    database: Database, storage: RDBStorage, make_study, make_worker, sampler: str
) -> None:
    study = make_study(sampler=sampler, grid=SMALL)
    objective = tiny.Answering()
    assert make_worker(objective, study).run() == Tally(finished=4)
    assert objective.asked == {configuration.key: 1 for configuration in layout_order(study.definition)}
    assert tiny.states(database) == {"finished": 4}
    trials = storage.get_all_trials(study.optuna_study_id)
    assert TrialState.RUNNING not in {trial.state for trial in trials}
    for trial in trials:
        assert trial.value == tiny.value_of(Configuration(trial.params))


UNION = [
    {"kernel": ["rbf"], "gamma": [0.5, 2], "c": [1, 1.0, True]},
    {"kernel": ["linear", "rbf"], "c": [1, "1"]},
    {"c": ["1"], "kernel": ["linear"]},
]


@pytest.mark.parametrize(
    ("sampler", "database_url"),
    [("grid", "sqlite"), ("tpe", "postgresql"), ("random", "sqlite"), ("gp", "sqlite")],
    indirect=["database_url"],
)
def test_of_a_union_of_grids_each_point_is_trained_once_with_the_parameters_that_it_has(
    database: Database, storage: RDBStorage, make_worker, sampler: str
) -> None:
    study = create_study(database, tiny.anything(sampler=sampler, grid=UNION)).study
    objective = tiny.Answering(lambda point: tiny.outcome_of(*[[[len(point.key) / 9] * 2] * 2] * 3))
    assert make_worker(objective, study).run() == Tally(finished=10)
    points = {point.key: point for point in study.definition.grid.configurations()}
    assert objective.asked == dict.fromkeys(points, 1)
    space = Space(study.choices)
    trained = [
        trial for trial in storage.get_all_trials(study.optuna_study_id) if trial.state == TrialState.COMPLETE
    ]
    assert {trial.user_attrs["configuration"] for trial in trained} == set(points)
    for trial in trained:
        point = points[trial.user_attrs["configuration"]]
        assert Configuration(space.values(trial.params)) == point
        assert trial.params.keys() == point.params.keys()


@pytest.mark.parametrize("held", [False, True])
def test_a_configuration_that_is_proposed_again_is_not_trained_twice(
    database: Database, storage: RDBStorage, make_study, make_worker, held: bool
) -> None:
    study = make_study(sampler="random", grid=SMALL | {"batch_size": [10], "learning_rate": [1e-3]})
    ledger = Ledger(database, study)
    if held:
        assert ledger.claim("bob") is not None
    else:
        make_worker(tiny.Answering(), study).run()
    before = storage.get_all_trials(study.optuna_study_id)
    adviser = Adviser(database, study)
    configurations = study.definition.grid.configurations()
    assert [adviser.propose() for _ in range(3)] == [*configurations] * 3
    assert ledger.claim("ann", key=configurations[0].key) is None
    assert storage.get_all_trials(study.optuna_study_id) == before


@ON_SQLITE
def test_a_sampler_knows_what_others_have_found_and_train(
    database: Database, make_study, make_worker, digits_source: Source
) -> None:
    study = make_study(sampler="tpe")
    adviser = Adviser(database, study)
    make_worker(tiny.Answering(), study).run(3)
    assert Ledger(database, study).claim("bob") is not None
    adviser.propose()
    trials = adviser.memory.trials()
    assert Counter(trial.state for trial in trials)[TrialState.RUNNING] == 1
    values = {trial.value for trial in trials if trial.state == TrialState.COMPLETE}
    stored = {value for (value,) in tiny.rows(database, "configurations", "value", "where value is not null")}
    assert values == stored
    grown = tiny.loaded(
        source=digits_source, sampler="tpe", grid=tiny.RAW["grid"] | {"batch_size": [1, 10, 25]}
    )
    create_study(database, grown)
    proposed = [adviser.propose() for _ in range(40)]
    assert 1 in {configuration.params["batch_size"] for configuration in proposed}


@pytest.mark.parametrize(
    ("sampler", "database_url"), [("tpe", "postgresql"), ("random", "sqlite")], indirect=["database_url"]
)
def test_a_sampler_respects_the_limit(database: Database, make_study, make_worker, sampler: str) -> None:
    study = make_study(sampler=sampler)
    objective = tiny.Answering()
    assert make_worker(objective, study, limit=3).run() == Tally(finished=3)
    assert set(objective.asked) == {c.key for c in layout_order(study.definition)[:3]}


@ON_POSTGRESQL
def test_the_median_pruner_stops_what_is_worse_than_its_fellows(
    database: Database, storage: RDBStorage, make_study, make_worker
) -> None:
    study = make_study(pruner="median", epochs=4)
    # Optuna's median pruner lets five trials pass before it judges.
    poor = set(layout_order(study.definition)[5:])

    def answer(configuration: Configuration) -> Outcome:
        outcome = tiny.outcome(configuration, epochs=4)
        return worse(outcome, 100.0) if configuration in poor else outcome

    assert make_worker(tiny.Answering(answer), study).run() == Tally(finished=8)
    assert tiny.states(database) == {"finished": 5, "pruned": 3}
    pruned = storage.get_all_trials(study.optuna_study_id, states=(TrialState.PRUNED,))
    assert {trial.user_attrs["configuration"] for trial in pruned} == {c.key for c in poor}
    for trial in pruned:
        assert list(trial.intermediate_values) == [1]
        assert "pruned after epoch 1" in trial.user_attrs["folds"]["reason"]


@ON_SQLITE
def test_hyperband_ends_with_every_configuration_covered(
    database: Database, storage: RDBStorage, make_study, make_worker
) -> None:
    study = make_study(pruner="hyperband", epochs=9)

    def answer(configuration: Configuration) -> Outcome:
        return tiny.outcome(configuration, epochs=9)

    objective = tiny.Answering(answer)
    assert make_worker(objective, study).run() == Tally(finished=8)
    assert set(objective.asked.values()) == {1}
    states = Counter(trial.state for trial in storage.get_all_trials(study.optuna_study_id))
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == 8
    assert sum(states.values()) == 8
    assert set(tiny.states(database)) <= {"finished", "pruned"}


@pytest.mark.parametrize(
    ("lost", "database_url"), [("before", "sqlite"), ("after", "postgresql")], indirect=["database_url"]
)
def test_a_trial_whose_claim_the_database_did_not_answer_is_not_left_running(
    database: Database, storage: RDBStorage, make_study, make_worker, lost: str
) -> None:
    class Faltering(Ledger):
        failures = 2

        def claim(self, worker: str, **options: Any) -> Claim | None:
            fails = self.failures > 0
            self.failures -= 1
            if fails and lost == "before":
                raise DatabaseAwayError("gone for a moment")
            claim = super().claim(worker, **options)
            if fails:
                raise DatabaseAwayError("gone before it answered")
            return claim

    study = make_study(sampler="random")
    ledger = Faltering(database, study, view=open_view(database, study))
    worker = make_worker(tiny.Answering(), study, ledger=ledger, patience=30.0)
    assert worker.run() == Tally(finished=8)
    assert ledger.failures < 0
    states = {trial.state for trial in storage.get_all_trials(study.optuna_study_id)}
    assert TrialState.RUNNING not in states
