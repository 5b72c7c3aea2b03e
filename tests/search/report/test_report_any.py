"""The report of problems that are not the paper's: any names, texts and booleans, unions of grids, any figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import tiny
from reported import figure, read, table

from pairsearch.search.common.machine import ONE_CORE
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.report.content import Document, Notice, Table
from pairsearch.search.report.document import compose_stored
from pairsearch.search.report.drawing import plain
from pairsearch.search.report.page import render
from pairsearch.search.setup.creation import create_study
from pairsearch.search.workers.evaluating import Evaluator
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.studies.definition import parse
from pairsearch.studies.loading import Loaded, load

PROBLEM = '''
from pairsearch.studies.problem import Metric, OneByOne


class Made(OneByOne):
    """Figures that follow from the parameters: each value counts by the length and the letters of its text."""

    metrics = {
        "score": Metric("accuracy", percent=True, maximise=True),
        "gain": Metric(maximise=True),
        "cost": Metric("cost <b>"),
        "fit": Metric("accuracy seen", percent=True, maximise=True, training=True),
    }

    def fit(self, params, run, report):
        level = sum(sum(map(ord, f"{name}{value!r}")) for name, value in params.items()) % 89 / 100
        for epoch in range(1, run.epochs + 1):
            score = level + 0.01 * epoch + 0.001 * run.index
            report(epoch, score=score, gain=score - 0.9, cost=max(0.0, level - 0.4), fit=1.0)

    def describe(self, params):
        return {"names": str(len(params))}
'''


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    opened = open_database(sqlite_url, create=True)
    yield opened
    opened.close()


def finished(database: Database, folder: Path, grid: Any, **changes: Any) -> StoredStudy:
    """A study of the made-up problem, searched to its end, whose best is evaluated."""
    (folder / "made.py").write_text(PROBLEM)
    raw = {
        "name": "made",
        "problem": "made.py:Made",
        "metric": "score",
        "folds": 3,
        "epochs": 2,
        "grid": grid,
        "evaluation": {"rounds": 2},
    }
    loaded = load(parse(raw | changes, "made"), folder)
    study = create_study(database, loaded).study
    ledger, objective = Ledger(database, study), CrossValidation(loaded)
    while (claim := ledger.claim("worker")) is not None:
        outcome = objective.on(claim.left)(claim.configuration)
        assert outcome is not None
        assert tiny.finish(ledger, claim, outcome)
    evaluate_best(database, study, loaded)
    return study


def evaluate_best(database: Database, study: StoredStudy, loaded: Loaded) -> None:
    best = read(database, study).best
    assert best is not None
    Ledger(database, study).insert_rounds(best, 2)
    Evaluator(ONE_CORE).rounds(database, study, loaded, best, 2)


def drawn(database: Database, *studies: StoredStudy) -> Document:
    """The report, after Plotly and the page have taken it."""
    report = compose_stored(database, studies)
    for one in report.figures:
        for view in one.views:
            go.Figure(view.spec)
    assert "</html>" in render(report)
    return report


def notices(report: Document) -> str:
    blocks = [block for part in report.parts for section in part.sections for block in section.blocks]
    return "\n".join(block.text for block in blocks if isinstance(block, Notice))


def heat(report: Document, name: str, view: int = 0) -> list[dict[str, Any]]:
    return [trace for trace in figure(report, name).views[view].spec["data"] if trace["type"] == "heatmap"]


UNION = [
    {"kernel": ["linear"], "C": [0.1, 1.0, 10.0], "shrinking": [True, False]},
    {"kernel": ["rbf", "poly"], "C": [0.1, 1.0], "shrinking": [True], "gamma": [0.5, 2.0, 8.0]},
]


def test_a_union_of_grids_with_texts_booleans_and_a_maximised_fraction(
    database: Database, tmp_path: Path
) -> None:
    report = drawn(database, finished(database, tmp_path, UNION))
    assert [found.name for found in report.figures] == [
        "evaluation",
        "made-by-epoch",
        "made-score",
        "made-gain",
        "made-cost",
        "made-parallel",
        "made-importance",
        "made-effects",
        "made-learning-curves",
        "made-seconds",
        "made-regret",
        "made-stopping",
    ]
    scores = figure(report, "made-score")
    assert scores.title == "Mean accuracy over C × gamma"
    layout = scores.views[0].spec["layout"]
    assert layout["yaxis"]["ticktext"] == ["0.5", "2", "8", "absent"]
    assert [note["text"] for note in layout["annotations"]] == [
        f"kernel {kernel} · shrinking {shrinking}"
        for shrinking in ("True", "False")
        for kernel in ("linear", "rbf", "poly")
    ]
    # 6 points of the first grid and 12 of the second, each in a cell of its own.
    assert (
        sum(text != "" for trace in heat(report, "made-score") for row in trace["text"] for text in row) == 18
    )
    assert "12 configurations of grid 2, the largest of 2" in figure(report, "made-importance").caption
    effects = table(report, "By the value of each parameter: accuracy, %")
    gamma = [row for row in effects.rows if row[0] == "gamma"]
    assert [row[1:3] for row in gamma] == [("0.5", "4"), ("2", "4"), ("8", "4"), ("absent", "6")]
    # No point without gamma has a fellow that differs in gamma alone.
    assert {row[5:] for row in gamma} == {("–", "0")}


def test_folds_that_are_trained_one_by_one_are_counted_by_what_computed_them(
    database: Database, tmp_path: Path
) -> None:
    grid = {"a": [1, 2]}
    study = finished(database, tmp_path, grid)
    finished(database, tmp_path, grid | {"a": [1, 2, 3]}, name="other")
    tiny.execute(
        database,
        "insert into pairsearch_provenances (id, digest, facts) values (900, 'x', '{\"host\": \"far\"}')",
        "insert into pairsearch_provenances (id, digest, facts) values (901, 'y', '{\"host\": \"loaded\"}')",
        "update pairsearch_runs set provenance_id = 900, seconds = 2 where kind = 'fold'",
        "update pairsearch_runs set provenance_id = null, seconds = null where kind = 'fold' and run = 0",
        "update pairsearch_configurations set provenance_id = 901",
    )
    origins = [one for one in read(database, study).origins if one.work != "evaluation"]
    assert [(one.work, one.facts["host"], one.results, one.seconds) for one in origins] == [
        ("search, folds", "far", 4, 8.0),
        ("search, folds", "loaded", 2, 0.0),
    ]


def test_the_best_of_a_maximised_figure_is_the_highest_everywhere(database: Database, tmp_path: Path) -> None:
    study = finished(database, tmp_path, UNION)
    report, reading = drawn(database, study), read(database, study)
    values = [point.value for point in reading.finished]
    assert values == sorted(values, key=lambda value: -(value or 0.0))
    assert values[0] == max(value for value in values if value is not None)
    best = f"{100 * (values[0] or 0.0):.2f}"
    shades = {
        text: shade
        for trace in heat(report, "made-score")
        for row, of_row in zip(trace["text"], trace["z"], strict=True)
        for text, shade in zip(row, of_row, strict=True)
    }
    assert shades[best] == 0.0
    (ring,) = [
        trace
        for trace in figure(report, "made-score").views[0].spec["data"]
        if trace.get("name") == "search’s best"
    ]
    assert len(ring["x"]) == 1
    effects = table(report, "By the value of each parameter: accuracy, %")
    for name in ("kernel", "C", "shrinking", "gamma"):
        assert best in [row[3] for row in effects.rows if row[0] == name]
    part = next(part for part in report.parts if part.title == "MADE")
    members = next(block for block in part.sections[0].blocks if isinstance(block, Table))
    assert members.header[:2] == ("configuration", "accuracy, %")
    assert members.rows[0][1:3] == (best, "0.00")
    assert all(float(row[2]) >= 0 for row in members.rows)
    assert "accuracy over folds after the last epoch, highest first" in render(report)


def test_table_1_has_the_facts_and_all_figures_that_rounds_reported(
    database: Database, tmp_path: Path
) -> None:
    report = drawn(database, finished(database, tmp_path, UNION))
    found = table(report, "Table 1")
    assert found.header == (
        "study",
        "configuration",
        "hyperparameters",
        "names",
        "n",
        "accuracy seen, %",
        "gain",
        "cost <b>",
        "accuracy, %",
        "95 % interval, accuracy, %",
    )
    ((name, role, _, names, rounds, *_, score, _),) = found.rows
    assert (name, role, rounds) == ("MADE", "search’s best", "2")
    assert names in ("3", "4")
    assert score.endswith("± 0.07")  # of two rounds that differ by a tenth of a per cent
    assert "paper’s" not in render(report)
    assert [view.label for view in figure(report, "evaluation").views] == [
        "accuracy",
        "cost <b>",
        "gain",
        "accuracy seen",
    ]


def test_a_single_parameter_of_texts_that_would_be_markup(database: Database, tmp_path: Path) -> None:
    values = ["<b>", "a" * 200, "x", "%{y}", "&amp;"]
    report = drawn(database, finished(database, tmp_path, {"solver": values}))
    (trace,) = heat(report, "made-score")
    assert [len(row) for row in trace["z"]] == [5]
    axis = figure(report, "made-score").views[0].spec["layout"]["xaxis"]
    assert axis["ticktext"] == ["&lt;b&gt;", f"{'a' * 23}…", "x", "%{y}", "&amp;amp;"]
    assert figure(report, "made-score").title == "Mean accuracy over solver"
    assert "5 finished configurations over 1 varying parameters" in notices(report)
    effects = table(report, "By the value of each parameter: accuracy, %")
    assert [row[6] for row in effects.rows] == ["1"] * 5  # the empty setting of no other parameter
    hovers = [text.partition("<br>")[0] for text in trace["hovertext"][0]]
    assert hovers == [plain(f"solver {value}") for value in values]


def test_curves_of_per_cent_have_a_panel_of_their_own(database: Database, tmp_path: Path) -> None:
    report = drawn(database, finished(database, tmp_path, {"a": [1, 2]}))
    for name in ("made-by-epoch", "made-learning-curves"):
        spec = figure(report, name).views[0].spec
        drawn_on: dict[tuple[str, str], set[str]] = {}
        for trace in spec["data"]:
            drawn_on.setdefault((trace["xaxis"], trace["yaxis"]), set()).add(trace["name"].split(",")[0])
        assert drawn_on == {
            ("x", "y"): {"gain", "cost &lt;b&gt;"},
            ("x2", "y2"): {"accuracy", "accuracy seen"},
        }
        assert spec["layout"]["yaxis"].get("title") is None
        assert spec["layout"]["yaxis2"]["title"]["text"] == "%"


def test_values_that_python_calls_equal_stay_apart(database: Database, tmp_path: Path) -> None:
    grid = {"first": [1, 1.0, True, "1", "True"], "second": [0, False]}
    report = drawn(database, finished(database, tmp_path, grid))
    (trace,) = heat(report, "made-score")
    assert [len([text for text in row if text]) for row in trace["text"]] == [5, 5]
    layout = figure(report, "made-score").views[0].spec["layout"]
    assert layout["xaxis"]["ticktext"] == ["1", "1.0", "True", "'1'", "'True'"]
    assert layout["yaxis"]["ticktext"] == ["0", "False"]
    assert "covers all 10 configurations" in figure(report, "made-importance").caption


@pytest.mark.parametrize("metric", ["gain", "cost"])
def test_negative_figures_and_zeros_after_one_epoch(database: Database, tmp_path: Path, metric: str) -> None:
    grid = {"a": [1, 2, 3], "b": [0.1, 0.2], "c": [True, False]}
    report = drawn(database, finished(database, tmp_path, grid, metric=metric, epochs=1))
    names = [found.name for found in report.figures]
    assert "made-learning-curves" not in names
    assert "made-by-epoch" not in names
    assert not [found.name for found in report.figures if "logarithm" in found.caption]
    (bars,) = figure(report, "made-importance").views[0].spec["data"]
    assert sum(bars["x"]) == pytest.approx(100, abs=0.1)


def test_further_parameters_than_there_is_room_for_show_their_best(
    database: Database, tmp_path: Path
) -> None:
    grid = {"rate": [0.1, 0.2], "decay": [0.5, 1.0], **{name: [1, 2] for name in "abcd"}}
    study = finished(database, tmp_path, grid)
    report, reading = drawn(database, study), read(database, study)
    views = figure(report, "made-score").views
    assert [view.label for view in views] == ["best over c, d", "c 1", "c 2"]
    texts = {text for trace in heat(report, "made-score", 1) for row in trace["text"] for text in row}
    best: dict[tuple[object, ...], float] = {}
    for point in reading.finished:
        params = point.configuration.params
        if params["c"] == 1:
            key = tuple(value for name, value in params.items() if name != "d")
            best[key] = max(best.get(key, 0.0), point.value or 0.0)
    assert len(best) == 16
    assert texts == {f"{100 * value:.2f}" for value in best.values()}


def test_figures_whose_names_make_one_file_name_are_named_apart(database: Database, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(
        "def fit(params, run, report):\n    report(1, **{'val.loss': params['a'], 'val_loss': 1.0, 'parallel': 0.5})\n"
    )
    metrics: dict[str, dict[str, object]] = {"val.loss": {}, "val_loss": {}, "parallel": {}}
    study = finished(
        database,
        tmp_path,
        {"a": [0.5, 1.5]},
        problem="two.py:fit",
        metric="val.loss",
        epochs=1,
        metrics=metrics,
    )
    names = [found.name for found in drawn(database, study).figures]
    assert len(set(names)) == len(names)
    assert names[1:5] == ["made-val-loss", "made-val-loss-other-2", "made-parallel", "made-parallel-other-2"]


def test_studies_of_different_problems_stand_side_by_side(database: Database, tmp_path: Path) -> None:
    import reported  # noqa: PLC0415 - the paper's, in one test alone

    paper = reported.create(database)
    reported.finish(database, paper, 12)
    reported.evaluate(database, paper, paper.definition.paper.configuration, [0.05, 0.06])  # type: ignore[union-attr]
    report = drawn(database, paper, finished(database, tmp_path, UNION))
    found = table(report, "Table 1")
    assert {len(row) for row in found.rows} == {len(found.header)}
    assert found.header[3:5] == ("parameters", "names")
    assert "test error, %" in found.header
    assert "accuracy, %" in found.header
    own = next(row for row in found.rows if row[0] == "MADE")
    assert own[found.header.index("test error, %")] == "–"
    assert own[found.header.index("paper: test error, %")] == ""
