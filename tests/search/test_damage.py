"""Values that cannot be where they are, in any table: one line that names table, row and column, for all readers."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import programs
import pytest
import tiny
from sqlalchemy import text

from pairsearch.search.database.column_types import Checked
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import metadata
from pairsearch.search.errors import DamagedError

READERS = (
    ("status", "tiny"), ("best", "tiny"), ("report", "tiny"), ("export", "tiny"), ("studies",),
    ("worker", "tiny.toml"), ("evaluate", "tiny", "--no-models", "--rounds", "2"),
)  # fmt: skip


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
        ("configurations", "value", "high", "number", "state = 'finished'"),
        ("configurations", "seconds", b"\x00\xff", "number", "state = 'finished'"),
        ("configurations", "figures", "{", "JSON object", "state = 'finished'"),
        ("configurations", "params", "fast", "JSON object", "state = 'pending'"),
        ("configurations", "params", '{"batch_size": 11}', "parameters of its key", "state = 'pending'"),
        ("configurations", "finished_at", "noon", "number", "state = 'finished'"),
        ("configurations", "state", "asleep", "known state", "state = 'pending'"),
        ("configurations", "key", b"\xff", "text", "state = 'finished'"),
        ("configurations", "provenance", "{", "JSON object", "state = 'finished'"),
        ("folds", "val_loss", "low", "number", "fold = 1"),
        ("curves", "val_error", "none", "number", "epoch = 2"),
        ("rounds", "test_error", "few", "number", "round = 1"),
        ("rounds", "round", "first", "whole number", "round = 1"),
        ("round_curves", "test_error", "few", "number", "epoch = 1"),
        ("studies", "created_at", "once", "number", "id = 1"),
    ],
)
def test_a_wrong_value_is_one_line_for_all_readers(
    folder: Path, table: str, column: str, value: object, wanted: str, where: str
) -> None:
    change(folder, f"update pairsearch_{table} set {column} = ? where {where}", value)  # noqa: S608 - as above
    named = f"of table pairsearch_{table} has no {wanted} as its {column}, but "
    assert read_all(folder, named=named) > 0


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("configurations set value = null where state = 'finished'", "has no number as its value"),
        ("configurations set seconds = null where state = 'finished'", "has no number as its seconds"),
        ("rounds set test_error = null where round = 0", "has no number as its test_error"),
        ("folds set fold = 99 where fold = 1", "has no number below 2 as its fold, but 99"),
    ],
)
def test_a_figure_that_must_be_there_is_one_line(folder: Path, statement: str, named: str) -> None:
    change(folder, f"update pairsearch_{statement}")
    assert read_all(folder, named=named) > 0


def test_the_row_is_named(folder: Path) -> None:
    change(folder, "update pairsearch_configurations set value = 'high' where state = 'finished'")
    complaint = programs.run(folder, "best", "tiny").complaint
    assert "row id=1, key='batch_size=10 learning_rate=" in complaint
    change(folder, "update pairsearch_configurations set value = 0.5 where state = 'finished'")
    change(folder, "update pairsearch_folds set val_loss = 'high' where fold = 1")
    assert "row configuration_id=1, fold=1 of table" in programs.run(folder, "best", "tiny").complaint


def test_bytes_that_are_no_text_are_one_line(folder: Path) -> None:
    change(folder, "update pairsearch_configurations set reason = cast(x'ff80' as text)")
    assert read_all(folder, named="is damaged") > 0


def test_a_result_that_is_to_be_restored_and_has_lost_its_curves_is_one_line(folder: Path) -> None:
    change(folder, "delete from pairsearch_curves where epoch = 1")
    change(folder, "delete from trials")
    complaint = programs.run(folder, "create", "tiny.toml").complaint
    assert "of table pairsearch_curves has no point for each fold and epoch" in complaint


def test_not_a_number_in_postgresql_is_refused_too(
    postgresql_url: str, request: pytest.FixtureRequest
) -> None:
    from pairsearch.search.database.connection import open_database  # noqa: PLC0415
    from pairsearch.search.database.tables import superseded  # noqa: PLC0415

    database: Database = open_database(postgresql_url, create=True)
    with database.write() as connection:
        connection.execute(
            text(
                "alter table pairsearch_superseded drop constraint "
                "pairsearch_superseded_configuration_id_fkey"
            )
        )
        connection.execute(text("insert into pairsearch_superseded values (1, 1, 'c', 'w', 'NaN', 0)"))
    with (
        pytest.raises(
            DamagedError, match="row id=1 of table pairsearch_superseded has no number as its value"
        ),
        database.read() as connection,
    ):
        connection.execute(superseded.select()).all()
    database.close()


def test_every_column_but_keys_of_rows_is_checked() -> None:
    for table in metadata.tables.values():
        for column in table.columns:
            bare = column.name == "id" or column.foreign_keys or table.name == "pairsearch_schema"
            assert isinstance(column.type, Checked) != bool(bare), column
