"""Files that vanish under workers, and machines whose clock is wrong."""

from __future__ import annotations

import shutil
from datetime import timedelta
from functools import partial
from pathlib import Path

import breaking
import programs
import promise
import pytest
import tiny
from availability import unavailable

from pairsearch.search.database.connection import open_database

HOLDING = partial(breaking.stopped_at, "pairsearch.search.ledger.jobs:Ledger", "finish_and_claim")
DAY = 24 * 60 * 60


def test_data_removed_while_a_worker_runs_are_not_missed(
    tmp_path: Path, sqlite_url: str, mnist_root: Path
) -> None:
    """It has read them; the MNIST here is links to the real one."""
    root = tmp_path / "data"
    (root / "MNIST/raw").mkdir(parents=True)
    for file in (mnist_root / "MNIST/raw").glob("*-ubyte"):
        (root / "MNIST/raw" / file.name).symlink_to(file)
    grid = promise.ONE_POINT | {"batch_size": [10, 25]}
    study = promise.create(tmp_path, sqlite_url, data="mnist", data_dir=root, grid=grid)
    worker = promise.start(tmp_path / "worker", sqlite_url, study, "--data-dir", str(root), prepare=HOLDING)
    promise.wait_until_stopped(worker)
    shutil.rmtree(root)
    promise.go_on(worker)
    ended = programs.ended(worker, tmp_path / "worker")
    assert (ended.code, ended.err) == (0, "")
    database = open_database(sqlite_url)
    promise.assert_kept(database, points=2)
    database.close()


@pytest.mark.parametrize("back", [True, False], ids=["and put back", "for good"])
def test_a_folder_with_the_database_moved_away_under_a_worker(
    tmp_path: Path, expected: list[tuple[object, ...]], back: bool
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    url = f"sqlite:///{here / 'study.db'}"
    study = promise.create(tmp_path, url)
    worker = promise.start(
        tmp_path / "worker", url, study, "--patience", "60" if back else "1", "--lease", "1", prepare=HOLDING
    )
    promise.wait_until_stopped(worker)
    here.rename(there)
    promise.go_on(worker)
    if back:
        worker.join(2.0)
        there.rename(here)
    ended = programs.ended(worker, tmp_path / "worker")
    if back:
        assert ended.code == 0, ended.err
    else:
        assert ended.code == 1
        assert "was removed or replaced while it was in use" in ended.err.splitlines()[-1]
        assert not here.exists(), "no second database was made"
        there.rename(here)
        assert promise.work(tmp_path / "next", url, study, "--lease", "1").code == 0
    database = open_database(url)
    promise.assert_kept(database, expected)
    database.close()


def faketime() -> str:
    """The library that lies to a program about the time, a real wrong clock as far as the program can see."""
    folders = [Path("/usr/lib"), Path("/usr/local/lib"), Path("/opt/homebrew/lib")]
    found = [file for folder in folders for file in folder.glob("**/faketime/libfaketimeMT.so.1")]
    if not found:
        unavailable("libfaketime is not installed (Debian: apt-get install faketime)")
    return str(found[0])


def test_leases_go_by_the_database_s_clock(
    postgresql_url: str, tmp_path: Path, at_leisure: list[tuple[object, ...]]
) -> None:
    """Two workers, one a day ahead and one a day behind, take nothing from each other."""
    library = faketime()
    # Without its rests, for libfaketime makes errors of Python's sleep.
    study = promise.create_own(tmp_path, postgresql_url, rest=0)
    half = ("--max-trials", str(promise.OWN_POINTS // 2))
    workers = []
    for name, offset in (("ahead", DAY), ("behind", -DAY)):
        (tmp_path / name).mkdir()
        wrong = {
            "LD_PRELOAD": library,
            "FAKETIME": f"{offset:+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        workers.append(
            programs.start(
                tmp_path / name, "worker", str(study), *half, PAIRSEARCH_STORAGE=postgresql_url, **wrong
            )
        )
    ends = [(worker.communicate(timeout=programs.PATIENCE), worker.returncode) for worker in workers]
    assert [code for _, code in ends] == [0, 0], ends
    database = open_database(postgresql_url)
    promise.assert_kept(database, at_leisure, promise.OWN_POINTS)
    assert tiny.rows(database, "jobs", "distinct claims, lapses") == [(1, 0)]
    begun = [trial.datetime_start for trial in promise.trials(database) if trial.datetime_start is not None]
    assert max(begun) - min(begun) > timedelta(days=1), "the clocks were wrong"
    database.close()
