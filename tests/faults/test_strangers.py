"""Workers that would compute something else are turned away, with the difference named; nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import breaking
import promise
import pytest
import tiny

from pairsearch.models.trainer import TRAINING_VERSION
from pairsearch.search.database.connection import open_database


@pytest.fixture
def study(tmp_path: Path, sqlite_url: str) -> Path:
    """The study, created and untouched."""
    return promise.create(tmp_path, sqlite_url)


@pytest.fixture(autouse=True)
def untouched(study: Path, sqlite_url: str) -> Iterator[None]:
    """After each test, the study is as it was."""
    yield
    database = open_database(sqlite_url)
    assert tiny.states(database) == {"pending": promise.POINTS}
    assert promise.trials(database) == []
    database.close()


def test_one_with_other_data(study: Path, sqlite_url: str, tmp_path: Path, mnist_root: Path) -> None:
    other = promise.work(
        tmp_path / "other", sqlite_url, study, "--data", "mnist", "--data-dir", str(mnist_root)
    )
    assert "its data is digits and that given is mnist." in other.complaint


def test_one_with_another_definition(study: Path, sqlite_url: str, tmp_path: Path) -> None:
    mine = tiny.write_toml(tmp_path / "mine.toml", **(promise.FIELDS | {"epochs": 6, "seed": 8}))
    complaint = promise.work(tmp_path / "other", sqlite_url, mine).complaint
    assert "epochs" in complaint
    assert "seed" in complaint


def test_one_with_another_version_of_the_problem(study: Path, sqlite_url: str, tmp_path: Path) -> None:
    other = promise.work(tmp_path / "other", sqlite_url, study, prepare=breaking.of_another_version)
    named = f"its problem's version is {TRAINING_VERSION}, that of the problem here {TRAINING_VERSION + 1}"
    assert named in other.complaint
