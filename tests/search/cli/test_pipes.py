"""A reader that has enough, such as `head`, ends the program quietly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import programs
import pytest
import reported

from pairsearch.search.cli.streams import ends_with_its_reader
from pairsearch.search.common.errors import ExitCode
from pairsearch.search.database.connection import open_database


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pipes")
    database = open_database(f"sqlite:///{found / 'pairsearch.db'}", create=True)
    reported.finish(database, reported.create(database))
    database.close()
    # What Optuna has of them is made from the ledger once, with a note.
    assert programs.run(found, "status").code == 0
    return found


@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [
        ("best pairs --top 32", ""),
        ("best pairs --top 32", "1"),
        ("status --json", ""),
        ("--help", ""),
        ("best --help", "1"),
    ],
)
def test_a_pipe_without_a_reader_ends_it_quietly(folder: Path, command: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "pairsearch", *command.split()],
            cwd=folder,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=programs.environment(PYTHONUNBUFFERED=unbuffered),
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (ExitCode.OUTPUT_CLOSED, "")


def test_another_broken_pipe_is_a_bug_and_stays_one() -> None:
    with pytest.raises(BrokenPipeError), ends_with_its_reader():
        raise BrokenPipeError
