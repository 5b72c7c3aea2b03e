"""The README is short, says what is promised, and its figures are those that the program gives."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import programs
import pytest
from pages import DOCS, README, ROOT, rows, shown, text_of

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.results.study_table import Rounds, read_table
from pairsearch.studies.configuration import Configuration

LARGEST = 8192
"""Bytes: what is longer belongs into the documentation."""
TEXT = README.read_text(encoding="utf-8")


def test_it_is_short_and_opens_with_the_name_and_the_first_commands() -> None:
    assert len(TEXT.encode()) <= LARGEST
    assert TEXT.startswith("# pairsearch\n")
    load, report = ["pairsearch", "load", "paper"], ["pairsearch", "report", "b1", "b2", "ws", "wsal"]
    assert shown(README)[:4] == [["make", "run"], load, report, ["make", "test"]]


def test_it_makes_the_promise_that_the_fault_tests_hold() -> None:
    promise = (
        "**Every configuration of a study is finished exactly once, its figures are the same bit for bit as those of "
        "one undisturbed worker, and no trial is left RUNNING, whatever happens to workers, "
        "machines or the database on the way**"
    )
    for page in (README, DOCS / "explanation/promise.md"):
        assert promise in " ".join(page.read_text(encoding="utf-8").replace(".**", "**").split()), page


def test_its_results_are_the_published_ones(paper: Database) -> None:
    for model, *stated in rows(text_of(README, "Results"), "model"):
        table = read_table(paper, get_study(paper, model.lower()))
        stated_by_paper = table.definition.paper
        assert stated_by_paper is not None
        best = table.configurations[int(table.values["val_loss"].mean(axis=1).round(12).argmin())]
        test = stated_by_paper.figures["test_error"]
        given = [f"{100 * test.mean:.2f} ± {100 * test.std:.2f}"]
        for one in (stated_by_paper.configuration, best):
            given.insert(0, _test_error(table.rounds, one))
        assert stated == given


def _test_error(rounds: Rounds, configuration: Configuration) -> str:
    """Mean and deviation of the test error over the first ten rounds."""
    errors = [100 * (rounds[configuration.key][index]["test_error"] or 0.0) for index in range(10)]
    return f"{mean(errors):.2f} ± {stdev(errors):.2f}"


@pytest.mark.soak
def test_its_first_command_ends_in_the_table_that_it_shows(tmp_path: Path, mnist_root: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^run:.*\n\t\$\(BIN\)/pairsearch (.*)", makefile, re.MULTILINE)
    assert recipe is not None
    done = subprocess.run(
        [Path(sys.executable).parent / "pairsearch", *recipe[1].split()],
        cwd=tmp_path,
        env=programs.environment(PAIRSEARCH_DATA=str(mnist_root), COLUMNS="160"),
        capture_output=True,
        text=True,
        check=True,
    )
    second = done.stdout.partition("Table 1, the paper's configurations")[2]
    printed = [line.split("│")[1:-1] for line in second.splitlines() if line.startswith("│")]
    assert rows(text_of(README, "Install"), "study") == [
        [cell.strip() for cell in cells] for cells in printed
    ]
