"""Many processes at once on one database: none of their users hears of locks."""

from __future__ import annotations

from pathlib import Path

import programs
import promise
import tiny
from bouncer import bouncing
from server import Server

from pairsearch.search.database.connection import open_database
from pairsearch.search.ledger.studies import list_studies
from pairsearch.search.setup import opening

CREATORS = 8
WORKERS = 8


def test_eight_creations_at_once_on_a_fresh_database(database_url: str, tmp_path: Path) -> None:
    toml = tiny.write_toml(tmp_path / "hardy.toml", **promise.FIELDS)
    folders = [tmp_path / f"creator{number}" for number in range(CREATORS)]
    creators = []
    for folder in folders:
        folder.mkdir()
        arguments = ("create", str(toml), "--data", "digits")
        creators.append(programs.start_forked(folder, *arguments, PAIRSEARCH_STORAGE=database_url))
    ends = [programs.ended(*pair) for pair in zip(creators, folders, strict=True)]
    assert [(ended.code, ended.err) for ended in ends] == [(0, "")] * CREATORS
    said = sorted(ended.out for ended in ends)
    assert said == sorted(
        ["hardy: created, 12 configurations inserted\n"]
        + ["hardy: was there, 0 configurations inserted\n"] * (CREATORS - 1)
    )
    database = open_database(database_url)
    assert tiny.states(database) == {"pending": promise.POINTS}
    assert tiny.rows(database, "configurations", "rank", "order by rank") == [
        (rank,) for rank in range(promise.POINTS)
    ]
    assert len(tiny.rows(database, "schema")) == 1
    (study,) = list_studies(database)
    opening.reconcile(database, [study])
    database.close()


def test_eight_workers_on_one_sqlite_file(
    sqlite_url: str, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    study = promise.create(tmp_path, sqlite_url)
    folders = [tmp_path / f"worker{number}" for number in range(WORKERS)]
    workers = [promise.start(folder, sqlite_url, study) for folder in folders]
    ends = [programs.ended(*pair) for pair in zip(workers, folders, strict=True)]
    assert [(ended.code, ended.err) for ended in ends] == [(0, "")] * WORKERS
    database = open_database(sqlite_url)
    promise.assert_kept(database, expected)
    assert tiny.rows(database, "configurations", "distinct claims") == [(1,)]
    database.close()


def test_workers_behind_pgbouncer(
    server: Server, server_url: str, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    """Six workers, which would have twelve connections, on four."""
    with bouncing(server, server_url, tmp_path, connections=4) as url:
        study = promise.create(tmp_path, url)
        folders = [tmp_path / f"worker{number}" for number in range(6)]
        workers = [promise.start(folder, url, study) for folder in folders]
        ends = [programs.ended(*pair) for pair in zip(workers, folders, strict=True)]
        assert [(ended.code, ended.err) for ended in ends] == [(0, "")] * 6
    database = open_database(server_url)
    promise.assert_kept(database, expected)
    assert tiny.rows(database, "configurations", "distinct claims") == [(1,)]
    database.close()
