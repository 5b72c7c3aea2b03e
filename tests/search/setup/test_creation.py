"""Creating studies: once, however many ask; extended by new values; refused where results would not belong."""

from __future__ import annotations

import dataclasses

import optuna
import pytest
import tiny
from availability import needed
from optuna.storages import RDBStorage
from sqlalchemy import text

from pairsearch.data.sources import Source
from pairsearch.search.common.errors import StorageError, StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy, find_study, get_study, list_studies
from pairsearch.search.mirror.trials import open_view
from pairsearch.search.results.ranking import read_best
from pairsearch.search.sampling.space import Space
from pairsearch.search.setup import opening
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.worker import Tally
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.errors import DefinitionError, ProblemError
from pairsearch.studies.seeds import layout_order

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

GRID = tiny.RAW["grid"]


def test_creating_again_changes_nothing(
    database: Database, storage: RDBStorage, study: StoredStudy, digits_source: Source
) -> None:
    before = tiny.rows(database, "configurations", rest="order by id")
    again = create_study(database, tiny.loaded(source=digits_source))
    assert (again.created, again.inserted, again.study) == (False, 0, study)
    assert tiny.rows(database, "configurations", rest="order by id") == before
    assert storage.get_all_studies()[0].study_name == "tiny"


def test_a_study_that_was_half_created_is_completed(
    database: Database, storage: RDBStorage, digits_source: Source
) -> None:
    """The process died between Optuna's study and ours."""
    storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "tiny")
    made = create_study(database, tiny.loaded(source=digits_source))
    assert (made.created, made.inserted) == (True, 8)
    assert len(storage.get_all_studies()) == 1


def test_somebody_else_s_optuna_study_is_left_alone(
    database: Database, storage: RDBStorage, digits_source: Source
) -> None:
    theirs = optuna.create_study(study_name="tiny", storage=storage)
    theirs.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(StudyError, match="that pairsearch did not make"):
        create_study(database, tiny.loaded(source=digits_source))
    assert find_study(database, "tiny") is None
    assert len(theirs.trials) == 1


def test_tables_of_another_optuna_are_refused(database: Database, study: StoredStudy) -> None:
    with database.write() as connection:
        connection.execute(text("update alembic_version set version_num = 'v3.0.0.a'"))
    with pytest.raises(
        StorageError, match=r"has Optuna tables of version v3.0.0.a, where Optuna \S+ has \S+: install"
    ):
        open_view(database, study)


# Trials that Optuna adds to PostgreSQL by itself: tests/search/mirror/test_mirror.py.
@pytest.mark.usefixtures("either_optuna")
@pytest.mark.parametrize(
    ("either_optuna", "database_url"),
    [("known Optuna", "sqlite"), ("known Optuna", "postgresql"), ("later Optuna", "sqlite")],
    indirect=True,
)
def test_a_larger_grid_lays_out_only_its_new_points_and_old_trials_stay_readable(
    database: Database, storage: RDBStorage, make_study, digits_source: Source, make_worker
) -> None:
    study = make_study(name="mine")
    make_worker(tiny.Answering(), study).run()
    before = tiny.rows(database, "configurations", rest="order by id")
    larger = tiny.definition(
        name="mine", grid=GRID | {"batch_size": [1, 10, 25], "weight_decay": [0.0, 0.01, 0.1]}
    )
    made = create_study(database, tiny.loaded(larger, digits_source))
    assert (made.created, made.inserted) == (False, 18 - 8)
    assert tiny.rows(database, "configurations", rest="order by id limit 8") == before

    objective = tiny.Answering()
    assert make_worker(objective, made.study).run() == Tally(finished=10)
    assert set(objective.asked) == {c.key for c in layout_order(larger)} - {row[2] for row in before}

    loaded = optuna.load_study(study_name="mine", storage=storage)
    assert len(loaded.trials) == 18
    assert loaded.best_value == min(tiny.value_of(c) for c in layout_order(larger))
    for trial in loaded.trials:
        assert trial.user_attrs["configuration"] == Configuration(trial.params).key
    best = read_best(database, made.study, 1)[0]
    assert best.params == loaded.best_params


@ON_SQLITE
def test_a_larger_grid_leaves_other_studies_as_they_are(
    database: Database,
    storage: RDBStorage,
    study: StoredStudy,
    make_study,
    make_worker,
    digits_source: Source,
) -> None:
    other = make_study(name="other")
    make_worker(tiny.Answering(), other).run()

    def contents() -> list[object]:
        rows = tiny.rows(database, "studies", rest="where name = 'other'")
        configurations = tiny.rows(
            database, "configurations", rest=f"where study_id = {other.id} order by id"
        )
        storage.remove_session()
        trials = storage.get_all_trials(other.optuna_study_id)
        notes = storage.get_study_system_attrs(other.optuna_study_id)
        return [rows, configurations, trials, notes]

    before = contents()
    create_study(database, tiny.loaded(source=digits_source, grid=GRID | {"batch_size": [1, 10, 25]}))
    assert contents() == before
    grown = find_study(database, "tiny")
    assert grown is not None
    assert len(grown.definition.grid) == 12


@ON_SQLITE
@pytest.mark.usefixtures("either_optuna")
def test_trials_are_read_by_optuna_s_own_tools(storage: RDBStorage, make_study, make_worker) -> None:
    needed("pandas")
    study = make_study(name="mine")
    make_worker(tiny.Answering(), study).run(max_trials=3)
    loaded = optuna.load_study(study_name="mine", storage=storage)
    frame = loaded.trials_dataframe()
    assert list(frame["state"]) == ["COMPLETE"] * 3
    assert set(frame["params_batch_size"]) <= {10, 25}
    assert frame["user_attrs_configuration"].is_unique
    assert set(optuna.importance.get_param_importances(loaded)) <= set(study.definition.grid.choices)
    best, *_ = loaded.best_trials
    history, contour = (
        plot(loaded)
        for plot in (
            optuna.visualization.plot_optimization_history,
            optuna.visualization.plot_intermediate_values,
        )
    )
    assert list(history.data[0].y) == [trial.value for trial in loaded.trials]
    assert [len(line.y) for line in contour.data] == [2, 2, 2]
    assert best.value == min(trial.value for trial in loaded.trials)


@ON_SQLITE
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, "epochs is 2 there and 3 here"),
        ({"seed": 8}, "seed is 7 there and 8 here"),
        (
            {"protocol": "kfold", "validation_size": None},
            "settings.protocol is None there and 'kfold' here; settings.validation_size is 5 there and None here",
        ),
        ({"sample_size": 30}, "settings.sample_size is 20 there and 30 here"),
        ({"metric": "val_error"}, "metric is 'val_loss' there and 'val_error' here"),
        ({"evaluation": {"rounds": 2, "epochs": 9}}, "evaluation.epochs is 2 there and 9 here"),
        ({"grid": GRID | {"batch_size": [10]}}, "grid.batch_size no longer has 25"),
    ],
)
def test_what_would_change_results_is_refused_with_the_field_named(
    database: Database,
    storage: RDBStorage,
    study: StoredStudy,
    digits_source: Source,
    changes: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(StudyError, match=message):
        create_study(database, tiny.loaded(source=digits_source, **changes))
    assert find_study(database, "tiny") == study


def test_what_does_not_change_results_is_kept_as_the_latest_definition(
    database: Database, storage: RDBStorage, study: StoredStudy, digits_source: Source
) -> None:
    changed = tiny.definition(title="Another title", sampler="random")
    made = create_study(database, tiny.loaded(changed, digits_source))
    assert (made.inserted, made.study.definition) == (0, changed)
    assert made.study.id == study.id


@ON_SQLITE
def test_other_data_are_refused_with_both_named(
    database: Database, storage: RDBStorage, study: StoredStudy, digits_source: Source
) -> None:
    fewer = tiny.without_an_image(digits_source)
    other = tiny.loaded(source=fewer)
    with pytest.raises(StudyError, match=f"{digits_source.fingerprint[:12]} .* {fewer.fingerprint[:12]}"):
        create_study(database, other)
    with pytest.raises(StudyError, match="its data are"):
        opening.existing(database, other)


@ON_SQLITE
def test_another_version_of_the_problem_is_refused(
    database: Database, storage: RDBStorage, study: StoredStudy, digits_source: Source
) -> None:
    loaded = tiny.loaded(source=digits_source)
    other = dataclasses.replace(loaded, traits=dataclasses.replace(loaded.traits, version=99))
    with pytest.raises(StudyError, match=r"its problem's version is \d+, that of the problem here 99"):
        create_study(database, other)


@ON_SQLITE
def test_a_setting_of_another_type_is_another_setting(database: Database, storage: RDBStorage) -> None:
    grid = {"x": [1]}
    create_study(database, tiny.anything(grid=grid, settings={"a": 1, "b": {"c": 1, "d": 2}}))
    for other, message in (
        ({"a": 1.0, "b": {"c": 1, "d": 2}}, "settings.a is 1 there and 1.0 here"),
        (
            {"a": 1, "b": {"c": True, "d": 2}},
            "settings.b is {'c': 1, 'd': 2} there and {'c': True, 'd': 2} here",
        ),
    ):
        with pytest.raises(StudyError, match=message):
            create_study(database, tiny.anything(grid=grid, settings=other))
    again = create_study(database, tiny.anything(grid=grid, settings={"b": {"d": 2, "c": 1}, "a": 1}))
    assert (again.created, again.inserted) == (False, 0)


@ON_SQLITE
def test_a_metric_that_is_better_the_other_way_round_is_refused(
    database: Database, storage: RDBStorage, study: StoredStudy, digits_source: Source
) -> None:
    turned = tiny.loaded(source=digits_source, metrics={"val_loss": {"maximise": True}})
    with pytest.raises(StudyError, match="val_loss is minimised there"):
        create_study(database, turned)


@ON_SQLITE
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"architecture": "b9"}, DefinitionError, "b9"),
        ({"optimiser": "adamant"}, DefinitionError, "adamant"),
        ({"architecture": "ws"}, DefinitionError, "grid.hidden_units: architecture 'ws' needs it"),
        (
            {"grid": GRID | {"hidden_units": [5]}},
            DefinitionError,
            "grid.hidden_units: neither architecture 'b1' nor optimiser 'adam' takes it",
        ),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(
    database: Database,
    storage: RDBStorage,
    digits_source: Source,
    changes: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        create_study(database, tiny.loaded(source=digits_source, **changes))
    assert list_studies(database) == []
    assert storage.get_all_studies() == []


@ON_SQLITE
def test_more_pairs_than_images_leave_nothing_behind(
    database: Database, storage: RDBStorage, mnist_source: Source
) -> None:
    for changes, message in (({"sample_size": 40_000}, "sample_size"), ({"test_pairs": 6_000}, "test_pairs")):
        with pytest.raises(ProblemError, match=f"^study tiny: .*lower {message}"):
            create_study(database, tiny.loaded(source=mnist_source, **changes))
    assert list_studies(database) == []
    assert storage.get_all_studies() == []


def test_the_paper_s_configuration_comes_first_and_the_others_in_an_order_of_the_seed() -> None:
    with_paper = tiny.definition(paper=tiny.PAPER)
    order = layout_order(with_paper)
    assert with_paper.paper is not None
    assert order[0] == with_paper.paper.configuration
    assert (len(order), set(order)) == (8, set(with_paper.grid.configurations()))
    assert layout_order(with_paper) == order
    assert layout_order(tiny.definition(paper=tiny.PAPER, seed=8)) != order


ONE = {"kernel": ["rbf"], "gamma": [1, 2]}


@ON_SQLITE
@pytest.mark.parametrize(
    ("before", "after", "added"),
    [
        (ONE, [ONE, {"kernel": ["linear"]}], 1),
        ([ONE, {"kernel": ["linear"]}], [{"kernel": ["linear"]}, ONE | {"gamma": [1, 2, 3]}], 1),
        ([ONE, {"kernel": ["rbf"], "gamma": [3]}], ONE | {"gamma": [1, 2, 3]}, 0),
        (ONE, ONE | {"gamma": [1, 1.0, True, 2]}, 2),
        (ONE, [ONE, {"gamma": [2, "2"], "kernel": ["rbf"]}], 1),
    ],
)
def test_a_union_of_grids_grows_by_its_new_points(
    database: Database, storage: RDBStorage, make_worker, before: object, after: object, added: int
) -> None:
    small, larger = tiny.anything(grid=before), tiny.anything(grid=after)

    def answer(_: Configuration) -> Outcome:
        return tiny.outcome_of(*[[[0.5, 0.25]] * 2] * 3)

    study = create_study(database, small).study
    make_worker(tiny.Answering(answer), study).run()
    made = create_study(database, larger)
    assert (made.inserted, made.study.definition) == (added, larger.definition)
    assert make_worker(tiny.Answering(answer), made.study).run() == Tally(finished=added)
    storage.remove_session()
    points = {point.key: point for point in larger.definition.grid.configurations()}
    trials = storage.get_all_trials(made.study.optuna_study_id)
    assert {trial.user_attrs["configuration"] for trial in trials} == set(points)
    space = Space(made.study.choices)
    for trial in trials:
        assert Configuration(space.values(trial.params)) == points[trial.user_attrs["configuration"]]


@ON_SQLITE
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([ONE, {"kernel": ["linear"]}], ONE, r"grid.kernel no longer has linear \(a grid only grows\)"),
        (
            [ONE, {"kernel": ["rbf"]}],
            ONE,
            r"grid no longer has 1 points, for example kernel rbf \(a grid only",
        ),
        (
            {"kernel": ["rbf", "linear"], "gamma": [1, 2]},
            [ONE, {"kernel": ["linear"], "gamma": [1]}],
            "grid no longer has 1 points, for example kernel linear, gamma 2",
        ),
        (
            ONE,
            [{"kernel": ["rbf"]}, {"gamma": [1, 2]}],
            "grid no longer has 2 points, for example kernel rbf, gamma",
        ),
        (ONE, ONE | {"gamma": [1.0, 2]}, "grid.gamma no longer has 1"),
    ],
)
def test_a_union_of_grids_that_lost_a_point_is_refused(
    database: Database, storage: RDBStorage, before: object, after: object, message: str
) -> None:
    study = create_study(database, tiny.anything(grid=before)).study
    with pytest.raises(StudyError, match=f"^study tiny in the database differs: {message}"):
        create_study(database, tiny.anything(grid=after))
    assert get_study(database, "tiny") == study


@pytest.mark.parametrize(
    ("sampler", "database_url"), [("grid", "sqlite"), ("random", "postgresql")], indirect=["database_url"]
)
def test_a_grid_may_grow_while_a_worker_is_at_work(
    database: Database, storage: RDBStorage, make_study, make_worker, digits_source: Source, sampler: str
) -> None:
    """It takes the new points too, and all trials agree on the choices, as Optuna wants it."""
    worker = make_worker(tiny.Answering(), make_study(sampler=sampler))
    worker.run(max_trials=2)
    larger = tiny.definition(sampler=sampler, grid=GRID | {"learning_rate": [1e-4, 1e-3, 1e-2]})
    assert create_study(database, tiny.loaded(larger, digits_source)).inserted == 4
    assert worker.run() == Tally(finished=12)
    trials = storage.get_all_trials(worker.study.optuna_study_id)
    assert len({repr(trial.distributions["learning_rate"]) for trial in trials}) == 1
    assert {trial.params["learning_rate"] for trial in trials} == {1e-4, 1e-3, 1e-2}
