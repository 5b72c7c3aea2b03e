"""Bad storage URLs to the real program: one line on standard error, exit code 2, no password in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import programs
import pytest
import tiny
from sqlalchemy import text

from pairsearch.search.database.connection import open_database

COMMANDS = ("studies", "create", "status", "worker", "evaluate")


def complaints(folder: Path, storage: str) -> list[str]:
    """What every command answers, the URL given by option and by environment in turn."""
    tiny.write_toml(folder / "tiny.toml")
    found = []
    for place, command in enumerate(COMMANDS):
        study = () if command == "studies" else ("tiny.toml",) if command != "status" else ("tiny",)
        data = ("--data", "digits") if command in ("create", "worker", "evaluate") else ()
        if place % 2:
            ended = programs.run(folder, command, *study, *data, PAIRSEARCH_STORAGE=storage)
        else:
            ended = programs.run(folder, command, *study, *data, "--storage", storage)
        # tests/search/common/test_concealment.py holds the warning about passwords on the command line.
        lines = [
            line for line in ended.err.splitlines(keepends=True) if not line.startswith("warning: other")
        ]
        found.append(replace(ended, err="".join(lines)).complaint)
    return found


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "storage URL is malformed"),
        ("postgresql://ann:open-sesame@host:port/db", "storage URL is malformed"),
        ("mysql://ann:open-sesame@host/db", "storage URL names database 'mysql'"),
        ("sqlite://", "names no file"),
        ("postgresql://ann:open-sesame@127.0.0.1:1/db", "is not reachable"),
        ("postgresql://ann@127.0.0.1:1/db?password=open-sesame", "is not reachable"),
        ("sqlite:///notes.txt", "notes.txt is no SQLite database"),
        ("sqlite:///.", "cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused(tmp_path: Path, storage: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("Dear diary, " * 100)
    for complaint in complaints(tmp_path, storage):
        assert message in complaint
        assert "open-sesame" not in complaint
    assert (tmp_path / "notes.txt").read_text() == "Dear diary, " * 100


def test_a_newer_schema_is_refused(tmp_path: Path, database_url: str) -> None:
    database = open_database(database_url, create=True)
    with database.write() as connection:
        connection.execute(text("update pairsearch_schema set version = 99"))
    for complaint in complaints(tmp_path, database_url):
        assert "has schema version 99, newer than this program's" in complaint
        assert "open-sesame" not in complaint
    assert tiny.rows(database, "studies") == []
    database.close()


def test_a_database_that_may_only_be_read_can_be_looked_at_and_not_worked_on(tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    tiny.write_toml(tmp_path / "new.toml", name="new")
    assert programs.run(tmp_path, "create", "tiny.toml", "--data", "digits").code == 0
    storage = ("--storage", "sqlite:///file:pairsearch.db?mode=ro&uri=true")
    assert programs.run(tmp_path, "status", "tiny", *storage).code == 0
    for arguments in (("worker", "tiny.toml"), ("create", "new.toml", "--data", "digits")):
        assert "is read-only" in programs.run(tmp_path, *arguments, *storage).complaint


def test_a_missing_database_is_named_and_not_made(tmp_path: Path) -> None:
    assert f"no database at {tmp_path}/pairsearch.db" in programs.run(tmp_path, "status").complaint
    assert not (tmp_path / "pairsearch.db").exists()
