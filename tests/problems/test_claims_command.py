"""`pairsearch claims` on a user's problem trains what is missing once, decides and reports, loaded results too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from project import Project
from pyarrow import parquet

CODE = """
from pairsearch import Metric, OneByOne

class Steps(OneByOne):
    metrics = {"loss": Metric("loss"), "error": Metric("error", percent=True)}

    def __init__(self, size=1.0):
        self.size = size

    def check(self, params):
        if params["x"] < 0:
            raise ValueError(f"x: expected at least 0, got {params['x']}")

    def fit(self, params, run, report):
        shared, own = (run.stream(name) / 2**32 for name in ("shared", f"own {params['x']}"))
        loss = self.size * params["x"] + 10 * shared + 0.1 * own
        report(1, loss=loss, error=loss / 1000)
"""
"""A problem whose runs share noise that is a hundred times larger than their own."""
CLAIMS = """
title = "Claims of this test"
rounds = 3

[[claim]]
statement = "The best of mine beats what is beyond its grid."
source = "ours, page 1"
[[claim.evidence]]
kind = "compare"
figure = "error"
first = { study = "mine.toml", best = "loss" }
second = { study = "mine.toml", params = { x = 7 } }

[[claim]]
statement = "More of x is better."
source = "ours, page 2"
[[claim.evidence]]
kind = "effect"
figure = "loss"
studies = ["mine.toml"]
parameter = "x"
values = [1, 2, 3]
[[claim.evidence]]
kind = "compare"
about = "Does the size of a step matter?"
decides = false
figure = "error"
first = { study = "mine.toml", best = "loss" }
second = { study = "steep.toml", params = { x = 1 } }
"""
DECISIONS = ["holds", "does not hold"]
ROUNDS = "where kind = 'round' order by id"


@pytest.fixture
def made(on_sqlite: Project) -> Project:
    """A study of three points, one that is only evaluated, and claims about them."""
    return write_all(on_sqlite)


def write_all(project: Project) -> Project:
    """Write the files of the studies and of the claims."""
    project.write(CODE, problem="mine.py:Steps", grid={"x": [1, 2, 3]}, epochs=1, folds=6)
    (project.folder / "steep.toml").write_text(
        (project.folder / "mine.toml").read_text().replace('name = "mine"', 'name = "steep"')
        + "[settings]\nsize = 1.5\n"
    )
    (project.folder / "claims.toml").write_text(CLAIMS)
    return project


@pytest.fixture(scope="module")
def decided_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the study was searched, the claims decided, and the results exported to `tables`."""
    folder = tmp_path_factory.mktemp("decided")
    project = write_all(Project(folder, f"sqlite:///{folder / 'study.db'}"))
    project.search()
    assert project.run("claims", "claims.toml").code == 0
    assert project.run("export", "mine", "steep", "--out", "tables", "--curves", "mean").code == 0
    project.close()
    return folder


@pytest.fixture
def decided(decided_folder: Path, on_sqlite: Project) -> Project:
    """A copy of that folder."""
    shutil.copytree(decided_folder, on_sqlite.folder, dirs_exist_ok=True)
    return on_sqlite


def told(project: Project, *arguments: str) -> list[dict[str, object]]:
    """What the command prints about the claims, as JSON."""
    found: list[dict[str, object]] = project.told("claims", "claims.toml", *arguments)
    return found


def test_it_trains_what_is_missing_once_and_decides(made: Project) -> None:
    made.search()
    before = told(made, "--stored")
    assert [claim["provisional"] for claim in before] == [True, False]
    assert [claim["decision"] for claim in before] == ["undecided", "does not hold"]
    assert before[0]["missing"] == [
        "0 of 3 rounds of MINE (best loss) are there",
        "0 of 3 rounds of MINE (x 7) are there",
    ]
    assert made.rows("runs", "run", ROUNDS) == []
    ended = made.run("claims", "claims.toml")
    assert (ended.code, ended.err) == (0, "")
    assert "mine: 3 rounds of x=7: 3 trained in" in ended.out
    stored = made.rows("runs", "key, run, figures, finished_at", ROUNDS)
    assert [(key, run) for key, run, *_ in stored] == [
        (key, run) for key in ("x=1", "x=7", "x=1") for run in range(3)
    ]
    after = told(made)
    assert [claim["decision"] for claim in after] == DECISIONS
    assert [claim["missing"] for claim in after] == [[], []]
    # Without pairing, nine errors of up to a hundredth would hide a difference of six thousandths.
    (finding,) = after[0]["findings"]
    low, high = finding["interval"]
    assert low < 0.006 < high
    assert high - low < 0.001
    assert "The studies have" not in " ".join(after[0]["sentences"])
    assert made.rows("runs", "key, run, figures, finished_at", ROUNDS) == stored
    again = made.run("claims", "claims.toml", "--quiet").out
    assert "all stored before" not in again
    for words in ("The best of mine beats what is beyond its grid.", "MINE (x 7)", "does not hold"):
        assert words in again


def test_one_claim_is_told_in_sentences(made: Project) -> None:
    made.search()
    out = made.run("claims", "claims.toml", "--only", "2").out
    assert "Does the size of a step matter?" in out
    assert "Told apart: better at no step, worse at x 1 → 2, x 2 → 3." in out
    assert "A claim holds where all comparisons do" in out
    assert made.rows("runs", "distinct key", "where kind = 'round'") == [("x=1",)]
    complaint = made.run("claims", "claims.toml", "--only", "3").complaint
    assert complaint == "error: there is no claim 3: the file has 2"


def test_it_goes_on_where_it_was_interrupted(made: Project) -> None:
    made.search()
    code = made.folder / "mine.py"
    whole = code.read_text()
    failing = "        if run.kind == 'round' and run.index == 2:\n            1 / 0\n"
    broken = whole.replace("        shared, own", f"{failing}        shared, own")
    for name in ("mine", "steep"):
        path = made.folder / f"{name}.toml"
        path.write_text("allow_changed_files = true\n" + path.read_text())
    made.create()
    code.write_text(broken)
    ended = made.run("claims", "claims.toml")
    assert ended.code == 1
    assert "study mine: x 1: ZeroDivisionError" in ended.err
    assert "finished rounds are kept" in ended.err
    assert made.rows("runs", "key, run", ROUNDS) == [("x=1", 0), ("x=1", 1)]
    code.write_text(whole)
    assert "mine: 3 rounds of x=1: 1 trained in" in made.run("claims", "claims.toml").out
    assert [claim["decision"] for claim in told(made, "--stored")] == DECISIONS


def test_what_cannot_be_decided_is_one_line_and_nothing_is_made(made: Project) -> None:
    folder = made.folder
    complaint = made.run("claims", "claims.toml").complaint
    assert complaint == (
        "error: the claims need the complete grid of mine: `pairsearch run mine.toml` trains what is left"
    )
    assert list(folder.glob("*.db")) == []
    made.search(limit=2)
    assert (
        "the complete grid of mine: `pairsearch run mine.toml`" in made.run("claims", "claims.toml").complaint
    )
    reasons = told(made, "--stored")[1]["missing"]
    assert (
        "study mine is not complete, 1 of 3 configurations are left: `pairsearch run mine.toml` trains it"
        in reasons
    )
    made.search()
    text = (folder / "claims.toml").read_text()
    for old, new, words in (
        ("{ x = 7 }", "{ x = -7 }", "study mine: x: expected at least 0, got -7 (x -7)"),
        ('figure = "error"', 'figure = "depth"', "claim 1: study mine: its problem reports no 'depth'"),
        ("mine.toml", "none.toml", "none.toml: cannot be read (No such file or directory)"),
        ("rounds = 3", "rounds = 0", "rounds: Input should be greater than or equal to 1, got 0"),
    ):
        (folder / "claims.toml").write_text(text.replace(old, new))
        assert words in made.run("claims", "claims.toml").complaint
        assert made.rows("runs", "run", ROUNDS) == []
    assert "nowhere.toml: cannot be read" in made.run("claims", "nowhere.toml").complaint


def test_the_report_has_them(decided: Project) -> None:
    assert decided.run("report", "mine", "--claims", "claims.toml").code == 0
    page = (decided.folder / "pairsearch-report.html").read_text(encoding="utf-8")
    for words in (
        "<h2>Claims</h2>",
        "1. The best of mine beats what is beyond its grid.",
        "<p>Holds. Source: ours, page 1.</p>",
        "Does the size of a step matter?",
        "Forest plot of 3 effects.",
    ):
        assert words in page


def test_loaded_results_give_the_same_decisions_and_nothing_is_trained(
    decided: Project, tmp_path: Path
) -> None:
    fresh = Project(decided.folder, f"sqlite:///{tmp_path / 'fresh.db'}")
    assert fresh.run("load", "tables").code == 0
    assert told(fresh, "--stored") == told(decided, "--stored")
    # All that is compared is there, so that the problem's code is not even loaded.
    (decided.folder / "mine.py").write_text("1 / 0")
    assert told(fresh) == told(decided, "--stored")
    fresh.close()


def test_with_loaded_folds_only_rounds_are_trained(decided: Project, tmp_path: Path) -> None:
    assert decided.run("export", "mine", "--out", "tables", "--curves", "mean").code == 0
    path = decided.folder / "tables" / "rounds.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.slice(0, 0), path)
    studies = decided.folder / "tables" / "studies.parquet"
    about = parquet.read_table(studies)
    place = about.column_names.index("rounds")
    parquet.write_table(about.set_column(place, about.schema.field(place), pa.array([0])), studies)
    fresh = Project(decided.folder, f"sqlite:///{tmp_path / 'fresh.db'}")
    assert fresh.run("load", "tables").code == 0
    ended = fresh.run("claims", "claims.toml", "--json")
    assert ended.code == 0, ended.err
    assert [claim["decision"] for claim in json.loads(ended.out)] == DECISIONS
    assert fresh.states() == {"finished": 3, "pending": 3}
    assert len(fresh.rows("runs", "run", ROUNDS)) == 9
    fresh.close()


def test_results_of_another_definition_are_refused(decided: Project) -> None:
    toml = decided.folder / "mine.toml"
    toml.write_text(toml.read_text().replace("epochs = 1", "epochs = 2"))
    complaint = decided.run("claims", "claims.toml", "--stored").complaint
    assert "study mine in the database differs: " in complaint
    assert "epochs is 1 there and 2 here" in complaint
