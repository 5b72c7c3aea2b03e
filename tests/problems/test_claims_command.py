"""`pairsearch claims` on a user's problem trains what is missing once, decides, reports and publishes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from project import Project
from pyarrow import parquet
from typer.testing import CliRunner

from pairsearch.search.claims.deciding import decide
from pairsearch.search.claims.sentences import claim_json
from pairsearch.search.claims.training import find_sources
from pairsearch.search.errors import InputError, StudyError
from pairsearch.search.evaluation.evaluating import Chosen, Evaluator, evaluate_studies
from pairsearch.search.machine import ONE_CORE
from pairsearch.search.measure.published.__main__ import app
from pairsearch.search.measure.published.claims import write_claims
from pairsearch.search.measure.published.reading import read
from pairsearch.search.measure.published.writing import write
from pairsearch.search.setup.opening import load, look_all_up
from pairsearch.studies import claims_file
from pairsearch.studies.configuration import Configuration

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
    """A folder in which the study was searched, the claims decided, and the results published to `results`."""
    folder = tmp_path_factory.mktemp("decided")
    project = write_all(Project(folder, f"sqlite:///{folder / 'study.db'}"))
    project.search()
    assert project.run("claims", "claims.toml").code == 0
    given = look_all_up(project.database, [str(folder / "mine.toml")])
    loaded = {"mine": load(project.database, given[0], ONE_CORE)}
    chosen = Chosen("search", project.study(), [Configuration({"x": 1})])
    evaluate_studies(project.database, [chosen], loaded, Evaluator(ONE_CORE), None)
    write(read(project.database, ["mine"]), folder / "results")
    write_claims(project.database, str(folder / "claims.toml"), folder / "results")
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


def test_published_decisions_can_be_made_again_from_the_tables_alone(decided: Project) -> None:
    folder = decided.folder / "results"
    path = decided.folder / "claims.toml"
    claims = claims_file.read(path)
    told_here = told(decided, "--stored")
    sources = find_sources(claims, path, None, folder)
    again = [claim_json(one) for one in decide(claims, sources.material(None))]
    assert json.loads(json.dumps(again)) == told_here
    rows = parquet.read_table(folder / "claims.parquet").to_pylist()
    assert [(row["study"], row["params"], row["round"]) for row in rows] == [
        (study, params, index)
        for study, params in (("mine", '{"x": 1}'), ("mine", '{"x": 7}'), ("steep", '{"x": 1}'))
        for index in range(3)
    ]
    facts = parquet.read_schema(folder / "claims.parquet").metadata
    assert json.loads(facts[b"provenance"])["processors"] == [rows[0]["processor"]]
    assert json.loads(facts[b"claims"])["title"] == "Claims of this test"
    page = (folder / "claims.md").read_text(encoding="utf-8")
    assert "| 2 | More of x is better. | ours, page 2 | **does not hold** |" in page
    assert "python -m pairsearch.search.measure.published --write" in page
    # Written anew they are the same, byte by byte.
    once, twice = decided.folder / "once", decided.folder / "twice"
    for other in (once, twice):
        write_claims(decided.database, str(path), other)
    for name in ("claims.parquet", "claims.md"):
        assert (once / name).read_bytes() == (twice / name).read_bytes()


def test_with_published_folds_only_rounds_are_trained(decided: Project, tmp_path: Path) -> None:
    folder = decided.folder / "results"
    (folder / "claims.parquet").unlink()
    url = f"sqlite:///{tmp_path / 'fresh.db'}"
    ended = decided.run("claims", "claims.toml", "--results", str(folder), "--storage", url, "--json")
    assert ended.code == 0, ended.err
    assert [claim["decision"] for claim in json.loads(ended.out)] == DECISIONS
    fresh = Project(decided.folder, url)
    assert fresh.states() == {"pending": 6}
    assert len(fresh.rows("runs", "run", ROUNDS)) == 9
    fresh.close()


def test_published_folds_of_another_study_or_version_are_refused(decided: Project) -> None:
    folder = decided.folder / "results"
    other = decided.folder / "other"
    shutil.copytree(folder, other)
    for path in other.glob("*.parquet"):
        table = parquet.read_table(path)
        problems = json.loads(table.schema.metadata[b"problems"])
        problems["mine"]["version"] = 2
        changed = table.schema.metadata | {b"problems": json.dumps(problems).encode()}
        parquet.write_table(table.replace_schema_metadata(changed), path)
    complaint = decided.run("claims", "claims.toml", "--results", str(other)).complaint
    assert "study mine: its published results are of data" in complaint
    toml = decided.folder / "mine.toml"
    toml.write_text(toml.read_text().replace("epochs = 1", "epochs = 2"))
    complaint = decided.run("claims", "claims.toml", "--results", str(folder), "--stored").complaint
    assert "study mine differs from the published one: " in complaint
    assert "epochs is 1 there and 2 here" in complaint


def test_the_program_that_publishes_takes_a_file_of_claims_and_a_folder(decided: Project) -> None:
    folder = decided.folder / "results"
    (folder / "claims.md").unlink()
    given = ["--claims", str(decided.folder / "claims.toml")]
    written = CliRunner().invoke(app, [*given, "--write", str(folder), "--storage", decided.url])
    assert (written.exit_code, (folder / "claims.md").exists()) == (0, True)
    assert "claims.parquet: " in written.output
    refused = CliRunner().invoke(
        app, [*given, "--write", str(folder), "--study", "mine", "--storage", decided.url]
    )
    assert refused.exit_code == 2
    assert "--claims goes with --write FOLDER, and without --study" in refused.output


def test_rounds_that_are_missing_are_refused(made: Project) -> None:
    made.search()
    made.create(made.folder / "steep.toml")
    with pytest.raises(
        StudyError, match=r"study mine: 3 of 3 rounds of x=1 are missing: `pairsearch claims`"
    ):
        write_claims(made.database, str(made.folder / "claims.toml"), made.folder / "results")
    assert not (made.folder / "results" / "claims.parquet").exists()


def test_published_rounds_that_are_damaged_are_refused(decided: Project) -> None:
    folder, path = decided.folder / "results", decided.folder / "claims.toml"
    table = parquet.read_table(folder / "claims.parquet")
    parquet.write_table(table.drop_columns(["round"]), folder / "claims.parquet")
    with pytest.raises(InputError, match=r"claims\.parquet cannot be read as rounds of claims \(KeyError\)"):
        find_sources(claims_file.read(path), path, None, folder)
    (folder / "claims.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(InputError, match=r"claims\.parquet cannot be read as published results"):
        find_sources(claims_file.read(path), path, None, folder)
