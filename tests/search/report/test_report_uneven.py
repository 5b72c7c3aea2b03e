"""The report of a study that is half done, beside others: what it shows, worked out again from a list of points."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import reported
import tiny
from reported import figure, read, table

from pairsearch.search.database.connection import open_database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.report import curves, document, evaluation
from pairsearch.search.report.content import Document, Figure, Notice, Table
from pairsearch.search.report.coverage import section as coverage
from pairsearch.search.report.drawing import Shade, briefly, spans
from pairsearch.search.report.effects import section as effects
from pairsearch.search.report.effects import time_section
from pairsearch.search.report.grid import section as the_grid
from pairsearch.search.report.parameters import number
from pairsearch.search.report.reading import Reading, read_all
from pairsearch.search.results.chosen_figures import choice
from pairsearch.search.results.formatting import DASH, duration
from pairsearch.studies.configuration import Configuration, describe
from pairsearch.studies.problem import Metric

GRID = {
    "batch_size": [10, 25, 50],
    "learning_rate": [1e-4, 1e-3],
    "weight_decay": [0.0],
    "hidden_units": [10, 50],
    "aux_loss_weight": [1.0, 5.0],
}
ENDS = {
    (10, 1e-4, 10, 1.0): State.FAILED,
    (10, 1e-3, 50, 5.0): State.DIVERGED,
    (25, 1e-4, 10, 5.0): State.PRUNED,
    (25, 1e-3, 10, 1.0): State.RUNNING,
}
"""By batch size, learning rate, hidden units and weight; the others of batch size 50 are pending, the rest finished."""
LOSS, ERROR = Metric("validation loss"), Metric("validation error", percent=True)
ROUNDS = [0.05, 0.07, 0.12]


@dataclass(frozen=True)
class Point:
    configuration: Configuration
    state: State
    value: float
    seconds: float

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.configuration.params)

    @property
    def finished(self) -> bool:
        return self.state == State.FINISHED


def point(configuration: Configuration) -> Point:
    params = configuration.params
    names = ("batch_size", "learning_rate", "hidden_units", "aux_loss_weight")
    otherwise = State.PENDING if params["batch_size"] == 50 else State.FINISHED
    state = ENDS.get(tuple(params[name] for name in names), otherwise)
    seconds = 3 * params["batch_size"] - params["hidden_units"] / 7 + params["aux_loss_weight"] / 10
    return Point(configuration, state, float(reported.value_of(configuration)), seconds)


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Reading]]:
    """The half of a study with three rounds; one whose best is the paper's; one with the paper's alone; nothing."""
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('uneven') / 'study.db'}", create=True)
    study = reported.create(database, grid=GRID, paper=None)
    ledger = Ledger(database, study)
    every = list(map(point, study.definition.grid.configurations()))
    for one in every:
        key = one.configuration.key
        if one.finished:
            claim = ledger.claim("worker", key=key)
            assert claim is not None
            made = replace(reported.outcome(one.configuration), seconds=one.seconds)
            assert tiny.finish(ledger, claim, made)
        elif one.state == State.RUNNING:
            assert ledger.claim("worker", key=key) is not None
        elif one.state != State.PENDING:
            reported.end(database, study, one.state, f"it {one.state.value} <so>", key)
    best = min((one for one in every if one.finished), key=lambda one: one.value)
    reported.evaluate(database, study, best.configuration, ROUNDS)
    tiny.execute(
        database,
        "update pairsearch_configurations set finished_at = 1000 + rank where finished_at is not null",
        "update pairsearch_configurations set finished_at = 4725 where finished_at = "
        "(select max(finished_at) from pairsearch_configurations)",
        "update pairsearch_configurations set finished_at = 1000 where finished_at = "
        "(select min(finished_at) from pairsearch_configurations)",
    )
    params = reported.RAW["paper"]["params"]
    single = reported.create(database, name="single", grid={name: [value] for name, value in params.items()})
    reported.finish(database, single)
    theirs = reported.create(database, name="theirs")
    assert theirs.definition.paper is not None
    for one, errors in ((single, [0.06]), (theirs, [0.07, 0.09])):
        reported.evaluate(database, one, theirs.definition.paper.configuration, errors)
    nothing = reported.create(database, name="nothing", paper=None)
    yield read_all(database, [study, single, theirs, nothing], trade=choice("val_loss,val_error"))
    database.close()


@pytest.fixture(scope="module")
def reading(readings: list[Reading]) -> Reading:
    return readings[0]


@pytest.fixture(scope="module")
def report(reading: Reading) -> Document:
    return document.compose([reading], "here", datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture(scope="module")
def points(reading: Reading) -> list[Point]:
    """All points, the best first."""
    every = map(point, reading.study.definition.grid.configurations())
    return sorted(every, key=lambda one: one.value)


def formatted(metric: Metric, value: float) -> str:
    return f"{100 * value:.2f}" if metric.percent else f"{value:.4f}"


def value_in(metric: Metric, one: Point) -> float:
    return one.value / 7 if metric.percent else one.value


VARYING = [name for name, values in GRID.items() if len(values) > 1]


@pytest.mark.parametrize("metric", [LOSS, ERROR])
def test_effects_by_value_compare_like_with_like(
    report: Document, points: list[Point], metric: Metric
) -> None:
    finished = [one for one in points if one.finished]
    expected = []
    for name in VARYING:

        def others(one: Point, name: str = name) -> tuple[Any, ...]:
            return tuple(value for other, value in one.params.items() if other != name)

        by_value = {value: [one for one in finished if one.params[name] == value] for value in GRID[name]}
        alike = set.intersection(*({*map(others, group)} for group in by_value.values() if group))
        for value, group in by_value.items():
            figures = [value_in(metric, one) for one in group]
            matched = [value_in(metric, one) for one in group if others(one) in alike]
            expected.append(
                (
                    name.replace("_", " "),
                    number(value),
                    str(len(group)),
                    *(
                        formatted(metric, of(some)) if some else DASH
                        for of, some in (
                            (min, figures),
                            (statistics.median, figures),
                            (statistics.fmean, matched),
                        )
                    ),
                    str(len(matched)) if group else DASH,
                )
            )
    found = table(report, f"By the value of each parameter: {metric.label}")
    assert found.header == ("parameter", "value", "finished", "best", "median", "mean, matched", "matched")
    assert found.rows == tuple(expected)
    assert {row[6] for row in expected} == {DASH, "4"}


def test_effects_are_drawn_and_said_for_values_with_finished_configurations(
    report: Document, points: list[Point]
) -> None:
    shown = figure(report, "pairs-effects")
    names = [name.replace("_", " ") for name in VARYING]
    assert [view.label for view in shown.views] == [
        f"{name}: {metric.label}" for name in names for metric in (LOSS, ERROR)
    ]
    bests = {
        name: {
            value: min(
                (one.value for one in points if one.finished and one.params[name] == value), default=None
            )
            for value in GRID[name]
        }
        for name in VARYING
    }
    said = "; ".join(
        f"{name.replace('_', ' ')}: "
        + ", ".join(f"{number(value)} {best:.4f}" for value, best in of.items() if best is not None)
        for name, of in bests.items()
    )
    assert shown.alt == f"Box plots by the value of each parameter; the best validation loss of {said}."
    boxes, best = shown.views[0].spec["data"]
    assert (boxes["x"], best["x"], best["name"]) == ([0, 1], [0, 1], "best")
    layout = shown.views[0].spec["layout"]
    assert layout["xaxis"]["ticktext"] == ["10", "25", "50"]
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == (
        "batch size", "validation loss",
    )  # fmt: skip
    for place, batch in enumerate((10, 25)):
        figures = [one.value for one in points if one.finished and one.params["batch_size"] == batch]
        parts = [boxes[name][place] for name in ("lowerfence", "q1", "median", "q3", "upperfence")]
        assert parts == pytest.approx([float(f"{one:.6g}") for one in np.quantile(figures, np.arange(5) / 4)])
        assert best["y"][place] == pytest.approx(min(figures))


def test_nothing_is_said_of_effects_before_two_values_have_finished_ones(
    reading: Reading, readings: list[Reading]
) -> None:
    alone = effects(replace(reading, points=tuple(reading.finished[:1])))
    assert alone is not None
    assert alone.blocks == (Notice("No parameter has finished configurations with two of its values yet."),)
    for other in readings[1:]:
        assert effects(other) is None
    first = replace(
        reading, points=tuple(one for one in reading.points if reading.places[one.key][1:3] == (1, 0))
    )
    some = effects(first)
    assert some is not None
    found = some.blocks[1]
    assert isinstance(found, Table)
    assert {row[0] for row in found.rows} == {"batch size", "hidden units", "aux loss weight"}


def test_times_are_of_the_configurations_that_took_some(report: Document, points: list[Point]) -> None:
    groups = {
        number(batch): [one for one in points if one.finished and one.params["batch_size"] == batch]
        for batch in (10, 25)
    }
    groups["all"] = [one for group in groups.values() for one in group]
    found = table(report, "Seconds of training")
    assert found.header == (
        "batch size", "with a result", "median, s", "shortest, s", "longest, s", "sum",
    )  # fmt: skip
    seconds = {text: [one.seconds for one in group] for text, group in groups.items()}
    assert found.rows == tuple(
        (
            text,
            str(len(of)),
            *(f"{of_all(of):.1f}" for of_all in (statistics.median, min, max)),
            duration(sum(of)),
        )
        for text, of in seconds.items()
    )
    assert "From the first result to the last, 1:02:05 (hours:minutes:seconds) went by." in found.caption
    assert f"The 3 rounds of the evaluation took {duration(1.5)}." in found.caption
    shown = figure(report, "pairs-seconds")
    assert shown.alt.endswith(
        "by batch size: "
        + "; ".join(f"{text} median {statistics.median(seconds[text]):.1f} s" for text in ("10", "25"))
    )
    (box,) = shown.views[0].spec["data"]
    drawn = [one for text in ("10", "25") for one in sorted(groups[text], key=lambda one: one.seconds)]
    assert box["x"] == [0] * len(groups["10"]) + [1] * len(groups["25"])
    assert box["y"] == [round(one.seconds, 3) for one in drawn]
    assert box["text"] == [describe(one.configuration.params) for one in drawn]
    layout = shown.views[0].spec["layout"]
    assert layout["xaxis"]["ticktext"] == ["10", "25", "50"]
    assert [layout[name]["title"]["text"] for name in ("xaxis", "yaxis")] == [
        "batch size", "seconds a configuration",
    ]  # fmt: skip
    assert "Drawn are" not in shown.caption


def test_times_are_shown_by_the_parameter_whose_medians_differ_most(reading: Reading) -> None:
    for place, label in ((1, "learning rate"), (3, "hidden units"), (4, "aux loss weight")):
        slower = tuple(
            replace(one, seconds=2.0 + 10 * reading.places[one.key][place]) for one in reading.points
        )
        shown = time_section(replace(reading, points=slower))
        assert shown is not None
        (drawn,) = (block for block in shown.blocks if isinstance(block, Figure))
        assert drawn.title == f"Training time by {label}"


def test_without_times_and_without_ends_nothing_is_said_of_them(reading: Reading) -> None:
    timeless = tuple(replace(one, seconds=0.0) for one in reading.points)
    assert time_section(replace(reading, points=timeless)) is None
    for ends in ({"first_result": None}, {"last_result": None}):
        shown = time_section(replace(reading, **ends))
        assert shown is not None
        times = shown.blocks[0]
        assert isinstance(times, Table)
        assert "went by" not in times.caption
    unevaluated = time_section(replace(reading, evaluated={}))
    assert unevaluated is not None
    assert "rounds" not in str(unevaluated.blocks[0])


def test_the_coverage_counts_each_state_and_says_what_is_left(reading: Reading) -> None:
    counts, notice, remarks = coverage(reading).blocks
    assert isinstance(counts, Table)
    of = {"configurations": "24", "pending": "8", "running": "1", "finished": "12"}
    of |= {"diverged": "1", "pruned": "1", "failed": "1", "covered": "58.3 %"}
    assert dict(zip(counts.header, counts.rows[0], strict=True)) == of
    assert (counts.header[0], counts.header[-1]) == ("configurations", "covered")
    assert "They were claimed 16 times" in counts.caption
    assert isinstance(notice, Notice)
    left = "The study is unfinished: 9 of 24 configurations have no result yet"
    assert notice.text.startswith(f"{left}; `pairsearch worker pairs` goes on.")
    by_fold = coverage(replace(reading, folds=(5, 72))).blocks[1]
    assert isinstance(by_fold, Notice)
    assert by_fold.text.startswith(f"{left}, 5 of 72 folds are trained; ")
    assert isinstance(remarks, Table)
    assert (remarks.caption, remarks.header) == (
        "Why configurations failed, diverged or were pruned.",
        ("state", "reason", "for example", "configurations"),
    )
    assert [(row[0], row[1], row[3]) for row in remarks.rows] == [
        (state, f"it {state} <so>", "1") for state in ("failed", "diverged", "pruned")
    ]
    whole = coverage(replace(reading, points=tuple(reading.finished), remarks=(), claims=0))
    (alone,) = whole.blocks
    assert isinstance(alone, Table)
    assert alone.caption == "Configurations by state; the ledger holds each of the 12 once."
    empty = coverage(replace(reading, points=(), remarks=())).blocks[0]
    assert isinstance(empty, Table)
    assert empty.rows[0][-1] == DASH


def test_cells_without_a_figure_say_why(report: Document, reading: Reading, points: list[Point]) -> None:
    """Learning rates across, weights up; batch sizes are columns of facets, hidden units rows."""
    shown = figure(report, "pairs-val-loss")
    assert shown.title == "Mean validation loss over learning rate × aux loss weight"
    assert shown.alt == (
        "Heat maps of the mean validation loss, one for each value of batch size and hidden units; the best is "
        f"{briefly(LOSS, points[0].value if points[0].finished else min(p.value for p in points if p.finished))}; "
        "1 configurations diverged and 9 are not finished."
    )
    (view,) = shown.views
    assert view.label == ""
    best = next(one for one in points if one.finished)
    expected: dict[tuple[str, str], set[tuple[int, int, str]]] = {}
    for one in points:
        facet = 3 * GRID["hidden_units"].index(one.params["hidden_units"]) + GRID["batch_size"].index(
            one.params["batch_size"]
        )
        x = GRID["learning_rate"].index(one.params["learning_rate"])
        y = GRID["aux_loss_weight"].index(one.params["aux_loss_weight"])
        axis = f"x{'' if facet == 0 else facet + 1}"
        heat = next(
            trace for trace in view.spec["data"] if trace["type"] == "heatmap" and trace["xaxis"] == axis
        )
        assert heat["text"][y][x] == (briefly(LOSS, one.value) if one.finished else "")
        assert (heat["z"][y][x] is None) == (not one.finished)
        assert (heat["coloraxis"], heat["texttemplate"]) == ("coloraxis", "%{text}")
        if one is best:
            expected.setdefault(("search’s best", axis), set()).add((x, y, "the search’s best"))
        if not one.finished:
            name = "not started" if one.state == State.PENDING else one.state.value
            expected.setdefault((name, axis), set()).add(
                (x, y, f"{name}: {describe(one.configuration.params)}")
            )
    marks = [trace for trace in view.spec["data"] if trace["type"] == "scatter"]
    assert {
        (trace["name"], trace["xaxis"]): set(zip(trace["x"], trace["y"], trace["text"], strict=True))
        for trace in marks
    } == expected
    assert all(trace["yaxis"] == trace["xaxis"].replace("x", "y") for trace in marks)
    named = [trace["name"] for trace in marks if trace["showlegend"]]
    assert named == ["search’s best", "diverged", "pruned", "failed", "running", "not started"]
    assert {trace["name"] for trace in marks if trace["hoverinfo"] == "skip"} == {"search’s best"}
    assert "a square the paper’s configuration" not in shown.caption
    assert "Point at a cell" not in shown.caption, "there is room to write in them"


def test_facets_are_named_and_stand_in_rows_and_columns(report: Document, points: list[Point]) -> None:
    layout = figure(report, "pairs-val-error").views[0].spec["layout"]
    across, down = spans(3, 0.03), spans(2, 0.06)[::-1]
    for index in range(6):
        row, column = divmod(index, 3)
        end = "" if index == 0 else str(index + 1)
        x, y, note = layout[f"xaxis{end}"], layout[f"yaxis{end}"], layout["annotations"][index]
        assert (x["domain"], y["domain"]) == (across[column], down[row])
        assert (x["anchor"], y["anchor"]) == (f"y{end}", f"x{end}")
        assert (x["ticktext"], y["ticktext"]) == (["1e-4", "1e-3"], ["1", "5"])
        # Only the outer axes are named.
        assert x.get("title", {}).get("text") == ("learning rate" if row == 1 else None)
        assert y.get("title", {}).get("text") == ("aux loss weight" if column == 0 else None)
        assert (x["showticklabels"], y["showticklabels"]) == (row == 1, column == 0)
        assert (
            note["text"]
            == f"batch size {GRID['batch_size'][column]} · hidden units {GRID['hidden_units'][row]}"
        )
        assert (note["x"], note["y"]) == (pytest.approx(sum(across[column]) / 2), down[row][1])
    colours = layout["coloraxis"]
    figures = [one.value / 7 for one in points if one.finished]
    shade = Shade.over(figures, ERROR)
    assert (colours["cmin"], colours["cmax"]) == (0, 1)
    assert colours["colorbar"]["tickvals"] == pytest.approx([shade.of(tick) for tick in shade.ticks()])
    assert colours["colorbar"]["ticktext"] == [f"{100 * tick:.2f} %" for tick in shade.ticks()]


def test_without_finished_configurations_nothing_is_drawn(readings: list[Reading]) -> None:
    nothing = the_grid(readings[3])
    assert nothing.blocks == (Notice("There is nothing to draw: no configuration is finished yet."),)
    assert curves.section(readings[3]) is None


def test_curves_that_were_loaded_as_means_say_so(reading: Reading) -> None:
    for of_mean, words in (
        (False, ("fold by fold", "Thin lines")),
        (True, ("means over folds", "loaded without")),
    ):
        shown = curves.section(replace(reading, of_mean=of_mean))
        assert shown is not None
        (drawn,) = shown.blocks
        assert isinstance(drawn, Figure)
        assert words[0] in drawn.title
        assert words[1] in drawn.caption
        assert drawn.alt.startswith(
            "Line charts of " + ("the means over 3 folds" if of_mean else "the figures of folds")
        )
    flat = [
        [replace(run, curves={name: of[-1:] for name, of in run.curves.items()}) for run in runs]
        for runs in reading.top
    ]
    assert curves.section(replace(reading, top=tuple(flat))) is None
    second = curves.section(replace(reading, top=(flat[0], *reading.top[1:])))
    assert second is not None
    (drawn,) = second.blocks
    assert isinstance(drawn, Figure)
    # Only those with several epochs are drawn.
    assert len(drawn.views) == 2


def test_table_1_has_a_row_for_each_study_s_best_and_paper_s(readings: list[Reading]) -> None:
    found = evaluation.table_1(readings)
    stated = ("0.00 ± 0.00", "6.06 ± 1.28")
    assert found.header[4:] == reported.OF_ROUNDS
    by_study: dict[str, list[tuple[str, ...]]] = {}
    for row in found.rows:
        by_study.setdefault(row[0] or next(reversed(by_study)), []).append(row[1:])
    mean, deviation = 100 * statistics.fmean(ROUNDS), 100 * statistics.stdev(ROUNDS)
    reach = 4.30265 * deviation / math.sqrt(3)
    interval = f"{max(0.0, mean - reach):.2f} to {mean + reach:.2f}"
    train, test = (f"{mean / part:.2f} ± {deviation / part:.2f}" for part in (2, 1))
    assert {name: [(row[0], *row[2:]) for row in rows] for name, rows in by_study.items()} == {
        "PAIRS": [
            ("search’s best", "50,454", "3", train, test, interval, "", ""),
        ],
        "SINGLE": [("both", "50,454", "1", "3.00", "6.00", DASH, *stated)],
        "THEIRS": [("paper’s", "50,454", "2", "4.00 ± 0.71", "8.00 ± 1.41", "0.00 to 20.71", *stated)],
        "NOTHING": [(DASH, DASH, DASH, DASH, DASH, DASH, "", "")],
    }  # fmt: skip
    assert by_study["NOTHING"] == [(DASH,) * 7 + ("", "")]
    assert by_study["THEIRS"][0][1] == "BS 10 LR 0.0001 WD 0 HU 50 ALW 5"
    assert "what the paper states" in found.caption
    assert "what the paper states" not in evaluation.table_1(readings[:1]).caption


def test_the_page_says_which_rounds_are_missing(readings: list[Reading]) -> None:
    said = [block.text for block in evaluation.section(readings).blocks if isinstance(block, Notice)]
    both = "1 of 3 rounds of the best and the paper’s configuration are done; `pairsearch evaluate single` trains"
    papers = (
        "2 of 3 rounds of the paper’s configuration are done; `pairsearch evaluate theirs --paper` trains"
    )
    assert said == [
        f"single: {both} the others.",
        "theirs: no configuration is finished yet; `pairsearch worker theirs` trains them.",
        f"theirs: {papers} the others.",
        "nothing: no configuration is finished yet; `pairsearch worker nothing` trains them.",
    ]


def test_rounds_are_drawn_by_study_the_paper_s_on_the_right(readings: list[Reading]) -> None:
    shown = next(block for block in evaluation.section(readings).blocks if isinstance(block, Figure))
    assert [view.label for view in shown.views] == ["test error", "training error"]
    for view, part in zip(shown.views, (1, 2), strict=True):
        best, papers, stated = view.spec["data"]
        assert (best["name"], papers["name"]) == ("search’s best", "paper’s configuration")
        assert best["x"] == [-0.2] * 3 + [0.8]
        assert best["y"] == pytest.approx([100 * error / part for error in (*ROUNDS, 0.06)])
        assert (papers["x"], papers["y"]) == ([2.2] * 2, pytest.approx([7 / part, 9 / part]))
        assert stated["x"] == pytest.approx([1.42, 2.42])
        assert stated["y"] == ([6.06] * 2 if part == 1 else [0.0] * 2)
        assert {trace["hovertemplate"] for trace in (best, papers)} == {"%{y:.4g} %<extra></extra>"}
        layout = view.spec["layout"]
        assert (layout["xaxis"]["tickvals"], layout["xaxis"]["ticktext"]) == (
            [0, 1, 2, 3], ["PAIRS", "SINGLE", "THEIRS", "NOTHING"],
        )  # fmt: skip
        assert layout["xaxis"]["range"] == [-0.5, 3.6]
        assert layout["yaxis"]["title"]["text"] == f"{view.label}, %"
    assert shown.alt == (
        "Box plot of the test error, % over the rounds of the final evaluation, by study: "
        "PAIRS: search’s best 8.00 ± 3.61 %; SINGLE: both 6.00 %; THEIRS: paper’s 8.00 ± 1.41 %; "
        "NOTHING: not evaluated"
    )
    assert "there is one box" in shown.caption
    alone = evaluation.section(readings[:1]).blocks[1]
    assert isinstance(alone, Figure)
    assert "there is one box" not in alone.caption
    assert [len(view.spec["data"]) for view in alone.views] == [1, 1]
    assert not [block for block in evaluation.section(readings[3:]).blocks if isinstance(block, Figure)]


def test_rounds_by_epoch_have_the_role_of_their_configuration(readings: list[Reading]) -> None:
    drawn = {block.name: block for block in evaluation.section(readings).blocks if isinstance(block, Figure)}
    assert list(drawn) == ["evaluation", "pairs-by-epoch", "single-by-epoch", "theirs-by-epoch"]
    assert [view.label for view in drawn["single-by-epoch"].views] == [
        "both: BS 10 LR 0.0001 WD 0 HU 50 ALW 5"
    ]
    shown = drawn["pairs-by-epoch"]
    (view,) = shown.views
    assert shown.title == "PAIRS: training error and test error by epoch"
    assert shown.alt == (
        f"Line chart of the training error and test error of PAIRS by epoch. {view.label}: after the last epoch "
        "training error 4, test error 8"
    )


def test_every_evaluated_configuration_is_listed_whatever_it_lacks(reading: Reading) -> None:
    """Without figures of its rounds a configuration comes last."""
    (rounds,) = reading.evaluated.values()
    keys = [one.configuration.key for one in reading.finished[:3]]
    by_key = {
        keys[0]: rounds,
        keys[1]: tuple(replace(one, figures={}) for one in rounds),
        keys[2]: tuple(replace(one, figures={"test_error": 0.5, "train_error": 0.5}) for one in rounds),
    }
    listed = evaluation.others(replace(reading, evaluated=dict(reversed(by_key.items()))))
    assert listed is not None
    found = listed.blocks[0]
    assert isinstance(found, Table)
    assert "the best mean test error first" in found.caption
    assert [(row[0], row[3]) for row in found.rows] == [
        (keys[0], "8.00 ± 3.61"), (keys[2], "50.00 ± 0.00"), (keys[1], DASH),
    ]  # fmt: skip


def test_the_trade_off_is_drawn_with_its_front(
    reading: Reading, report: Document, points: list[Point]
) -> None:
    shown = figure(report, "pairs-trade-off")
    every, front = shown.views[0].spec["data"]
    finished = [one for one in points if one.finished]
    for found, metric in ((every["x"], LOSS), (every["y"], ERROR)):
        scale = 100 if metric.percent else 1
        assert sorted(found) == pytest.approx([scale * value_in(metric, one) for one in finished], rel=1e-5)
    assert every["y"] == pytest.approx([100 * x / 7 for x in every["x"]], rel=1e-5)
    # Both figures agree on which is the best.
    assert (front["x"], front["y"]) == (
        [pytest.approx(finished[0].value)], [pytest.approx(100 * finished[0].value / 7, rel=1e-5)],
    )  # fmt: skip
    assert front["text"] == [describe(finished[0].configuration.params)]
    assert (every["name"], front["name"]) == ("all configurations", "on the front")
    assert front["marker"]["symbol"] == ["circle"]
    layout = shown.views[0].spec["layout"]
    assert (layout["xaxis"]["title"]["text"], layout["xaxis"]["type"]) == ("validation loss", "log")
    assert (layout["yaxis"]["title"]["text"], layout["yaxis"]["rangemode"]) == (
        "validation error, %",
        "tozero",
    )
    assert shown.title == "validation error, % against validation loss"
    assert "with 1 configurations on the front" in shown.alt
    assert "Drawn are" not in shown.caption
    assert reading.trade is not None
    assert table(report, f"{reading.trade.title}.").rows


def test_all_that_is_drawn_hangs_together(readings: list[Reading]) -> None:
    """Traces have a name where the legend shows it, axes that exist, and a text where they are pointed at."""
    report = document.compose(readings, "here", datetime(2026, 1, 2, tzinfo=UTC))
    assert len(report.figures) > 15
    for shown in report.figures:
        assert shown.views
        for view in shown.views:
            spec = view.spec
            for trace in spec["data"]:
                for axis in ("xaxis", "yaxis"):
                    letter, end = axis[0], trace.get(axis, axis[0])[1:]
                    assert f"{letter}axis{end}" in spec["layout"], shown.name
                assert (
                    trace["type"] == "heatmap"
                    or trace.get("name")
                    or not trace.get("showlegend", True)
                    or (len(spec["data"]) == 1)
                ), shown.name
                pointed_at = trace.get("hoverinfo") in ("skip", "text") or "upperfence" in trace
                assert pointed_at or "hovertemplate" in trace, shown.name
    # Nothing of Python's own gets onto the page.
    said = str([table for part in report.parts for section in part.sections for table in section.blocks])
    texts = re.findall(r"'[^']*'", said)
    assert not [
        text
        for text in texts
        if re.search(r"Metric\(|Parameter\(|Configuration\(| object at 0x|<function", text)
    ]


def test_reading_and_drawing_are_told(reading: Reading) -> None:
    said: list[str] = []
    document.compose([reading], "here", datetime(2026, 1, 2, tzinfo=UTC), said.append)
    assert said == ["drawing pairs"]


def test_a_moment_is_shown_in_utc_with_the_version(report: Document) -> None:
    from importlib.metadata import version  # noqa: PLC0415

    assert report.facts == ("read 2026-01-02 00:00 UTC", "from here", f"pairsearch {version('pairsearch')}")
    assert report.parts[1].subtitle == reported.RAW["title"]


def test_a_report_reads_what_it_is_asked_for(tmp_path: Any) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'study.db'}", create=True)
    study = reported.create(database)
    reported.finish(database, study, 4)
    said: list[str] = []
    made = document.compose_stored(database, [study], said.append, trade=choice("val_loss,val_error"))
    assert said[0] == "reading pairs"
    assert said[-1] == "drawing pairs"
    assert made.facts[1] == f"from {database.label}"
    assert "Trade-offs" in [section.title for section in made.parts[1].sections]
    assert read(database, study).trade is None
    database.close()
