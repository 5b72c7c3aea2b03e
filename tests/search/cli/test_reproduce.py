"""The main job from end to end, on a tiny study of the digits in place of the paper's four."""

from __future__ import annotations

import json
from pathlib import Path

import programs
import pytest
import tiny

import pairsearch.studies.reproduction

PAPER = {"batch_size": 25, "learning_rate": 1e-4, "weight_decay": 0.1}


def take_the_tiny_study() -> None:
    pairsearch.studies.reproduction.study_names = lambda: ["tiny.toml"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write_toml(tmp_path / "tiny.toml", paper=tiny.PAPER)
    return tmp_path


def reproduce(folder: Path, *arguments: str) -> programs.Ended:
    given = ("reproduce", "--data", "digits", "--workers", "1", "--no-models", *arguments)
    ended = programs.run(folder, *given, prepare=take_the_tiny_study)
    assert ended.code == 0, ended.err
    return ended


def test_it_evaluates_the_best_and_the_paper_s_own_configuration_of_each_study(folder: Path) -> None:
    quick = reproduce(folder, "--quick", "--json")
    best, paper = json.loads(quick.out)
    assert (best["chosen_by"], paper["chosen_by"]) == ("search", "paper")
    assert (best["rounds"], paper["rounds"], paper["params"]) == (2, 2, PAPER)
    assert "searched a slice" in quick.err
    # The whole goes on from there: what is finished is kept, and both tables are printed.
    whole = reproduce(folder)
    assert whole.out.count("all stored before") == 2
    titles = [line for line in whole.out.splitlines() if line.startswith("Table 1")]
    assert [title.partition(":")[0] for title in titles] == [
        "Table 1, the best of the search, data digits",
        "Table 1, the paper's configurations, data digits",
    ]
