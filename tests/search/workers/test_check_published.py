"""The check of the shipped results trains some again, gets the same bits, and finds any other bit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from check_published import Checker, Task, lines

from pairsearch.search.common.errors import StudyError
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.results.study_table import read_table


@pytest.fixture
def copy(paper_url: str, tmp_path: Path) -> Iterator[Database]:
    """A copy of the database with the shipped results."""
    shutil.copy(paper_url.removeprefix("sqlite:///"), tmp_path / "paper.db")
    opened = open_database(f"sqlite:///{tmp_path / 'paper.db'}")
    yield opened
    opened.close()


def checker(database: Database, mnist_root: Path, *names: str) -> Checker:
    """A checker of some studies."""
    return Checker(database, Machine(settings={"data_dir": str(mnist_root)}), names)


def cheapest(check: Checker, study: str) -> Task:
    """The configuration of a study that takes the least time."""
    table = read_table(check.database, check.studies[study])
    return study, table.configurations[int(table.seconds.argmin())], None


def test_a_cheap_configuration_has_the_same_bits_here(paper: Database, mnist_root: Path) -> None:
    check = checker(paper, mnist_root, "wsal")
    ((line, same),) = lines(check, [cheapest(check, "wsal")])
    assert same, line


def test_the_last_bit_of_a_figure_is_found_and_named(copy: Database, mnist_root: Path) -> None:
    check = checker(copy, mnist_root, "b1")
    task = cheapest(check, "b1")
    mine = f"\"key\" = '{task[1].key}' and study_id = {check.studies['b1'].id}"
    with copy.write() as connection:
        for what in ("kind = 'fold' and run = 3", "kind = 'mean'"):
            found = connection.exec_driver_sql(
                f"select id, figures from pairsearch_runs where {mine} and {what}"  # noqa: S608
            ).one()
            figures = json.loads(found.figures)
            figures["val_loss"] = math.nextafter(figures["val_loss"], 9.0)
            connection.exec_driver_sql(
                "update pairsearch_runs set figures = ? where id = ?", (json.dumps(figures), found.id)
            )
        ((points,),) = connection.exec_driver_sql(
            "select points from pairsearch_curves where run_id = ? and figure = 'val_error'", (found.id,)
        )
        curve = json.loads(points)
        curve[4] = math.nextafter(curve[4], 9.0)
        connection.exec_driver_sql(
            "update pairsearch_curves set points = ? where run_id = ? and figure = 'val_error'",
            (json.dumps(curve), found.id),
        )
    ((line, same),) = lines(check, [task])
    assert not same
    # Nothing else differs: what was not changed has the same bits here.
    fold, mean, _ = line.split("; ")
    assert fold.startswith(f"{task[0]} {task[1].key}: OTHER BITS: fold 3 (val_loss ")
    assert mean.startswith("means of epoch 5 (val_error ")


def test_a_sample_is_spread_over_the_studies_and_follows_from_its_seed(
    paper: Database, mnist_root: Path
) -> None:
    check = checker(paper, mnist_root, "b1", "ws")
    drawn = check.draw(4, seed=5)
    assert sorted(study for study, _, index in drawn if index is None) == ["b1", "b1", "ws", "ws"]
    assert len([index for *_, index in drawn if index is not None]) == 2
    assert check.draw(4, seed=5) == drawn
    assert check.draw(4, seed=6) != drawn


def test_results_of_other_data_or_versions_are_refused(copy: Database, mnist_root: Path) -> None:
    with copy.write() as connection:
        connection.exec_driver_sql(
            "update pairsearch_studies set problem = replace(problem, '\"version\": 2', '\"version\": 1')"
        )
    with pytest.raises(StudyError, match="its problem's version is 1, that of the problem here 2"):
        checker(copy, mnist_root, "b1")
