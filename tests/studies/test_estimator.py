"""Estimators of scikit-learn's score as in GridSearchCV, to the last bit, and what is wrong is refused in one line."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    train_test_split,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from pairsearch.search.common.machine import ONE_CORE
from pairsearch.search.database.connection import open_database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.evaluating import Evaluator
from pairsearch.search.workers.models import ModelFolder
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.recorder import train
from pairsearch.studies import loading
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import parse, read, shipped
from pairsearch.studies.errors import DefinitionError, ProblemError
from pairsearch.studies.estimator.problem import Estimator
from pairsearch.studies.loading import Loaded, check_trainable
from pairsearch.studies.problem import Impossible, Run
from pairsearch.studies.user_modules import import_file

SVM = "sklearn.svm.SVC"
TREE = "sklearn.tree.DecisionTreeClassifier"
RIDGE = "sklearn.linear_model.Ridge"


def load(folder: Path | None = None, settings: Mapping[str, Any] | None = None, **fields: Any) -> Loaded:
    """A study of five folds over scikit-learn's wines, with some settings and fields replaced."""
    raw = {
        "name": "tiny",
        "problem": "estimator",
        "metric": "accuracy",
        "folds": 5,
        "seed": 3,
        "settings": {"estimator": SVM, "data": "wine", "final_share": 0.0, **(settings or {})},
        "grid": {"C": [0.1, 1.0]},
        **fields,
    }
    return loading.load(parse(raw, "tiny"), folder)


def problem_of(loaded: Loaded) -> Estimator:
    """The problem of a study."""
    assert isinstance(loaded.problem, Estimator)
    return loaded.problem


def scores(loaded: Loaded, figure: str) -> list[list[float]]:
    """The search's value of a figure for each configuration and fold."""
    search = CrossValidation(loaded)
    found = []
    for point in loaded.definition.grid.configurations():
        outcome = search(point)
        assert outcome is not None
        assert outcome.state == State.FINISHED, outcome.reason
        found.append([fold.curves[figure][-1] for fold in outcome.folds])
    return found


def others_scores(
    estimator: Any, loaded: Loaded, cv: Any, X: Any, y: Any, groups: Any = None, scoring: Any = None
) -> dict[str, list[list[float]]]:
    """GridSearchCV's scores by scorer, for each configuration and fold."""
    tables = loaded.definition.grid.root
    names = scoring or loaded.definition.metric
    search = GridSearchCV(
        estimator,
        [{name: list(values) for name, values in table.root.items()} for table in tables],
        cv=cv,
        scoring=names,
        refit=False,
        return_train_score=True,
        error_score="raise",
    ).fit(X, y, groups=groups)
    found = {}
    points = [Configuration(params).key for params in search.cv_results_["params"]]
    order = [points.index(point.key) for point in loaded.definition.grid.configurations()]
    assert len(order) == len(points)
    for name in scoring or ["score"]:
        for part in ("train", "test"):
            columns = [
                search.cv_results_[f"split{fold}_{part}_{name}"] for fold in range(loaded.definition.folds)
            ]
            by_point = np.column_stack(columns).tolist()
            found[name if part == "test" else f"train_{name}"] = [by_point[place] for place in order]
    return found


@pytest.mark.parametrize(
    ("settings", "cv"),
    [
        ({}, 5),
        ({"splitter": "KFold", "shuffle": True}, KFold(5, shuffle=True, random_state=3)),
        ({"splitter": "StratifiedKFold"}, StratifiedKFold(5)),
        ({"shuffle": True}, StratifiedKFold(5, shuffle=True, random_state=3)),
        ({"splitter": "ShuffleSplit", "test_size": 0.3}, ShuffleSplit(5, test_size=0.3, random_state=3)),
        (
            {"splitter": "StratifiedShuffleSplit", "test_size": 0.25},
            StratifiedShuffleSplit(5, test_size=0.25, random_state=3),
        ),
    ],
    ids=lambda given: str(given) if isinstance(given, dict) else "",
)
def test_folds_are_those_of_gridsearchcv_to_the_last_bit(settings: dict[str, Any], cv: Any) -> None:
    loaded = load(settings=settings)
    assert (
        scores(loaded, "accuracy") == others_scores(SVC(), loaded, cv, *load_wine(return_X_y=True))["score"]
    )


@pytest.mark.parametrize(
    ("splitter", "kind"),
    [("RepeatedKFold", RepeatedKFold), ("RepeatedStratifiedKFold", RepeatedStratifiedKFold)],
)
def test_repeated_folds_share_the_number_of_folds(splitter: str, kind: Any) -> None:
    loaded = load(settings={"splitter": splitter, "repeats": 2}, folds=6)
    cv = kind(n_splits=3, n_repeats=2, random_state=3)
    assert (
        scores(loaded, "accuracy") == others_scores(SVC(), loaded, cv, *load_wine(return_X_y=True))["score"]
    )
    assert loaded.traits.overlap == 1 / 2


def test_a_regressor_is_split_and_scored_as_one() -> None:
    grid = {"alpha": [0.1, 1.0, 10.0]}
    loaded = load(
        settings={"estimator": RIDGE, "data": "diabetes"}, metric="neg_mean_squared_error", grid=grid
    )
    theirs = others_scores(Ridge(), loaded, 5, *load_diabetes(return_X_y=True))["score"]
    assert scores(loaded, "neg_mean_squared_error") == theirs
    assert problem_of(loaded).splitter_name == "KFold"
    assert loaded.traits.overlap == 1 / 4
    assert loaded.traits.metrics["neg_mean_squared_error"].maximise


def test_a_pipeline_two_scorers_and_training_scores() -> None:
    settings = {
        "estimator": [
            ["scale", "sklearn.preprocessing.StandardScaler"],
            ["classify", "sklearn.linear_model.LogisticRegression"],
        ],
        "arguments": {"classify__max_iter": 200},
        "scoring": ["accuracy", "neg_log_loss"],
        "train_scores": True,
        "data": "breast_cancer",
    }
    loaded = load(
        settings=settings,
        metric="neg_log_loss",
        grid={"classify__C": [0.1, 1.0], "scale__with_mean": [True, False]},
    )
    estimator = Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression(max_iter=200))])
    X, y = load_breast_cancer(return_X_y=True)
    theirs = others_scores(estimator, loaded, 5, X, y, scoring=["accuracy", "neg_log_loss"])
    assert {name: scores(loaded, name) for name in loaded.traits.metrics} == theirs
    assert [name for name, metric in loaded.traits.metrics.items() if metric.training] == [
        "train_accuracy",
        "train_neg_log_loss",
    ]


def test_steps_are_named_and_chosen_as_scikit_learn_does() -> None:
    settings = {"estimator": ["sklearn.preprocessing.StandardScaler", SVM], "data": "iris"}
    grid = [
        {"standardscaler": ["passthrough", "sklearn.preprocessing.MinMaxScaler"], "svc__C": [0.1, 1.0]},
        {"svc": [TREE], "svc__max_depth": [1, 2], "svc__random_state": [0]},
    ]
    loaded = load(settings=settings, grid=grid)
    check_trainable(loaded)
    X, y = load_iris(return_X_y=True)
    theirs = []
    for first, last in (
        ("passthrough", SVC(C=0.1)),
        ("passthrough", SVC(C=1.0)),
        (MinMaxScaler(), SVC(C=0.1)),
        (MinMaxScaler(), SVC(C=1.0)),
        (StandardScaler(), DecisionTreeClassifier(max_depth=1, random_state=0)),
        (StandardScaler(), DecisionTreeClassifier(max_depth=2, random_state=0)),
    ):
        pipeline = make_pipeline(first, last)
        theirs += others_scores(pipeline, load(grid={"verbose": [False]}), 5, X, y)["score"]
    assert scores(loaded, "accuracy") == theirs
    described = [
        problem_of(loaded).describe(point.params)["estimator"]
        for point in loaded.definition.grid.configurations()
    ]
    assert (
        described == ["SVC"] * 2 + ["MinMaxScaler, SVC"] * 2 + ["StandardScaler, DecisionTreeClassifier"] * 2
    )


def frame() -> pd.DataFrame:
    """The visits of sixty patients, in random order."""
    random = np.random.default_rng(0)
    size = random.normal(size=60)
    return pd.DataFrame(
        {
            "size": size,
            "visits": random.integers(0, 9, 60),
            "smokes": random.integers(0, 2, 60).astype(bool),
            "patient": [f"p{number}" for number in random.integers(0, 15, 60)],
            "ill": np.where(size + random.normal(size=60) > 0, "yes", "no"),
        }
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
@pytest.mark.parametrize(
    ("splitter", "kind", "more"),
    [
        ("GroupKFold", GroupKFold(5), {}),
        ("StratifiedGroupKFold", StratifiedGroupKFold(5, shuffle=True, random_state=3), {"shuffle": True}),
        ("GroupShuffleSplit", GroupShuffleSplit(5, test_size=0.2, random_state=3), {"test_size": 0.2}),
    ],
)
def test_files_and_groups(
    tmp_path: Path, suffix: str, splitter: str, kind: Any, more: dict[str, Any]
) -> None:
    table = frame()
    X = table[["size", "visits", "smokes"]].to_numpy(dtype=float)
    y, groups = table["ill"].to_numpy(dtype=str), table["patient"].to_numpy(dtype=str)
    file = tmp_path / f"visits.{suffix}"
    if suffix == "csv":
        table.to_csv(file, index=False)
    elif suffix == "parquet":
        table.sample(frac=1, random_state=0).sort_index().to_parquet(
            file
        )  # with the column of row numbers that pandas adds
    else:
        np.savez(file, X=X, ill=y, patient=groups)
    settings = {"data": file.name, "target": "ill", "groups": "patient", "splitter": splitter, **more}
    loaded = load(tmp_path, settings)
    assert scores(loaded, "accuracy") == others_scores(SVC(), loaded, kind, X, y, groups)["score"]


def test_a_column_of_texts_alone_and_missing_values_among_others(tmp_path: Path) -> None:
    table = pd.DataFrame({"words": ["good day", "bad day", "good", "bad"] * 10, "liked": [1, 0, 1, 0] * 10})
    table.to_csv(tmp_path / "words.csv", index=False)
    steps = ["sklearn.feature_extraction.text.CountVectorizer", SVM]
    loaded = load(
        tmp_path,
        {"estimator": steps, "data": "words.csv", "target": "liked", "features": "words"},
        grid={"svc__C": [1.0]},
    )
    assert scores(loaded, "accuracy") == [[1.0] * 5]
    (tmp_path / "holes.csv").write_text("colour,weight,n\nred,1.5,0\n,,1\nNA,2,0\n")
    examples = problem_of(load(tmp_path, {"data": "holes.csv", "target": "n"})).examples
    assert examples.X[:, 0].tolist() == ["red", None, None]
    assert np.array_equal(examples.X[:, 1].astype(float), [1.5, np.nan, 2.0], equal_nan=True)
    assert examples.columns == ("colour", "weight")


def test_a_user_s_estimator_comes_from_a_file_beside_the_definition(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sklearn.compose import ColumnTransformer\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "from sklearn.svm import SVC\n"
        "def made():\n"
        "    return make_pipeline(ColumnTransformer([('some', StandardScaler(), [0, 1])]), SVC())\n"
        "instance = made()\n"
        "class Mine(SVC):\n"
        "    pass\n"
        "def nothing():\n"
        "    return 3\n"
    )
    grid = {"svc__C": [1.0]}
    X, y = load_wine(return_X_y=True)
    theirs = others_scores(make_pipeline(StandardScaler(), SVC()), load(grid=grid), 5, X[:, :2], y)["score"]
    for name in ("made", "instance"):
        loaded = load(tmp_path, {"estimator": f"mine.py:{name}"}, grid=grid)
        assert scores(loaded, "accuracy") == theirs
        assert list(loaded.traits.files) == ["mine.py"]
    assert scores(load(tmp_path, {"estimator": "mine.py:Mine"}), "accuracy") == scores(load(), "accuracy")
    with pytest.raises(ProblemError, match=r"mine\.py:nothing: expected an estimator.*got int$"):
        load(tmp_path, {"estimator": "mine.py:nothing"})


def test_the_data_of_the_search_and_of_the_rounds() -> None:
    X, y = load_digits(return_X_y=True)
    settings = {"data": "digits", "final_share": 0.25, "final_parts": 4, "shuffle": True}
    loaded = load(settings=settings, grid={"C": [1.0]}, folds=3)
    problem = problem_of(loaded)
    searched, kept, targets, kept_targets = train_test_split(X, y, test_size=0.25, stratify=y, random_state=3)
    cv = StratifiedKFold(3, shuffle=True, random_state=3)
    assert scores(loaded, "accuracy") == others_scores(SVC(), loaded, cv, searched, targets)["score"]
    search, parts = problem.parts(3)
    assert sorted(np.concatenate([search, *parts]).tolist()) == list(range(len(X)))
    rounds = [Run("round", index, 4, 1, 3) for index in range(4)]
    trained = train(loaded, {"C": 1.0}, rounds, lambda _: True)
    model = SVC(C=1.0).fit(searched, targets)
    found = [result.curves["accuracy"][-1] for result in trained.runs]
    assert found == [model.score(X[part], y[part]) for part in parts]
    # For scores that are means over examples, the mean over the parts is that of the whole.
    whole = model.score(kept, kept_targets)
    assert np.average(found, weights=[len(part) for part in parts]) == pytest.approx(whole, abs=1e-12)
    with pytest.raises(ValueError, match=r"^evaluation.rounds: expected at most 4, .*final_parts.*, got 5$"):
        train(loaded, {"C": 1.0}, [Run("round", 4, 5, 1, 3)], lambda _: True)
    with pytest.raises(ValueError, match="0 keeps no data for a final evaluation"):
        train(load(), {"C": 1.0}, [replace(rounds[0], count=1)], lambda _: True)


def test_data_that_the_definition_leaves_out_lie_where_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    frame().to_csv(tmp_path / "here" / "visits.csv", index=False)
    monkeypatch.chdir(tmp_path / "here")
    raw = {"name": "tiny", "problem": "estimator", "metric": "accuracy", "grid": {"C": [1.0]}}
    settings = {"estimator": SVM, "target": "ill", "features": ["size", "visits"]}
    definition = parse(raw | {"settings": settings}, "tiny")
    first = loading.load(definition, tmp_path, {"data": "visits.csv"})
    assert first.traits.remember == {"data": str(tmp_path / "here" / "visits.csv")}
    monkeypatch.chdir(tmp_path)
    # A worker that was given the study's name loads it like this.
    again = loading.load(definition, None, remembered=first.traits.remember)
    assert again.traits == first.traits
    assert "data" not in load().traits.remember


def test_examples_of_a_group_stay_together(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "visits.csv", index=False)
    settings = {"data": "visits.csv", "target": "ill", "groups": "patient", "splitter": "GroupKFold"}
    problem = problem_of(load(tmp_path, {**settings, "final_share": 0.3, "final_parts": 3}))
    search, parts = problem.parts(3)
    groups = problem.examples.groups
    assert groups is not None
    seen = [set(groups[rows]) for rows in (search, *parts)]
    assert sum(map(len, seen)) == len(set(groups)) == len(set.union(*seen))


def test_states_that_nobody_set_are_given_by_the_run() -> None:
    forest = {"estimator": "sklearn.ensemble.RandomForestClassifier", "arguments": {"n_estimators": 3}}
    grid = {"max_depth": [2, 3]}
    one, other = (load(settings=forest, grid=grid, seed=seed, folds=2) for seed in (0, 1))
    assert scores(one, "accuracy") == scores(one, "accuracy")
    assert scores(one, "accuracy") != scores(other, "accuracy")
    fixed = {**forest, "arguments": {"n_estimators": 3, "random_state": 0}}
    same = [scores(load(settings=fixed, grid=grid, seed=seed, folds=2), "accuracy") for seed in (0, 1)]
    assert same[0] == same[1]


def test_warnings_neither_end_a_run_nor_flood(caplog: pytest.LogCaptureFixture) -> None:
    settings = {"estimator": "sklearn.linear_model.LogisticRegression", "arguments": {"max_iter": 1}}
    loaded = load(settings=settings)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        found = scores(loaded, "accuracy")
    assert np.isfinite(found).all()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["ConvergenceWarning"]


def test_a_score_that_is_no_number_is_a_divergence(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", X=np.arange(6.0)[:, None], y=np.arange(6.0))
    # r2 is not defined for a single example.
    loaded = load(
        tmp_path, {"estimator": RIDGE, "data": "two.npz"}, metric="r2", folds=6, grid={"alpha": [1.0]}
    )
    outcome = CrossValidation(loaded)(Configuration({"alpha": 1.0}))
    assert outcome is not None
    assert outcome.state == State.DIVERGED


def test_an_estimator_that_fails_on_every_fold_is_impossible_and_says_why() -> None:
    settings = {"estimator": "sklearn.linear_model.LogisticRegression", "arguments": {"solver": "lbfgs"}}
    loaded = load(settings=settings, grid={"l1_ratio": [1.0], "C": [1.0]})
    with pytest.raises(Impossible, match="lbfgs"):
        CrossValidation(loaded)(loaded.definition.grid.configurations()[0])


FAILING = """
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import InvalidParameterError

fitted = 0

class Failing(LogisticRegression):
    def fit(self, X, y):
        global fitted
        fitted += 1
        if fitted in {raising}:
            raise {error}("no fit")
        return super().fit(X, y)
"""


@pytest.mark.parametrize(
    ("error", "raising", "impossible", "fits"),
    [
        ("ValueError", "{1}", False, 2),
        ("ValueError", "{1, 2, 3, 4}", False, 5),
        ("ValueError", "{1, 2, 3, 4, 5}", True, 5),
        ("InvalidParameterError", "{1}", True, 1),
        ("RuntimeError", "{1, 2, 3, 4, 5}", False, 1),
    ],
)
def test_what_one_fold_or_another_error_stops_is_not_impossible(
    tmp_path: Path, error: str, raising: str, impossible: bool, fits: int
) -> None:
    (tmp_path / "mine.py").write_text(FAILING.format(error=error, raising=raising))
    loaded = load(tmp_path, {"estimator": "mine.py:Failing"})
    with pytest.raises(Exception, match="no fit") as caught:
        CrossValidation(loaded)(loaded.definition.grid.configurations()[0])
    assert isinstance(caught.value, Impossible) == impossible
    assert import_file(tmp_path / "mine.py").fitted == fits


def test_the_fingerprint_is_of_the_data(tmp_path: Path) -> None:
    def fingerprint(table: pd.DataFrame, **settings: Any) -> str:
        table.to_csv(tmp_path / "visits.csv", index=False)
        given = {"data": "visits.csv", "target": "ill", "features": ["size", "visits"], **settings}
        return load(tmp_path, given).traits.fingerprint

    table = frame()
    first = fingerprint(table)
    assert first == fingerprint(table)
    assert first == fingerprint(table.assign(other=1))
    assert first != fingerprint(table.assign(size=table["size"] + 1e-12))
    assert first != fingerprint(table.assign(ill=table["ill"][::-1].to_list()))
    assert first != fingerprint(table.rename(columns={"size": "length"}), features=["length", "visits"])
    assert first != fingerprint(table, groups="patient", splitter="GroupKFold")
    assert fingerprint(table, features=["patient"]) != fingerprint(
        table.assign(patient="p1"), features=["patient"]
    )


def test_a_definition_from_a_database_imports_nothing_but_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('run')\nclass Evil: pass\n")
    assert scores(load(None), "accuracy") == scores(load(tmp_path), "accuracy")
    for name in (
        "evil.py:Evil",
        str(tmp_path / "evil.py:Evil"),
        "evil.Evil",
        "os.system",
        "subprocess:Popen",
        "sklearnish.SVC",
    ):
        with pytest.raises(
            ProblemError, match="is code of yours, which is not run because a database names it"
        ):
            load(None, {"estimator": name})
    for name in (
        "sklearn.os:system",
        "sklearn.datasets.fetch_openml",
        "sklearn.utils.Bunch",
        "sklearn:os.system",
    ):
        with pytest.raises(ProblemError, match=r"expected an estimator|has no|no module"):
            load(None, {"estimator": name})
    with pytest.raises(ProblemError, match="lies beside the study's definition"):
        load(None, {"data": "visits.csv", "target": "ill"})
    assert not [name for name in sys.modules if "evil" in name]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": 3}, r"settings\.estimator: expected a dotted name"),
        ({"estimator": []}, r"settings\.estimator: expected a dotted name"),
        ({"estimator": [["a", SVM], SVM]}, r"settings\.estimator: expected a dotted name"),
        ({"estimator": [["a__b", SVM]]}, r"settings\.estimator: .*a__b"),
        ({"estimator": "sklearn.svm.SVM"}, r"sklearn\.svm has no 'SVM'; it has .*SVC"),
        ({"estimator": "sklearn.svn.SVC"}, r"there is no module sklearn\.svn"),
        (
            {"estimator": "sklearn.metrics.accuracy_score"},
            "expected an estimator, with methods fit and get_params",
        ),
        (
            {"estimator": "sklearn.multiclass.OneVsRestClassifier"},
            r"cannot be made without arguments \(missing.*FILE\.py:NAME",
        ),
        ({"estimator": "gone.py:Made"}, r"there is no file .*gone\.py"),
        ({"arguments": {"gama": 1.0}}, r"settings\.arguments\.gama: SVC has none: did you mean gamma"),
        (
            {"data": "mnist"},
            r"settings\.data: expected one of scikit-learn's data sets \(breast_cancer, .*got 'mnist'",
        ),
        ({"data": "gone.csv", "target": "y"}, r"settings\.data: .*gone\.csv cannot be read \(No such file"),
        ({"data": "text.parquet", "target": "y"}, r"settings\.data: .*text\.parquet cannot be read"),
        ({"data": "text.npz"}, r"settings\.data: .*text\.npz is no \.npz file"),
        ({"data": "objects.npz"}, r"settings\.data: .*objects\.npz is no \.npz file"),
        (
            {"data": "short.npz"},
            r"short\.npz: expected as many targets as examples, got X \(3, 1\), y \(2,\)",
        ),
        ({"data": "short.npz", "target": "z"}, r"settings\.target: short\.npz holds no 'z': it has X, y"),
        ({"data": "short.npz", "features": ["X"]}, r"settings\.features: expected the name of one array"),
        ({"data": "table.csv"}, r"settings\.target: missing: name the column .*: size, when, kind"),
        (
            {"data": "table.csv", "target": "kin"},
            r"settings\.target: the table holds no 'kin': it has size, when, kind",
        ),
        (
            {"data": "table.csv", "target": "kind"},
            r"settings\.features: column when holds date32.*leave it out",
        ),
        (
            {"data": "table.csv", "target": "size", "features": ["kind"]},
            r"settings\.target: 1 of 2 examples have none",
        ),
        (
            {"data": "table.csv", "target": "size", "features": ["size"]},
            r"settings\.features: expected some of when, kind",
        ),
        ({"data": "empty.csv", "target": "a"}, r"settings\.data: .*empty\.csv holds no examples"),
        ({"target": "y"}, r"settings\.data: wine has its own features and target"),
        ({"features": []}, r"settings\.features: expected a list of columns"),
        (
            {"scoring": "acuracy"},
            r"settings\.scoring: scikit-learn has no scorer 'acuracy': did you mean .*accuracy",
        ),
        ({"scoring": ["accuracy", "accuracy"]}, r"settings\.scoring: expected distinct scorers"),
        (
            {"scoring": ["f1_macro"]},
            r"metric: problem estimator reports no 'accuracy': expected one of f1_macro",
        ),
        ({"splitter": "TimeSeries"}, r"settings\.splitter: .*'KFold'.*got 'TimeSeries'"),
        ({"splitter": "RepeatedKFold"}, r"settings\.repeats: RepeatedKFold needs it, for example 2"),
        ({"repeats": 2}, r"settings\.repeats: the splitter takes none: only RepeatedKFold"),
        ({"splitter": "ShuffleSplit"}, r"settings\.test_size: ShuffleSplit needs it, for example 0\.2"),
        ({"splitter": "ShuffleSplit", "test_size": 1.5}, r"settings\.test_size: .*less than 1.*got 1\.5"),
        ({"splitter": "GroupKFold"}, r"settings\.groups: GroupKFold needs it"),
        (
            {"groups": "patient"},
            r"settings\.groups: the splitter takes none: only GroupKFold, StratifiedGroupKFold, GroupShuffleSplit do",
        ),
        (
            {"splitter": "RepeatedKFold", "repeats": 2, "shuffle": True},
            r"settings\.shuffle: RepeatedKFold takes none",
        ),
        ({"final_share": 1.0}, r"settings\.final_share: .*less than 1"),
        ({"final_parts": 0}, r"settings\.final_parts: .*greater than or equal to 1"),
        ({"estimater": SVM}, r"settings\.estimater: unknown setting: expected one of estimator, arguments"),
        ({"place": "x"}, r"settings\.place: unknown setting"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    for name in ("text.parquet", "text.npz"):
        (tmp_path / name).write_text("no such thing")
    np.savez(tmp_path / "objects.npz", X=np.array([{}, {}], dtype=object), y=np.arange(2))
    np.savez(tmp_path / "short.npz", X=np.zeros((3, 1)), y=np.zeros(2))
    (tmp_path / "table.csv").write_text("size,when,kind\n1.5,2020-02-02,a\n,2021-02-02,b\n")
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(DefinitionError, match=message) as caught:
        load(tmp_path, settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "fields", "message"),
    [
        ({}, {"grid": {"c": [1.0]}}, r"grid\.c: SVC has none: (did you mean|expected one of) .*C"),
        (
            {},
            {"grid": {"C": [1.0, -1.0]}},
            r"The 'C' parameter of SVC must be a float .*Got -1\.0 instead.*\(C -1\)",
        ),
        ({}, {"grid": {"kernel": ["rfb"]}}, r"The 'kernel' parameter of SVC must be"),
        ({"arguments": {"C": 1.0}}, {}, r"grid\.C: fixed by settings\.arguments too"),
        (
            {"scoring": ["accuracy", "neg_log_loss"]},
            {},
            r"settings\.scoring: neg_log_loss needs predict_proba, which SVC",
        ),
        ({}, {"folds": 1}, r"folds: StratifiedKFold cannot make 1 of the 178 examples of the search"),
        (
            {},
            {"folds": 50},
            r"folds: StratifiedKFold cannot make 50 .*: class 2 has only 48: take fewer folds",
        ),
        (
            {"splitter": "RepeatedKFold", "repeats": 2},
            {},
            r"folds: RepeatedKFold cannot make 5.*multiple of repeats",
        ),
        ({"data": "diabetes", "splitter": "StratifiedKFold"}, {}, r"folds: StratifiedKFold cannot make 5"),
        (
            {"final_share": 0.01},
            {},
            r"settings\.final_share: 0\.01 of 178 examples cannot be kept in 10 parts",
        ),
        ({"final_share": 0.2, "final_parts": 9}, {}, r"evaluation\.rounds: expected at most 9, .*got 10"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_spent(
    settings: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        check_trainable(load(settings=settings, **fields))
    assert "\n" not in str(caught.value)


def test_the_shipped_study_is_gridsearchcv_s() -> None:
    definition = read(shipped()["svm-digits"])
    assert 40 <= len(definition.grid) <= 60
    loaded = loading.load(definition, None)
    check_trainable(loaded)
    X, y = load_digits(return_X_y=True)
    searched, _, targets, _ = train_test_split(X, y, test_size=0.2, stratify=y, random_state=definition.seed)
    estimator = Pipeline([("scale", StandardScaler()), ("svc", SVC())])
    cv = StratifiedKFold(3, shuffle=True, random_state=definition.seed)
    # One point of each table, and fewer folds, as all of them take minutes.
    first = [
        {name: list(values)[-1:] for name, values in table.root.items()} for table in definition.grid.root
    ]
    fewer = {"grid": first, "folds": 3}
    some = parse(definition.model_dump(mode="json", exclude_none=True) | fewer, "some")
    loaded = loading.load(some, None)
    theirs = others_scores(estimator, loaded, cv, searched, targets)
    assert scores(loaded, "accuracy") == theirs["score"]
    assert scores(loaded, "train_accuracy") == theirs["train_score"]


def test_rounds_are_evaluated_once_and_nobody_looks_for_their_models(sqlite_url: str, tmp_path: Path) -> None:
    said: list[str] = []
    folder = ModelFolder(tmp_path / "models")
    evaluator = Evaluator(ONE_CORE, say=said.append, models=folder, again=True)
    loaded = load(settings={"final_share": 0.2, "final_parts": 3}, evaluation={"rounds": 2})
    database = open_database(sqlite_url, create=True)
    study = create_study(database, loaded).study
    (point, _) = loaded.definition.grid.configurations()
    for _ in range(2):
        Ledger(database, study).insert_rounds(point, 2)
        evaluator.rounds(database, study, loaded, point, 2)
    database.close()
    assert [line.partition(": 2 rounds of C=0.1: ")[2].partition(" in ")[0] for line in said] == [
        "2 trained",
        "all stored before",
    ]
    assert not folder.path.exists()


@pytest.mark.parametrize("splitter", ["KFold", "GroupKFold"])
def test_every_part_that_is_kept_has_every_class(splitter: str, tmp_path: Path) -> None:
    # Each household has two rows, and households of one kind come first.
    households = np.arange(300) // 2
    table = pd.DataFrame(
        {"x": np.arange(300.0), "household": households, "left": (households > 74).astype(int)}
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    groups = {"groups": "household"} if splitter == "GroupKFold" else {}
    settings = {
        "estimator": TREE,
        "data": "table.csv",
        "target": "left",
        "features": ["x"],
        "splitter": splitter,
    }
    loaded = load(tmp_path, settings=settings | groups | {"final_share": 0.2}, grid={"max_depth": [2]})
    problem = problem_of(loaded)
    _, parts = problem.parts(3)
    assert len(parts) == 10
    assert all(set(problem.examples.y[part]) == {0, 1} for part in parts)
