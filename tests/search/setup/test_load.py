"""What an export wrote is loaded again bit for bit, exactly once; what is damaged or differs is refused in one line."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pytest
import tiny
from pyarrow import parquet

from pairsearch.search.common.errors import InputError, StudyError
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome, RunResult
from pairsearch.search.ledger.rows import provenance_id, write_runs
from pairsearch.search.ledger.studies import StoredStudy, find_study, get_study
from pairsearch.search.mirror import presence
from pairsearch.search.mirror.tables import open_optuna
from pairsearch.search.report import document
from pairsearch.search.report.page import render
from pairsearch.search.results.evaluations import rounds_within
from pairsearch.search.results.export import export_folder
from pairsearch.search.results.folder import SHIPPED, read_folder
from pairsearch.search.results.study_table import read_table
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.load import load, load_into
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.configuration import Configuration

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

DIVERGED, FAILED, PENDING, RUNNING, PRUNED = (
    tiny.point(*params)
    for params in ((10, 1e-4, 0.1), (25, 1e-4, 0.0), (25, 1e-4, 0.1), (25, 1e-3, 0.0), (25, 1e-3, 0.1))
)
BEYOND = tiny.point(50, 1e-3, 0.5)
"""A configuration that has rounds and is not in the grid."""


def answer(configuration: Configuration) -> Outcome:
    """All kinds of results, with figures of all bits."""
    if configuration == DIVERGED:
        return tiny.diverged(configuration)
    if configuration == FAILED:
        raise RuntimeError("no room at postgresql://ann:secret@here")
    full = tiny.outcome(configuration)
    if configuration == PRUNED:
        return tiny.cut(full, 1, state="pruned", value=None, reason="pruned after epoch 1")
    return full


def add_rounds(database: Database, study: StoredStudy, configuration: Configuration, diverged: int) -> None:
    """Store two rounds; the round of that number diverged in its first epoch."""
    for index in range(2):
        curves = {"train_loss": [0.5, 1 / 3 + index], "test_error": [0.25, math.pi / 10]}
        result = RunResult(index, curves)
        if index == diverged:
            result = RunResult(index, {"train_loss": [math.nan]}, 1)
        about = {
            "study_id": study.id,
            "seconds": 0.1 + index,
            "worker": "ann",
            "facts": json.dumps({"parameters": "7"}),
        }
        with database.write() as connection:
            about["provenance_id"] = provenance_id(connection, {"host": f"round {index}"})
            write_runs(connection, configuration.key, "round", [result], about)


@pytest.fixture
def searched(database: Database, study: StoredStudy, make_worker: Any) -> StoredStudy:
    """The tiny study with a configuration in every state, and rounds of two configurations."""
    make_worker(tiny.Answering(answer), study).run()
    with database.write() as connection:
        for one, state in ((PENDING, "pending"), (RUNNING, "running")):
            mine = f"\"key\" = '{one.key}'"
            for table, what in (
                ("curves", f"run_id in (select id from pairsearch_runs where {mine})"),  # noqa: S608
                ("runs", mine),
            ):
                connection.exec_driver_sql(f"delete from pairsearch_{table} where {what}")  # noqa: S608
            held = "" if state == "running" else ", worker = null, started_at = null"
            connection.exec_driver_sql(
                f"update pairsearch_configurations set state = '{state}', value = null, figures = null, "  # noqa: S608
                f"seconds = null, finished_at = null, provenance_id = null{held} where {mine}"
            )
    add_rounds(database, study, BEYOND, -1)
    add_rounds(database, study, PENDING, 1)
    return get_study(database, study.name)


@pytest.fixture
def other(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a second database of the same kind, which does not exist yet or is empty."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'other.db'}"
        return
    import psycopg  # noqa: PLC0415

    server = request.getfixturevalue("postgresql_server")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("create database other template template1")
    yield server.get_uri(database="other")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("drop database other with (force)")


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each table."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


@pytest.mark.parametrize("which", ["all", "mean"])
def test_what_was_loaded_is_exported_again_byte_for_byte(
    which: Any, database: Database, searched: StoredStudy, make_study: Any, other: str, tmp_path: Path
) -> None:
    second = make_study(
        name="second", grid={"batch_size": [10], "learning_rate": [0.1], "weight_decay": [0, 0.5]}
    )
    first = tmp_path / "first"
    export_folder(database, [searched, second], first, which)
    (one, two) = load(other, str(first))
    assert (one.study, one.created, one.results, one.rounds) == ("tiny", True, 5, 4)
    assert (two.study, two.created, two.results, two.rounds) == ("second", True, 0, 0)
    opened = open_database(other)
    again = [get_study(opened, name) for name in ("tiny", "second")]
    export_folder(opened, again, tmp_path / "again", "all")
    assert contents(tmp_path / "again") == contents(first)
    # Loaded once more, nothing is added.
    assert [(two.created, two.results, two.rounds) for two in load(other, str(first))] == [(False, 0, 0)] * 2
    export_folder(opened, again, tmp_path / "third", "all")
    assert contents(tmp_path / "third") == contents(first)
    states = {state for (state,) in tiny.rows(opened, "configurations", "state")}
    assert states == {"pending", "finished", "diverged", "pruned", "failed"}
    texts = [text for (text,) in tiny.rows(opened, "configurations", "reason") if text]
    assert "no room at postgresql://ann:***@here" in " ".join(texts)
    # What computed a result is kept, and where it was loaded from is added.
    for (text,) in tiny.rows(opened, "provenances", "facts"):
        assert json.loads(text)["loaded"].startswith("first, SHA-256 ")
    _same_tables(read_table(database, searched), read_table(opened, again[0]))
    opened.close()


def _same_tables(stored: Any, again: Any) -> None:
    assert stored.configurations == again.configurations
    assert stored.excluded == again.excluded
    assert stored.rounds.keys() == again.rounds.keys()
    for figure, values in stored.values.items():
        assert values.tobytes() == again.values[figure].tobytes()
        assert stored.curves[figure].tobytes() == again.curves[figure].tobytes()


@pytest.mark.parametrize("which", ["all", "mean"])
def test_optuna_has_the_trials_with_their_intermediate_values(
    which: Any, database: Database, searched: StoredStudy, other: str, tmp_path: Path
) -> None:
    export_folder(database, [searched], tmp_path / "tables", which)
    load(other, str(tmp_path / "tables"))
    opened = open_database(other)
    assert presence.shown(opened, get_study(opened, "tiny"))

    def trials(of: Database) -> dict[str, Any]:
        storage = open_optuna(of)
        found = storage.get_all_trials(storage.get_study_id_from_name("tiny"))
        storage.remove_session()
        storage.engine.dispose()
        return {
            trial.user_attrs["configuration"]: (
                trial.state, trial.value, trial.params, trial.intermediate_values, trial.user_attrs.get("folds"),
            )
            for trial in found if trial.state.is_finished() and trial.state != optuna.trial.TrialState.FAIL
        }  # fmt: skip

    before, after = trials(database), trials(opened)
    assert after.keys() == before.keys() - {PENDING.key, RUNNING.key}
    for key, found in after.items():
        state, value, params, reports, folds = found
        assert (state, value, params) == before[key][:3]
        assert reports == pytest.approx(before[key][3])
        assert folds == before[key][4]
    opened.close()


@ON_SQLITE
def test_a_study_gains_the_results_that_it_lacks_and_the_points_of_a_larger_grid(
    database: Database, searched: StoredStudy, other: str, digits_source: Any, tmp_path: Path
) -> None:
    export_folder(database, [searched], tmp_path / "tables")
    opened = open_database(other, create=True)
    small = {"batch_size": [10], "learning_rate": [1e-4, 1e-3], "weight_decay": [0.0, 0.1]}
    create_study(opened, tiny.loaded(source=digits_source, grid=small))
    (one,) = load(other, str(tmp_path / "tables"))
    assert (one.created, one.results, one.rounds) == (False, 5, 4)
    study = get_study(opened, "tiny")
    assert study.definition.grid == searched.definition.grid
    ranks = tiny.rows(opened, "configurations", '"rank"', 'order by "rank"')
    assert [rank for (rank,) in ranks] == list(range(8))
    assert read_table(opened, study).values["val_loss"].tobytes() == (
        read_table(database, searched).values["val_loss"].tobytes()
    )
    assert presence.shown(opened, study)
    opened.close()


def test_a_loaded_study_is_trained_on_from_where_it_was(
    database: Database, searched: StoredStudy, other: str, tmp_path: Path
) -> None:
    export_folder(database, [searched], tmp_path / "tables", "mean")
    load(other, str(tmp_path / "tables"))
    opened = open_database(other)
    objective = tiny.Answering(tiny.outcome)
    study = get_study(opened, "tiny")
    Worker(open_ledger(opened, study), objective, stopping=threading.Event()).run()
    assert set(objective.asked) == {PENDING.key, RUNNING.key}
    assert tiny.states(opened) == {"finished": 5, "diverged": 1, "pruned": 1, "failed": 1}
    assert Ledger(opened, study).insert_rounds(PENDING, 4) == 2
    table = read_table(opened, study)
    # Mean curves that were loaded stand beside curves of folds that were trained here.
    assert np.isfinite(table.curves["val_loss"]).all()
    opened.close()


@ON_SQLITE
def test_the_report_draws_mean_curves_and_says_what_is_not_there(
    database: Database, searched: StoredStudy, other: str, tmp_path: Path
) -> None:
    whole = "Learning curves of the best configurations, fold by fold"
    means = "Learning curves of the best configurations, means over folds"
    sentence = "Lines are means over 2 folds; the results were loaded without curves of single folds."
    assert whole in render(document.compose_stored(database, [searched]))
    export_folder(database, [searched], tmp_path / "tables", "mean")
    load(other, str(tmp_path / "tables"))
    opened = open_database(other)
    page = render(document.compose_stored(opened, [get_study(opened, "tiny")]))
    assert means in page
    assert sentence in page
    assert whole not in page
    assert "tables, SHA-256 " in page
    opened.close()


@ON_SQLITE
def test_a_larger_study_keeps_its_grid(
    database: Database, searched: StoredStudy, other: str, digits_source: Any, tmp_path: Path
) -> None:
    export_folder(database, [searched], tmp_path / "tables")
    opened = open_database(other, create=True)
    large = searched.definition.grid.model_dump()[0] | {"batch_size": [10, 25, 50]}
    create_study(opened, tiny.loaded(source=digits_source, grid=large))
    (one,) = load(other, str(tmp_path / "tables"))
    assert (one.created, one.results) == (False, 5)
    assert tiny.states(opened) == {"finished": 3, "diverged": 1, "pruned": 1, "pending": 7}
    opened.close()


@ON_SQLITE
def test_other_results_definitions_data_and_versions_are_refused_and_nothing_is_written(
    database: Database, searched: StoredStudy, other: str, make_study: Any, digits_source: Any, tmp_path: Path
) -> None:
    second = make_study(name="zweite")
    export_folder(database, [second, searched], tmp_path / "tables")

    def refused(words: str) -> None:
        opened = open_database(other)
        before = [tiny.rows(opened, table) for table in ("studies", "configurations", "runs", "curves")]
        with pytest.raises(StudyError, match=words):
            load(other, str(tmp_path / "tables"))
        after = [tiny.rows(opened, table) for table in ("studies", "configurations", "runs", "curves")]
        assert after == before
        opened.close()

    load(other, str(tmp_path / "tables"), ["tiny"])
    opened = open_database(other)
    done = f"where state = 'finished' and study_id = {get_study(opened, 'tiny').id}"
    ((key, value), *_) = tiny.rows(opened, "configurations", "key, value", done)

    def change(statement: str) -> None:
        with opened.write() as connection:
            connection.exec_driver_sql(statement)

    change(f"update pairsearch_configurations set value = {math.nextafter(value, 9)!r} where key = '{key}'")  # noqa: S608
    refused(f"study tiny in the database has another result of {key} than .*tables: finished, ")
    change(f"update pairsearch_configurations set value = {value!r} where key = '{key}'")  # noqa: S608
    change(
        "update pairsearch_runs set figures = '{\"test_error\": 0.5}' where kind = 'round' and diverged_epoch is null"
    )
    refused("has another result of round 0 of")
    for changes, words in (
        ({"epochs": 3}, "epochs is 3 there and 2 here"),
        ({"seed": 8}, "seed is 8 there and 7 here"),
    ):
        opened.close()
        Path(other.removeprefix("sqlite:///")).unlink()
        opened = open_database(other, create=True)
        create_study(opened, tiny.loaded(source=digits_source, **changes))
        refused(words)
    opened.close()
    Path(other.removeprefix("sqlite:///")).unlink()
    opened = open_database(other, create=True)
    fewer = tiny.without_an_image(digits_source)
    create_study(opened, tiny.loaded(source=fewer))
    refused(f"its data are digits {fewer.fingerprint[:12]} and those given are digits ")
    opened.close()


@ON_SQLITE
def test_an_optuna_study_of_that_name_is_left_alone(
    database: Database, searched: StoredStudy, other: str, tmp_path: Path
) -> None:
    export_folder(database, [searched], tmp_path / "tables")
    optuna.create_study(study_name="tiny", storage=other).add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(StudyError, match="an Optuna study of that name that pairsearch did not make"):
        load(other, str(tmp_path / "tables"))
    assert tiny.rows(open_database(other), "studies") == []


Change = Callable[[pa.Table], pa.Table]


def _without(row: int) -> Change:
    return lambda table: pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def _with(column: str, row: int, value: Any) -> Change:
    def changed(table: pa.Table) -> pa.Table:
        cells = table.column(column).to_pylist()
        cells[row] = value
        field = table.schema.field(column)
        return table.set_column(table.column_names.index(column), field, pa.array(cells, field.type))

    return changed


def _format(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(table.schema.metadata | {b"format": b"9"})


@ON_SQLITE
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("folds", _without(3), "folds.parquet is damaged: it has 9 rows of study 'tiny', where studies.* says 10"),
        ("curves", _without(0), "curves.parquet is damaged: it has .* rows of study 'tiny'"),
        ("rounds", _format, "rounds.parquet has format '9', expected format 1"),
        ("curves", lambda table: table.drop_columns(["epoch"]), "curves.parquet is damaged: it has no column epoch"),
        ("folds", _with("fold", 0, 1), "folds.parquet is damaged: fold 1 of .* cannot be there"),
        ("folds", _with("configuration", 0, "x=1"), "configuration .* has 1 of 2 folds"),
        ("configurations", _with("configuration", 0, "x=1"), "configuration 'x=1' of study tiny is not in the grid"),
        ("configurations", _with("batch_size", 0, 7), "its column batch_size is not that of configuration"),
        ("configurations", _with("state", 0, "done"), "has state 'done'"),
        ("configurations", _with("position", 0, 5), "is not that of a"),
        ("configurations", _with("errors", 0, None), "its column errors has an empty cell"),
        ("configurations", _with("provenance", 0, 99), "row 99 of its column provenance is not in provenance.parquet"),
        ("curves", _with("epoch", 0, 7), "the epochs of .* are not 1, 2"),
        ("curves", _with("kind", -1, "dream"), "curves.parquet is damaged: "),
        ("folds", _with("val_loss", 0, math.inf), "its column val_loss has a number that is not finite"),
        ("rounds", _with("facts", 0, "[]"), "has no facts or no provenance"),
        ("studies", _with("definition", 0, "{}"), "studies.parquet is damaged: study 'tiny' in "),
        ("studies", _with("problem", 0, "{}"), "studies.parquet is damaged"),
        ("provenance", _with("facts", 0, "1"), "provenance.parquet is damaged"),
        ("studies", _with("choices", 0, "{}"), "the choices of study tiny are not those of its grid"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_and_nothing_is_written(
    name: str,
    change: Change,
    words: str,
    database: Database,
    searched: StoredStudy,
    other: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "tables"
    export_folder(database, [searched], folder)
    path = folder / f"{name}.parquet"
    parquet.write_table(change(parquet.read_table(path)), path)
    with pytest.raises(InputError, match=words):
        load(other, str(folder))
    assert not (tmp_path / "other.db").exists()


@ON_SQLITE
def test_files_that_are_no_tables_are_named(
    database: Database, searched: StoredStudy, other: str, tmp_path: Path
) -> None:
    folder = tmp_path / "tables"
    with pytest.raises(
        InputError, match="tables is no folder: expected one that `pairsearch export` wrote, or paper"
    ):
        load(other, str(folder))
    export_folder(database, [searched], folder)
    (folder / "rounds.parquet").rename(folder / "others.parquet")
    with pytest.raises(
        InputError,
        match=r"rounds\.parquet cannot be read as a table \(No such file or directory\): expected a table of",
    ):
        load(other, str(folder))
    (folder / "others.parquet").rename(folder / "rounds.parquet")
    with pytest.raises(InputError, match=r"study 'nine' is not in .*tables: expected one of tiny"):
        load(other, str(folder), ["nine"])
    for cut in (b"", b"PAR1 or not", (folder / "folds.parquet").read_bytes()[:-40]):
        broken = tmp_path / "broken"
        shutil.copytree(folder, broken, dirs_exist_ok=True)
        (broken / "folds.parquet").write_bytes(cut)
        with pytest.raises(InputError, match=r"folds\.parquet cannot be read"):
            load(other, str(broken))
    parquet.write_table(pa.table({"x": [1]}), folder / "folds.parquet")
    with pytest.raises(InputError, match=r"folds\.parquet has no format, expected format 1"):
        load(other, str(folder))


def test_the_shipped_results_are_what_export_writes_of_them(paper: Database, tmp_path: Path) -> None:
    names = parquet.read_table(SHIPPED["paper"] / "studies.parquet").column("study").to_pylist()
    export_folder(paper, [get_study(paper, name) for name in names], tmp_path / "again", "mean")
    for path in sorted(SHIPPED["paper"].iterdir()):
        shipped, again = parquet.read_table(path), parquet.read_table(tmp_path / "again" / path.name)
        assert shipped.equals(again), path.name
        for one in (shipped, again):
            assert one.schema.metadata[b"format"] == b"1"
        assert [field.metadata for field in shipped.schema] == [field.metadata for field in again.schema]


@ON_SQLITE
def test_a_load_that_was_interrupted_has_stored_nothing(
    database: Database, searched: StoredStudy, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_folder(database, [searched], tmp_path / "tables")
    given = read_folder(tmp_path / "tables", "tables")
    opened = open_database(other, create=True)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pairsearch.search.setup.load.project", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_into(opened, given)
    assert find_study(opened, "tiny") is None
    assert load_into(opened, given)[0].results == 5
    assert presence.shown(opened, get_study(opened, "tiny"))
    with opened.read() as connection:
        assert len(rounds_within(connection, get_study(opened, "tiny"))) == 4
    opened.close()
