"""Published results hold a complete database bit for bit, and a check that trains them again finds any other bit."""

from __future__ import annotations

import json
import math
import re
import shutil
import sqlite3
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pyarrow as pa
import pytest
import tiny
from pyarrow import parquet
from sqlalchemy import update

from pairsearch.data.sources import Source, load
from pairsearch.models.trainer import TRAINING_VERSION
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.tables import configurations
from pairsearch.search.errors import InputError, StudyError
from pairsearch.search.evaluation.evaluating import configurations_to_evaluate
from pairsearch.search.evaluation.rounds import Request, evaluate
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import get_study, list_studies
from pairsearch.search.measure.published import checking
from pairsearch.search.measure.published.about import provenance
from pairsearch.search.measure.published.reading import Work, read
from pairsearch.search.measure.published.writing import write
from pairsearch.search.mirror.trials import open_storage
from pairsearch.search.results import published as results
from pairsearch.search.results.published_columns import layout
from pairsearch.search.results.study_table import published_table, read_table
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.objective import CrossValidation, Progress
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import parse
from pairsearch.studies.problem import Metric, Traits

# A step of this size diverges.
WILD = {"batch_size": [10], "learning_rate": [1e-4, 1e-3, 1e30], "weight_decay": [0.0, 0.1]}
PAPER = tiny.PAPER | {"params": tiny.PAPER["params"] | {"batch_size": 10}}
TABLES = ("folds", "curves", "rounds")
FAILING = tiny.point(10, 1e-4, 0.0)


class Objective(CrossValidation):
    """The real one, which fails on one configuration."""

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        if configuration == FAILING:
            raise RuntimeError("no postgresql://ann:sesame@server/base")
        return super().__call__(configuration, progress)


def search(database: Database, source: Source) -> None:
    """Create two studies, one with a statement of the paper, and search them to their end."""
    storage = open_storage(database)
    for changes in ({"grid": WILD, "paper": PAPER}, {"name": "other", "seed": 8}):
        loaded = tiny.loaded(source=source, **changes)
        study = create_study(database, loaded, storage).study
        Worker(database, storage, study, Objective(loaded), stopping=threading.Event(), patience=0.0).run()
    storage.remove_session()
    storage.engine.dispose()


def complete(database: Database, source: Source) -> None:
    """Train all rounds of their final evaluation."""
    for study in list_studies(database):
        for paper in (False, True)[: 1 + (study.definition.paper is not None)]:
            for one in configurations_to_evaluate(database, study, top=1, paper=paper):
                loaded = tiny.loaded(study.definition, source)
                evaluate(database, study, loaded, Request(one, (0, 1), 2), worker="ann")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, digits_source: Source) -> Path:
    """A folder with a database of the searched studies, one of the complete ones and the published results."""
    folder = tmp_path_factory.mktemp("published")
    database = open_database(f"sqlite:///{folder / 'complete.db'}", create=True)
    search(database, digits_source)
    with sqlite3.connect(folder / "searched.db") as copy, sqlite3.connect(folder / "complete.db") as whole:
        whole.backup(copy)
    copy.close()
    whole.close()
    complete(database, digits_source)
    write(read(database, ["tiny", "other"]), folder / "results")
    database.close()
    return folder


@pytest.fixture
def database(prepared: Path, tmp_path: Path) -> Iterator[Database]:
    """A copy of the database of the complete studies."""
    shutil.copy(prepared / "complete.db", tmp_path)
    opened = open_database(f"sqlite:///{tmp_path / 'complete.db'}")
    yield opened
    opened.close()


@pytest.fixture
def published(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the folder of their published results."""
    return Path(shutil.copytree(prepared / "results", tmp_path / "results"))


def rows_of(folder: Path, table: str) -> list[dict[str, Any]]:
    return parquet.read_table(folder / f"{table}.parquet").to_pylist()


def change(folder: Path, table: str, row: int, column: str, changed: Callable[[Any], Any]) -> dict[str, Any]:
    """Change one value of a published table; its row as it was."""
    path = folder / f"{table}.parquet"
    found = parquet.read_table(path)
    rows = found.to_pylist()
    before = dict(rows[row])
    rows[row][column] = changed(rows[row][column])
    parquet.write_table(pa.Table.from_pylist(rows, schema=found.schema), path)
    return before


def change_metadata(folder: Path, **facts: str) -> None:
    for table in TABLES:
        path = folder / f"{table}.parquet"
        found = parquet.read_table(path)
        changed = {name.encode(): value.encode() for name, value in facts.items()}
        parquet.write_table(found.replace_schema_metadata(found.schema.metadata | changed), path)


@pytest.fixture
def on_postgresql(postgresql_url: str, digits_source: Source) -> Iterator[Database]:
    """The complete studies in PostgreSQL."""
    opened = open_database(postgresql_url, create=True)
    search(opened, digits_source)
    complete(opened, digits_source)
    yield opened
    opened.close()


def test_the_tables_hold_what_the_database_holds_in_a_fixed_order_and_always_the_same_bytes(
    on_postgresql: Database, tmp_path: Path
) -> None:
    """The other tests are on SQLite."""
    database, published = on_postgresql, tmp_path / "results"
    write(read(database, ["tiny", "other"]), published)
    folds = rows_of(published, "folds")
    stored = {
        (study, key, fold): (json.loads(figures), diverged)
        for study, key, fold, figures, diverged in tiny.rows(
            database,
            "runs",
            "s.name, r.key, r.run, r.figures, r.diverged_epoch",
            "r join pairsearch_studies s on s.id = r.study_id where r.kind = 'fold'",
        )
    }
    for row in folds:
        key = (row["study"], row["configuration"], row["fold"])
        figures, diverged = stored.pop(key) if row["state"] != "failed" else ({}, None)
        assert row["diverged_epoch"] == diverged
        for name in ("train_loss", "val_loss", "val_error"):
            assert row[name] == figures.get(name)
    assert stored == {}
    assert {row["state"] for row in folds} == {"finished", "diverged", "failed"}
    # In the order of the grid, not of the search; no password gets out.
    points = get_study(database, "tiny").definition.grid.configurations()
    firsts = [row for row in folds if row["study"] == "tiny" and row["fold"] == 0]
    assert [row["configuration"] for row in firsts] == [one.key for one in points]
    assert [{name: row[name] for name in WILD} for row in firsts] == [one.params for one in points]
    assert {row["reason"] for row in folds if row["state"] == "failed"} == {
        "RuntimeError: no postgresql://ann:***@server/base"
    }
    assert all(row["processor"] for row in folds if row["state"] != "failed")
    rounds = rows_of(published, "rounds")
    assert {(row["study"], row["round"]) for row in rounds} == {
        ("tiny", 0), ("tiny", 1), ("other", 0), ("other", 1),
    }  # fmt: skip
    assert {row["chosen_by"] for row in rounds if row["study"] == "other"} == {"search"}
    again = write(read(database, ["tiny", "other"]), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [(published / path.name).read_bytes() for path in again]
    assert sorted(path.name for path in published.iterdir()) == sorted(path.name for path in again)


def test_the_ledger_and_the_published_tables_are_read_as_the_same_arrays(
    database: Database, published: Path
) -> None:
    for study in list_studies(database):
        stored, again = read_table(database, study), published_table(results.load(published), study.name)
        assert (stored.definition, stored.traits) == (again.definition, again.traits)
        assert stored.configurations == again.configurations
        assert stored.excluded == again.excluded == len(study.definition.grid) - len(stored.configurations)
        assert stored.excluded > 0, "one fails or diverges"
        assert np.array_equal(stored.seconds, again.seconds)
        for figure in study.traits.of_folds:
            assert np.array_equal(stored.values[figure], again.values[figure], equal_nan=True)
            assert np.array_equal(stored.curves[figure], again.curves[figure], equal_nan=True)
        for key, rounds in stored.rounds.items():
            for index, figures in rounds.items():
                held = again.rounds[key][index]
                assert {name: value for name, value in held.items() if value is not None} == figures
        assert [*map(len, stored.rounds.values())] == [*map(len, again.rounds.values())]


def test_curves_are_means_over_folds_and_missing_where_a_fold_has_none(
    database: Database, published: Path
) -> None:
    by_epoch: dict[tuple[str, str, int], list[float | None]] = {}
    for study, key, points in tiny.rows(
        database,
        "curves",
        "s.name, r.key, c.points",
        "c join pairsearch_runs r on r.id = c.run_id join pairsearch_studies s on s.id = r.study_id "
        "where r.kind = 'fold' and c.figure = 'val_loss' order by r.run",
    ):
        for epoch, loss in enumerate(json.loads(points), start=1):
            by_epoch.setdefault((study, key, epoch), []).append(loss)
    expected = {
        key: None if None in losses else math.fsum(losses) / len(losses) for key, losses in by_epoch.items()
    }
    found = {
        (row["study"], row["configuration"], row["epoch"]): row["val_loss"]
        for row in rows_of(published, "curves")
    }
    assert found == expected
    assert None in found.values()


def test_columns_carry_units_and_files_their_provenance(published: Path) -> None:
    for table in results.load(published).layout.tables:
        schema = parquet.read_schema(published / f"{table.name}.parquet")
        assert [schema.field(column.name).metadata[b"unit"].decode() for column in table.columns] == [
            column.unit for column in table.columns
        ]
        facts = {name.decode(): value.decode() for name, value in schema.metadata.items()}
        assert facts["data"] == f"digits {load('digits').fingerprint}"
        assert json.loads(facts["problems"])["tiny"]["version"] == TRAINING_VERSION
        known = json.loads(facts["provenance"])
        assert known["processors"] == [rows_of(published, "rounds")[0]["processor"]]
        assert "torch" in known["versions"][0]
        assert known["seconds_from_first_start_to_last_finish"] > 0


def test_provenance_counts_workers_and_times() -> None:
    origin = {"processor": "P", "versions": "V"}
    work = [
        Work("a", 10.0, 20.0, 9.0, origin),
        Work("b", 15.0, 30.0, 14.0, origin),
        Work("a", 20.0, 25.0, 4.0, origin | {"processor": "Q"}),
        Work("c", None, 100.0, 2.0, origin),
    ]
    known = provenance(work)
    assert (known["workers_at_once"], known["worker_processes"]) == (2, 2)
    assert (known["first_start"], known["last_finish"]) == (
        "1970-01-01T00:00:10+00:00",
        "1970-01-01T00:01:40+00:00",
    )
    assert (known["seconds_from_first_start_to_last_finish"], known["seconds_of_the_search"]) == (90.0, 20.0)
    assert (known["seconds_of_training_in_the_search"], known["seconds_of_training_in_the_evaluation"]) == (
        27.0,
        2.0,
    )
    assert (known["processors"], known["git_commits"]) == (["P", "Q"], ["unknown"])


def test_the_readme_describes_every_column_and_its_lines_run(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (published / "README.md").read_text(encoding="utf-8")
    for table in results.load(published).layout.tables:
        for column in table.columns:
            assert f"| `{column.name}` | {column.kind} | {column.unit} | {column.meaning} |" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.split("\n\n")) == 2
    monkeypatch.chdir(published)
    exec(code, {})  # noqa: S102 - our README
    assert "learning_rate" in capsys.readouterr().out


def test_everything_trained_again_has_the_same_bits(published: Path) -> None:
    found = list(checking.check(published, {}, 100, seed=1))
    assert [finding.line for finding in found if not finding.same] == []
    # 6 and 8 configurations less the one that failed in either study, and two rounds.
    assert len(found) == 6 + 8 - 2 + checking.ROUNDS


def test_a_sample_is_spread_over_the_studies_and_follows_from_its_seed(published: Path) -> None:
    loaded = results.load(published)
    drawn = checking.draw(loaded, 4, seed=5)
    searched = [task for task in drawn if task.round is None]
    assert sorted(task.study for task in searched) == ["other", "other", "tiny", "tiny"]
    assert len(drawn) == 4 + checking.ROUNDS
    assert checking.draw(loaded, 4, seed=5) == drawn
    assert len({tuple(checking.draw(loaded, 4, seed=seed)) for seed in range(9)}) > 1


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("folds", "val_loss", "OTHER BITS: fold {fold} (val_loss "),
        ("folds", "train_loss", "OTHER BITS: fold {fold} (train_loss "),
        ("curves", "val_loss", "OTHER BITS: means of epoch {epoch} (val_loss "),
        ("rounds", "test_loss", "round {round}: OTHER BITS: round {round} (test_loss "),
    ],
)
def test_the_last_bit_of_one_figure_is_found_and_named(
    published: Path, table: str, column: str, words: str
) -> None:
    row = next(
        place for place, row in enumerate(rows_of(published, table)) if row[column] is not None and place % 2
    )
    before = change(published, table, row, column, lambda value: math.nextafter(value, math.inf))
    task = checking.Task(before["study"], before["configuration"], before.get("round"))
    finding = checking.checker(published, {})(task)
    assert not finding.same
    assert finding.line.startswith(f"{before['study']} {before['configuration']}")
    assert words.format(**before) in finding.line
    assert "trained here on " in finding.line
    assert finding.line.endswith(f"published from {rows_of(published, 'rounds')[0]['processor']}")


def test_other_data_versions_and_definitions_are_refused(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = results.load(published).traits["tiny"].to_json()

    def change_problem(**changes: object) -> None:
        change_metadata(published, problems=json.dumps({"tiny": held | changes, "other": held}))

    change_problem(version=TRAINING_VERSION + 1)
    with pytest.raises(
        InputError, match=f"the version of problem pairs is {TRAINING_VERSION + 1} there and "
    ):
        list(checking.check(published, {}, 1, seed=1))
    change_problem(fingerprint="0123")
    with pytest.raises(InputError, match="their data are digits 0123 and those here are digits "):
        list(checking.check(published, {}, 1, seed=1))
    shipped = tiny.write_toml(published / "tiny.toml", paper=tiny.PAPER, epochs=3)
    monkeypatch.setattr(checking, "shipped", lambda: {"tiny": shipped})
    with pytest.raises(InputError, match="epochs of study tiny is 2 there and 3 in the shipped definition"):
        list(checking.check(published, {}, 1, seed=1))


def test_files_that_are_no_results_are_refused_by_name(published: Path) -> None:
    with pytest.raises(InputError, match=r"folds\.parquet cannot be read .*No such file"):
        results.load(published / "nowhere")
    table = parquet.read_table(published / "curves.parquet")
    parquet.write_table(table.drop_columns(["epoch"]), published / "curves.parquet")
    with pytest.raises(InputError, match=r"curves\.parquet cannot be read .*no column epoch"):
        results.load(published)
    parquet.write_table(table.replace_schema_metadata({"data": "others"}), published / "curves.parquet")
    with pytest.raises(InputError, match="come from different databases or moments"):
        results.load(published)
    (published / "rounds.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(InputError, match=r"rounds\.parquet cannot be read"):
        results.load(published)
    parquet.write_table(
        parquet.read_table(published / "folds.parquet").replace_schema_metadata(None),
        published / "folds.parquet",
    )
    with pytest.raises(InputError, match=r"folds\.parquet cannot be read"):
        results.load(published)


def test_parameters_and_figures_of_any_name_and_type_have_columns_of_their_own() -> None:
    grid = {"state": [1, 1.0], "seconds": [2], "depth": [3]}
    definition = parse({"name": "mine", "problem": "mine.py:fit", "metric": "seconds", "grid": grid}, "mine")
    tables = layout([definition], [Traits(1, "", {"seconds": Metric("time", unit="s")})], ["seconds"])
    # 1 and 1.0 are two values, which no column of numbers tells apart.
    point = tables.folds.point({"state": 1.0, "seconds": 2})
    assert point == {"param:state": "1.0", "param:seconds": 2, "depth": None}
    for columns in (tables.folds, tables.rounds):
        assert columns.compared == ["figure:seconds", "diverged_epoch"]
        assert columns.values({}) == {"figure:seconds": None}
    (figure,) = [one for one in tables.curves.table.columns if one.name == "seconds"]
    assert (figure.kind, figure.unit, figure.meaning) == (
        "number",
        "s",
        "time, mean over folds after the epoch",
    )


def test_a_study_that_is_not_complete_is_refused(
    prepared: Path, digits_source: Source, tmp_path: Path
) -> None:
    shutil.copy(prepared / "searched.db", tmp_path)
    database = open_database(f"sqlite:///{tmp_path / 'searched.db'}")
    study = get_study(database, "tiny")
    with pytest.raises(StudyError, match=r"study tiny is not complete: 2 of 2 rounds of .* are missing"):
        read(database, ["tiny"])
    [paper] = configurations_to_evaluate(database, study, top=1, paper=True)
    with database.write() as connection:
        # Whatever the training gave, the paper's is not the best.
        connection.execute(update(configurations).where(configurations.c.key == paper.key).values(value=1e9))
    [best] = configurations_to_evaluate(database, study, top=1, paper=False)
    loaded = tiny.loaded(study.definition, digits_source)
    evaluate(database, study, loaded, Request(best, (0, 1), 2), worker="ann")
    with pytest.raises(StudyError, match="`pairsearch evaluate tiny --paper` trains them"):
        read(database, ["tiny"])
    with database.write() as connection:
        connection.execute(
            update(configurations).where(configurations.c.key == best.key).values(state="running")
        )
    with pytest.raises(StudyError, match="study tiny is not complete: 1 configurations are still to be"):
        read(database, ["tiny"])
    with pytest.raises(StudyError, match="study nothing is not in"):
        read(database, ["nothing"])
    database.close()


def test_the_program_writes_checks_and_refuses(prepared: Path, tmp_path: Path) -> None:
    def program(*arguments: str) -> programs.Ended:
        return programs.run(tmp_path, *arguments, module="pairsearch.search.measure.published")

    storage, folder = f"sqlite:///{prepared / 'complete.db'}", tmp_path / "program"
    written = program("--write", str(folder), "--study", "tiny", "--study", "other", "--storage", storage)
    assert (written.code, written.err) == (0, ""), written
    assert len(written.out.splitlines()) == 4
    checked = program("--check", "2", "--seed", "3", "--results", str(folder))
    assert (checked.code, checked.err) == (0, ""), checked
    assert checked.out.count("the same bits\n") == 4
    assert checked.out.endswith("seed 3: 4 trained again, none with other bits\n")
    for place in range(len(rows_of(folder, "rounds"))):
        change(folder, "rounds", place, "test_loss", lambda value: value + 1.0)
    checked = program("--check", "1", "--results", str(folder))
    assert checked.code == 1, checked
    assert checked.out.endswith("2 trained again, 1 with other bits\n")
    refused = program("--write", str(tmp_path / "no"), "--storage", storage)
    assert refused.out == ""
    assert refused.complaint.startswith("error: study b1 is not in")
    assert not (tmp_path / "no").exists()
    assert program().err == "error: give either --write FOLDER or --check N\n"


@pytest.mark.parametrize("study", ["b1", "wsal"])
def test_a_cheap_configuration_of_the_shipped_results_has_the_same_bits_here(
    study: str, mnist_root: Path
) -> None:
    check = checking.checker(results.DEFAULT, {"data_dir": str(mnist_root)})
    cheap = [
        (rows[0]["seconds"], key)
        for (owner, key), rows in check.published.folds.items()
        if owner == study and rows[0]["batch_size"] == 50 and rows[0]["state"] == "finished"
    ]
    finding = check(checking.Task(study, min(cheap)[1]))
    assert finding.same, finding.line


def test_the_package_ships_them() -> None:
    project = tomllib.loads((programs.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = project["tool"]["setuptools"]["package-data"]["pairsearch.studies"]
    folder = results.DEFAULT.relative_to(programs.ROOT / "studies")
    assert f"{folder}/*" in packed
