"""Training that fails: three attempts on any worker, then *failed* with its reason, until somebody says retry."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import breaking
import programs
import promise
import tiny

from pairsearch.search.database.connection import open_database

POOR = "batch_size=25 learning_rate=0.001 weight_decay=0.0"


def test_out_of_memory_is_tried_again_after_a_control_shown_and_laid_out_again(
    sqlite_url: str, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    study = promise.create(tmp_path, sqlite_url)
    failing = partial(breaking.out_of_memory, POOR)
    ended = promise.work(tmp_path / "worker", sqlite_url, study, prepare=failing)
    assert ended.code == 1
    assert "MemoryError" in ended.out
    assert "1 failed" in ended.out

    database = open_database(sqlite_url)
    assert tiny.states(database) == {"finished": 11, "failed": 1}
    assert tiny.rows(database, "configurations", "key, errors, claims", "where state = 'failed'") == [
        (POOR, 1, 1)
    ]
    looked = programs.run(tmp_path, "status", PAIRSEARCH_STORAGE=sqlite_url)
    assert "hardy: coverage 11/12, 1 failed (`pairsearch retry hardy` has them tried again):" in looked.out
    assert f"  {POOR}: MemoryError" in looked.out

    again = programs.run(tmp_path, "retry", "hardy", PAIRSEARCH_STORAGE=sqlite_url)
    assert again.out == "hardy: 1 failed configurations to be tried again\n"
    assert promise.work(tmp_path / "healthy", sqlite_url, study).code == 0
    promise.assert_kept(database, expected)
    database.close()


def test_a_size_that_no_machine_has_memory_for_fails_with_the_reason(tmp_path: Path, sqlite_url: str) -> None:
    """A real one: NumPy cannot allocate an exabyte."""
    study = promise.create_hungry(tmp_path, sqlite_url, [1, 2**60])
    ended = promise.work(tmp_path / "worker", sqlite_url, study)
    assert ended.code == 1
    database = open_database(sqlite_url)
    assert tiny.states(database) == {"finished": 1, "failed": 1}
    [(reason,)] = tiny.rows(database, "configurations", "reason", "where state = 'failed'")
    assert reason.startswith("MemoryError: Unable to allocate 1.00 EiB for an array")
    database.close()
