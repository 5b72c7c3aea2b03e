"""What others trained is judged: scikit-learn's cv_results_, tables of parameters and folds, studies of Optuna's."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import programs
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import pairsearch
from pairsearch.search.common.errors import InputError, StudyError
from pairsearch.search.setup.load import load
from pairsearch.studies.errors import ProblemError


@pytest.fixture(scope="module")
def search() -> GridSearchCV:
    """A finished grid search over depths, one of which is None, with ten folds."""
    x, y = load_iris(return_X_y=True)
    grid = {"max_depth": [1, 2, 3, None], "min_samples_leaf": [1, 20]}
    found: GridSearchCV = GridSearchCV(DecisionTreeClassifier(random_state=0), grid, cv=10).fit(x, y)
    return found


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'mine.db'}"


def frame(results: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The columns of a table as pandas would have them."""
    return {
        name: [None if cell is np.ma.masked else cell for cell in column] for name, column in results.items()
    }


def write_csv(path: Path, columns: Mapping[str, Any]) -> Path:
    """The columns as a CSV file, with an index as pandas writes it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["", *columns])
        for number, row in enumerate(zip(*columns.values(), strict=True)):
            out.writerow([number, *("" if cell is None else cell for cell in row)])
    return path


def test_cv_results_become_a_study_with_a_verdict(search: GridSearchCV, url: str) -> None:
    (loaded,) = pairsearch.load(search.cv_results_, storage=url, name="iris")
    assert (loaded.study, loaded.created, loaded.results, loaded.rounds) == ("iris", True, 8, 0)
    with pairsearch.open("iris", storage=url) as study:
        assert study.definition.folds == 10
        assert dict(study.definition.grid.choices)["max_depth"] == (1, 2, 3, "None")
        best = study.best(1)[0]
        assert best.value == pytest.approx(search.best_score_, abs=1e-15)
        assert study.verdict().verdict is not None
        assert study._stored().traits.overlap == 1 / 9
        scores = study.curves().to_pandas().set_index(["configuration", "fold"])["score"]
        for row, params in enumerate(search.cv_results_["params"]):
            key = " ".join(
                f"{name}={('None' if value is None else value)!r}" for name, value in params.items()
            )
            for fold in range(10):
                assert scores[key, fold] == search.cv_results_[f"split{fold}_test_score"][row]
        seconds = study.configurations().to_pandas().seconds
        times = search.cv_results_["mean_fit_time"] + search.cv_results_["mean_score_time"]
        assert seconds.sum() == pytest.approx(10 * times.sum())
        assert len(study.figures()) > 3
    # Loaded again, it is the same.
    assert [one.results for one in pairsearch.load(search.cv_results_, storage=url, name="iris")] == [0]
    other = dict(search.cv_results_) | {"split3_test_score": search.cv_results_["split3_test_score"] / 2}
    with pytest.raises(StudyError, match="study iris in the database has another result of "):
        pairsearch.load(other, storage=url, name="iris")


def test_files_have_the_same_scores(search: GridSearchCV, tmp_path: Path) -> None:
    columns = frame(search.cv_results_)
    texts = {name: list(map(str, of)) if name == "params" else of for name, of in columns.items()}
    write_csv(tmp_path / "cv_results.csv", texts)
    arrow = {name: of if name != "param_max_depth" else list(map(str, of)) for name, of in texts.items()}
    parquet.write_table(pa.table(arrow), tmp_path / "other.parquet")
    for number, file in enumerate(("cv_results.csv", "other.parquet")):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        ended = programs.run(tmp_path, "load", file, "--storage", url)
        name = file.partition(".")[0]
        assert (ended.code, ended.out, ended.err) == (
            0,
            f"{name}: created, 8 results and 0 rounds loaded\n",
            "",
        )
        with pairsearch.open(name, storage=url) as study:
            assert study.best(1)[0].value == pytest.approx(search.best_score_, abs=1e-15)


def test_a_loaded_study_is_read_by_every_command_and_trained_by_none(
    search: GridSearchCV, url: str, tmp_path: Path
) -> None:
    pairsearch.load(search.cv_results_, storage=url, name="iris", metric="accuracy")
    (tmp_path / "claims.toml").write_text(
        'title = "Mine"\n[[claim]]\nstatement = "Larger leaves are better."\nsource = "me"\n'
        '[[claim.evidence]]\nkind = "effect"\nfigure = "accuracy"\nstudies = ["iris"]\n'
        'parameter = "min_samples_leaf"\nvalues = [1, 20]\n'
    )

    def run(*arguments: str) -> programs.Ended:
        return programs.run(tmp_path, *arguments, PAIRSEARCH_STORAGE=url)

    for arguments in (
        ("best", "iris"),
        ("report", "iris"),
        ("claims", "claims.toml"),
        ("replay", "iris", "--sampler", "random", "--seeds", "20", "--orders", "5"),
        ("export", "iris"),
        ("status",),
    ):
        ended = run(*arguments)
        assert (ended.code, ended.err) == (0, ""), arguments
    for arguments in (("run", "iris"), ("worker", "iris"), ("evaluate", "iris"), ("create", "iris")):
        complaint = run(*arguments).complaint
        assert complaint.startswith(
            "error: study iris: problem loaded: its results were trained by another program and loaded, so that "
            "nothing can be trained here"
        ), arguments
    (tmp_path / "mine.toml").write_text('name = "mine"\nproblem = "loaded"\nmetric = "x"\n[grid]\na = [1]\n')
    with pytest.raises(ProblemError, match="nothing can be trained here"):
        pairsearch.check(tmp_path / "mine.toml")
    # What was exported of it is loaded like any other.
    (again,) = pairsearch.load(tmp_path / "pairsearch-export", storage=f"sqlite:///{tmp_path / 'again.db'}")
    assert (again.study, again.results) == ("iris", 8)


def test_parameters_of_other_types_become_texts_and_masked_ones_are_absent(url: str) -> None:
    x, y = load_iris(return_X_y=True)
    grid = [
        {"kernel": ["linear"], "C": [1.0, 10.0]},
        {"kernel": ["rbf"], "C": [1.5], "gamma": [0.1, "scale"]},
    ]
    search = GridSearchCV(SVC(), grid, cv=5, scoring=["accuracy", "f1_macro"], refit=False).fit(x, y)
    with pytest.raises(
        InputError, match=r"several scores: name one of accuracy, f1_macro as the metric \(--metric\)"
    ):
        pairsearch.load(search.cv_results_, storage=url)
    pairsearch.load(search.cv_results_, storage=url, metric="f1_macro")
    with pairsearch.open("cv_results", storage=url) as study:
        assert {one.key for one in study.definition.grid.configurations()} == {
            "C=1.0 kernel='linear'",
            "C=10.0 kernel='linear'",
            "C=1.5 gamma=0.1 kernel='rbf'",
            "C=1.5 gamma='scale' kernel='rbf'",
        }
        assert set(study.best(1)[0].figures) == {"accuracy", "f1_macro"}


def test_a_plain_table_has_parameters_and_folds(tmp_path: Path, url: str) -> None:
    columns = {"rate": [0.1, 0.2, 0.1], "depth": [1, 1, 2], "seconds": [1.5, 2.5, 3.5]} | {
        f"fold{fold}": [0.3 + fold / 10, 0.2, None if fold == 1 else 0.4] for fold in range(3)
    }
    path = write_csv(tmp_path / "losses.csv", columns)
    (loaded,) = pairsearch.load(path, storage=url, metric="loss", minimise=True)
    assert loaded.study == "losses"
    with pairsearch.open("losses", storage=url) as study:
        best = study.best(5)
        assert [(one.configuration.key, one.value, one.seconds) for one in best] == [
            ("depth=1 rate=0.2", pytest.approx(0.2), 2.5),
            ("depth=1 rate=0.1", pytest.approx(0.4), 1.5),
        ]
        (diverged,) = [row for row in study.configurations().to_pylist() if row["state"] == "diverged"]
        assert diverged["reason"] == "fold 1 has no finite loss"
    # Points that are no complete grid are a grid of their own.
    assert len(study.definition.grid.root) == 3
    renamed = {name.replace("fold", "auc_"): of for name, of in columns.items() if name != "seconds"}
    pairsearch.load(renamed, storage=url, name="auc", folds="auc_*")
    with pairsearch.open("auc", storage=url) as study:
        assert study.definition.folds == 3
        assert study.best(1)[0].value == pytest.approx(0.4)
        # Without times no configuration is the cheapest.
        from pairsearch.search.verdict.sentences import verdict_lines  # noqa: PLC0415

        assert "Cheapest" not in " ".join(verdict_lines(study.verdict()))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1]}, "mine.csv has no columns of folds: expected split0_test_score and so on"),
        (
            {"a": [1], "fold0": [1.0]},
            "expected at least two columns of folds with numbers in turn, got fold0",
        ),
        ({"a": [1], "fold0": [1.0], "fold2": [1.0]}, "numbers in turn, got fold0, fold2"),
        (
            {"a": [1, 1], "fold0": [1.0, 2.0], "fold1": [1.0, 2.0]},
            "mine.csv has two rows with the same parameters: a=1",
        ),
        ({"fold0": [1.0], "fold1": [1.0]}, "mine.csv has a configuration without parameters"),
        ({"a": [1], "fold0": ["x"], "fold1": [1.0]}, "expected numbers in column fold0, got 'x'"),
        ({"a b": [1], "fold0": [1.0], "fold1": [1.0]}, "mine.csv: grid.* expected a name"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(
    columns: Mapping[str, Any], words: str, tmp_path: Path, url: str
) -> None:
    write_csv(tmp_path / "mine.csv", columns)
    with pytest.raises(InputError, match=words):
        load(url, str(tmp_path / "mine.csv"))
    assert not (tmp_path / "mine.db").exists()


def test_what_is_no_source_is_refused_in_one_line(tmp_path: Path, url: str) -> None:
    (tmp_path / "My Table.csv").write_text("a,fold0,fold1\n1,2,3\n")
    for source, options, words in (
        (tmp_path / "My Table.csv", {}, r"'My Table' cannot be the name of a study: .*--name NAME"),
        (tmp_path / "none.csv", {}, r"none.csv cannot be read as a table \(No such file"),
        (7, {}, "expected a folder, a file, a database URL, or columns by name .*got int"),
        ({"a": [1, 2], "b": [1]}, {}, "its columns differ in length"),
        (
            "paper",
            {"name": "mine"},
            "--name, --metric, --minimise and --folds go with results of another program",
        ),
        ({"a": [1]}, {"studies": ["b1"]}, "a table is one study, whose name --name gives: leave out b1"),
        (f"sqlite:///{tmp_path / 'none.db'}", {}, "there is no database"),
    ):
        with pytest.raises(InputError, match=words):
            pairsearch.load(source, storage=url, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(InputError, match="has no tables of Optuna's"):
        pairsearch.load(f"sqlite:///{tmp_path / 'empty.db'}", storage=url)


def optuna_study(tmp_path: Path, name: str, **options: Any) -> tuple[str, optuna.Study]:
    """A study of Optuna's in a database of its own."""
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    return url, optuna.create_study(storage=url, study_name=name, **options)


def test_a_finished_study_of_optunas_is_judged(tmp_path: Path, url: str) -> None:
    theirs, study = optuna_study(tmp_path, "theirs", direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        rate, depth = trial.suggest_float("rate", 0.0, 1.0), trial.suggest_int("depth", 1, 3)
        if trial.number == 3:
            raise RuntimeError("broken")
        values = [rate + fold / (10 * depth) for fold in range(6)]
        for fold, value in enumerate(values):
            trial.report(value, fold)
            if trial.number == 4 and fold == 2:
                raise optuna.TrialPruned
        return float(np.mean(values))

    study.optimize(objective, n_trials=8, catch=(RuntimeError,))
    # A point that comes again counts once.
    study.enqueue_trial(study.best_params)
    study.optimize(objective, n_trials=1)
    ended = programs.run(tmp_path, "load", theirs, "--study", "theirs", "--storage", url)
    assert (ended.code, ended.out) == (0, "theirs: created, 7 results and 0 rounds loaded\n"), ended.err
    with pairsearch.open("theirs", storage=url) as found:
        best = found.best(1)[0]
        assert dict(best.params) == study.best_params
        assert best.value == pytest.approx(study.best_value)
        states = [row["state"] for row in found.configurations().to_pylist()]
        assert sorted(states) == ["finished"] * 6 + ["pruned"]
    trials = optuna.load_study(study_name="theirs", storage=url).trials
    assert [len(trial.intermediate_values) for trial in trials] == [6, 6, 6, 3, 6, 6, 6]


@pytest.mark.parametrize(
    ("values", "value", "words"),
    [
        (
            [1.0],
            1.0,
            "expected one intermediate value per fold from each finished trial, at least two, got 1",
        ),
        ([1.0, 2.0], 9.0, "trial 0 has the value 9, and the mean of its 2 intermediate values is 1.5"),
    ],
)
def test_steps_that_are_no_folds_are_refused(
    values: list[float], value: float, words: str, tmp_path: Path, url: str
) -> None:
    theirs, study = optuna_study(tmp_path, "theirs")
    reports = dict(enumerate(values))
    study.add_trial(
        optuna.create_trial(
            value=value,
            params={"a": 1},
            distributions={"a": optuna.distributions.IntDistribution(1, 2)},
            intermediate_values=reports,
        )
    )
    with pytest.raises(InputError, match=words):
        pairsearch.load(theirs, storage=url)
    with pytest.raises(InputError, match="it has no study 'mine': expected one of theirs"):
        pairsearch.load(theirs, studies=["mine"], storage=url)
    study.ask()
    with pytest.raises(InputError, match=r"trial 1 is not finished \(1 in all\)"):
        pairsearch.load(theirs, storage=url)
    several, _ = optuna_study(tmp_path, "several", directions=["minimize", "maximize"])
    with pytest.raises(InputError, match="which study"):
        pairsearch.load(several, storage=url)
    with pytest.raises(InputError, match="it has 2 objectives, expected one"):
        pairsearch.load(several, studies=["several"], storage=url)
