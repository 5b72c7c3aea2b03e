"""The main job from end to end, on a tiny study of the digits in place of the paper's four."""

from __future__ import annotations

import json
from pathlib import Path

import programs
import pytest
import tiny

import pairsearch.search.cli.reproduce

PAPER = {"batch_size": 25, "learning_rate": 1e-4, "weight_decay": 0.1}


def take_the_tiny_study() -> None:
    pairsearch.search.cli.reproduce.study_names = lambda: ["tiny.toml"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write_toml(tmp_path / "tiny.toml", paper=tiny.PAPER)
    return tmp_path


def reproduce(folder: Path, *arguments: str) -> programs.Ended:
    given = ("reproduce", "--data", "digits", "--workers", "1", "--no-models", *arguments)
    ended = programs.run(folder, *given, prepare=take_the_tiny_study)
    assert ended.code == 0, ended.err
    return ended


def test_whole_it_evaluates_the_best_and_the_paper_s_own_configuration_of_each_study(folder: Path) -> None:
    best, paper = json.loads(reproduce(folder, "--json").out)
    assert (best["chosen_by"], paper["chosen_by"]) == ("search", "paper")
    assert (best["rounds"], paper["rounds"], paper["params"]) == (2, 2, PAPER)
    # What is finished is kept, and both tables are printed.
    again = reproduce(folder)
    assert again.out.count("all stored before") == 2
    titles = [line for line in again.out.splitlines() if line.startswith("Table 1")]
    assert [title.partition(":")[0] for title in titles] == [
        "Table 1, the best of the search, data digits",
        "Table 1, the paper's configurations, data digits",
    ]


def test_quick_it_searches_a_slice_and_evaluates_its_best_and_the_papers_own(folder: Path) -> None:
    ended = reproduce(folder, "--quick", "--json")
    assert [row["chosen_by"] for row in json.loads(ended.out)] == ["search", "paper"]
    assert "searched a slice" in ended.err
