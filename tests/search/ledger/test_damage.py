"""Values that cannot be where they are, in any table: one line that names table, row and column, for all readers."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import programs
import pytest
import tiny
from sqlalchemy import text

from pairsearch.search.common.errors import InputError, StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import StoredStudy, get_study, list_studies

READERS = (
    ("status", "tiny"), ("best", "tiny"), ("report", "tiny"), ("export", "tiny"), ("studies",),
    ("worker", "tiny.toml"), ("evaluate", "tiny", "--no-models", "--rounds", "2"),
)  # fmt: skip
RUN = "study_id, key, kind, run, epochs, figures"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study that has results, curves and rounds, and one configuration still to be trained."""
    folder = tmp_path_factory.mktemp("damage")
    grid = {"batch_size": [10], "learning_rate": [1e-4, 1e-3], "weight_decay": [0.0]}
    tiny.write_toml(folder / "tiny.toml", grid=grid)
    for command in (
        ("create", "tiny.toml", "--data", "digits"),
        ("worker", "tiny.toml", "--max-trials", "1"),
        ("evaluate", "tiny", "--no-models"),
    ):
        ended = programs.run(folder, *command)
        assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    for file in prepared.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return tmp_path


def change(folder: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(folder / "pairsearch.db")
    assert connection.execute(statement, values).rowcount > 0
    connection.commit()
    connection.close()


def read_all(folder: Path, *, named: str) -> int:
    """Let every reader meet the damage: it reads past it, or says one line; how many said it."""
    said = 0
    for command in READERS:
        ended = programs.run(folder, *command)
        assert "Traceback" not in ended.err, (command, ended.err)
        if ended.code:
            assert named in ended.complaint, (command, ended.complaint)
            assert ended.complaint.isprintable()
            said += 1
    return said


@pytest.mark.parametrize(
    ("table", "column", "value", "wanted", "where"),
    [
        ("configurations", "params", "fast", "JSON object", "state = 'pending'"),
        ("configurations", "params", '{"batch_size": 11}', "parameters of its key", "state = 'pending'"),
        ("runs", "figures", '{"val_loss": NaN}', "JSON object of numbers", "kind = 'fold' and run = 1"),
        ("runs", "figures", "few", "JSON object of numbers", "kind = 'round' and run = 1"),
        ("curves", "points", '[0.5, "none"]', "JSON array of numbers", "figure = 'val_error'"),
        ("curves", "points", "[0.5]", "array of 2 numbers", "figure = 'val_loss'"),
        ("runs", "epochs", 9, "array of 9 numbers", "kind = 'fold' and run = 0"),
    ],
)
def test_a_wrong_value_is_one_line_for_all_readers(
    folder: Path, table: str, column: str, value: object, wanted: str, where: str
) -> None:
    change(folder, f"update pairsearch_{table} set {column} = ? where {where}", value)  # noqa: S608 - as above
    if wanted.startswith("array"):
        table, column = "curves", "points"
    named = f"of table pairsearch_{table} has no {wanted} as its {column}, but "
    assert read_all(folder, named=named) > 0


def test_a_fold_that_the_study_does_not_have_is_one_line(folder: Path) -> None:
    change(folder, "update pairsearch_runs set run = 99 where kind = 'fold' and run = 1")
    assert read_all(folder, named="has no number below 2 as its run, but 99") > 0


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("update {}_studies set created_at = 'once'", "TEXT value in REAL column|invalid input syntax"),
        ("update {}_configurations set rank = 'first'", "TEXT value in INTEGER column|invalid input syntax"),
        ("update {}_configurations set state = 'asleep'", "_configurations_(state|covered)_check"),
        ("update {}_configurations set state = 'diverged'", "_configurations_covered_check"),
        ("update {}_configurations set state = 'finished'", "_configurations_(covered|finished)_check"),
        ("update {}_configurations set seconds = -1", "_configurations_seconds_check"),
        ("update {}_configurations set value = {infinity}", "_configurations_value_check"),
        ("update {}_jobs set state = 'finished'", "_jobs_state_check"),
        ("update {}_jobs set kind = 'mean'", "_jobs_kind_check"),
        ("update {}_jobs set rank = -2", "_jobs_rank_check"),
        ("update {}_jobs set count = 0", "_jobs_count_check"),
        ("insert into {}_failures values (1, 1, 'c', 'w', 'r', null, 2, 0)", "_failures_counts_check"),
        ("insert into {}_superseded values (1, 1, 'c', 'w', 'NaN', 0)", "_value_check|TEXT value in REAL"),
        ("insert into {}_runs ({run}) values (1, 'k', 'dream', 0, 0, '')", "_runs_kind_check"),
        ("insert into {}_runs ({run}) values (1, 'k', 'round', 0, 0, '')", "_runs_round_check"),
        ("insert into {}_runs ({run}) values (1, 'k', 'fold', -1, 0, '')", "_runs_run_check"),
    ],
)
def test_a_value_that_a_column_cannot_have_is_refused(
    database: Database, study: StoredStudy, statement: str, named: str
) -> None:
    infinity = "9e999" if database.is_sqlite else "'infinity'"
    with pytest.raises(InputError, match=named), database.write() as connection:
        connection.execute(text(statement.format("pairsearch", infinity=infinity, run=RUN)))


def test_the_row_is_named(folder: Path) -> None:
    change(folder, "update pairsearch_configurations set figures = 'high' where state = 'finished'")
    complaint = programs.run(folder, "best", "tiny").complaint
    assert "row id=1, key='batch_size=10 learning_rate=" in complaint
    change(folder, "update pairsearch_configurations set figures = '{}' where state = 'finished'")
    change(folder, "update pairsearch_runs set figures = 'high' where id = 2")
    assert "row id=2, key='batch_size=10 learning_rate=" in programs.run(folder, "best", "tiny").complaint
    change(folder, "update pairsearch_runs set figures = '{}' where id = 2")
    change(folder, "update pairsearch_curves set points = 'high' where run_id = 2 and figure = 'val_loss'")
    complaint = programs.run(folder, "export", "tiny").complaint
    assert "row run_id=2, figure='val_loss' of table pairsearch_curves" in complaint


def test_bytes_that_are_no_text_are_one_line(folder: Path) -> None:
    change(folder, "update pairsearch_configurations set reason = cast(x'ff80' as text)")
    assert read_all(folder, named="is damaged") > 0


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            "delete from pairsearch_curves",
            "of table pairsearch_curves has no curve of each run as its points",
        ),
        (
            "delete from pairsearch_runs where run = 0",
            "of table pairsearch_runs has no row for each fold as its run",
        ),
        (
            "update pairsearch_curves set points = '[0.5, 0.5, 0.5]'",
            "of table pairsearch_curves has no array of 2 numbers as its points, but '[0.5, 0.5, 0.5]'",
        ),
    ],
)
def test_a_result_that_is_to_be_restored_and_is_not_whole_is_one_line(
    folder: Path, damage: str, named: str
) -> None:
    change(folder, damage)
    change(folder, "delete from trials")
    assert named in programs.run(folder, "create", "tiny.toml").complaint


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        "null",
        "3",
        "{}",
        '{"version": 1, "fingerprint": "", "metrics": {}, "validated": [], "evaluated": []}',
        '{"version": 1, "fingerprint": "", "metrics": {"val_loss": 3}, "validated": [], "evaluated": []}',
        '{"version": 1, "fingerprint": "", "metrics": {"val_loss": {"best": true}}, "validated": [], "evaluated": []}',
        '{"version": 1, "fingerprint": "", "metrics": {"val_loss": {}}, "validated": ["x"], "evaluated": []}',
        '{"version": 1, "fingerprint": "", "metrics": {"val_loss": {}}, "validated": [], "evaluated": ["x"]}',
        '{"version": 1, "fingerprint": "", "metrics": {"x": {}}, "validated": [], "evaluated": []}',
        '{"version": 1, "fingerprint": "", "metrics": {"val_loss": {}}, "validated": [], "evaluated": [], "more": 1}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:110],
)
def test_what_a_study_s_problem_said_is_one_line_where_it_is_damaged(
    database: Database, study: StoredStudy, damaged: str
) -> None:
    with database.write() as connection:
        connection.execute(text("update pairsearch_studies set problem = :text"), {"text": damaged})
    said = f"study {study.name} in the database is damaged \\(.*\\): restore it or use another database"
    with pytest.raises(StudyError, match=f"^{said}$"):
        get_study(database, study.name)
    with pytest.raises(StudyError, match=f"^{said}$"):
        list_studies(database)


def test_a_damaged_study_is_one_line_for_all_readers(folder: Path) -> None:
    change(folder, "update pairsearch_studies set problem = '{'")
    assert read_all(folder, named="study tiny in the database is damaged (JSONDecodeError)") == len(READERS)
