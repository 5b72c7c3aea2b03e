"""The replay command of the real program: from a database, from results that were loaded, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import programs
import pytest
import reported

from pairsearch.search.database.connection import open_database
from pairsearch.search.replay.simulation import SAMPLERS, Pruner, Sampler
from pairsearch.search.replay.stopping import RULES

pytestmark = pytest.mark.xdist_group("report")
QUICK = ("--sampler", "grid", "--sampler", "random", "--seeds", "20", "--orders", "5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `pairsearch.db` holds a finished study and one that is half done."""
    found = tmp_path_factory.mktemp("replayed")
    database = open_database(f"sqlite:///{found / 'pairsearch.db'}", create=True)
    reported.finish(database, reported.create(database), 32)
    reported.finish(database, reported.create(database, name="half"), 16)
    database.close()
    return found


def test_a_stored_study_is_searched_again_with_equal_results(folder: Path) -> None:
    first, again = (programs.run(folder, "replay", "pairs", "--json", *QUICK) for _ in range(2))
    assert (first.code, first.err, first.out) == (0, "", again.out)
    found = json.loads(first.out)
    assert found["configurations"] + found["excluded"] == 32
    assert [one["sampler"] for one in found["replays"]] == ["grid", "random"]
    assert found["replays"][1]["by_trials"]["regret"][2][-1] == 0.0
    # Two folds are too few for Wilcoxon's test and a race.
    assert {one["pruner"] for one in found["stopping"]} == {"median", "hyperband"}


def test_the_terminal_shows_what_was_needed_and_what_stopping_early_costs(
    folder: Path, paper_url: str
) -> None:
    ended = programs.run(folder, "replay", "b1", "--storage", paper_url, "--regret", "0.05", *QUICK)
    assert (ended.code, ended.err) == (0, "")
    for shown in (
        "trials until the choice is so close to the best of 64",
        "0.0500",
        "early stopping",
        "race",
    ):
        assert shown in ended.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("half",), "study half is not complete: 16 configurations are still to be trained"),
        (("nine",), "study nine is not in"),
        (("pairs", "--regret", "inf"), "expected finite numbers"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(
    folder: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    ended = programs.run(folder, "replay", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert complaint in " ".join(ended.err.split())


def test_the_command_offers_every_sampler_and_pruner_that_can_be_searched_with() -> None:
    assert list(Sampler) == list(SAMPLERS)
    assert list(Pruner) == ["none", *RULES]
