"""The report of a large study: in seconds, and readable with twenty values on an axis."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import reported
from reported import read
from service import fill

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.report import document
from pairsearch.search.report.content import Document, Figure, Table
from pairsearch.search.report.drawing import thinned
from pairsearch.search.report.grid import ROOM, _kept
from pairsearch.search.report.parallel import LABELLED, LINES
from pairsearch.search.report.parameters import Parameter

# 2,000 configurations: twenty learning rates, ten weight decays, five batch sizes, two weights.
GRID = {
    "batch_size": [5, 10, 15, 20, 25],
    "learning_rate": [10.0 ** -(1 + place / 8) for place in range(20)],
    "weight_decay": [10.0 ** -(1 + place / 8) for place in range(10)],
    "hidden_units": [10],
    "aux_loss_weight": [1.0, 5.0],
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path_factory.mktemp('large') / 'study.db'}", create=True)
    fill(opened, reported.create(opened, grid=GRID, folds=2, paper=None), epochs=1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def report(database: Database) -> Document:
    study = reported.create(database, grid=GRID, folds=2, paper=None)
    start = time.process_time()
    composed = document.compose([read(database, study)], "here", datetime(2026, 1, 2, tzinfo=UTC))
    # The forest of fANOVA alone took more than a thousand; a busy machine counts up to twice the time.
    assert time.process_time() - start < 30
    return composed


def figure(report: Document, name: str) -> Figure:
    (found,) = [figure for figure in report.figures if figure.name == f"pairs-{name}"]
    return found


def traces(report: Document, name: str) -> list[dict[str, Any]]:
    return [trace for view in figure(report, name).views for trace in view.spec["data"]]


def test_lines_that_cannot_be_told_apart_are_sampled_and_the_page_says_so(report: Document) -> None:
    drawn = [trace["x"].count(None) for trace in traces(report, "parallel")]
    assert drawn == [min(LINES, count) for count in (1000, 500, 300, 160, 40)]
    assert f"Drawn are {sum(drawn)} of the 2,000" in figure(report, "parallel").caption
    assert "of the 2,000, at most" in figure(report, "seconds").caption
    assert sum(len(trace["y"]) for trace in traces(report, "seconds")) < 2000


def test_values_are_named_as_far_as_there_is_room(report: Document) -> None:
    (view,) = figure(report, "parallel").views
    names = [note for note in view.spec["layout"]["annotations"] if note["x"] == 1]
    assert len(names) == LABELLED
    for view in figure(report, "val-loss").views:
        axes = [axis for name, axis in view.spec["layout"].items() if name.startswith(("xaxis", "yaxis"))]
        assert max(len(axis["ticktext"]) for axis in axes) <= 12


def test_facets_fit_beside_each_other_and_what_is_left_out_is_said(report: Document) -> None:
    heat = figure(report, "val-loss")
    facets = [trace for trace in heat.views[0].spec["data"] if trace["type"] == "heatmap"]
    # Three batch sizes beside each other, two weights below each other; what does not vary takes no room.
    assert len(facets) == 6
    assert {name for name in heat.views[0].spec["layout"] if name.startswith("xaxis")} == {
        f"xaxis{end}" for end in ("", *range(2, 7))
    }
    assert heat.least_width <= ROOM + 130
    assert "Drawn are 3 of the 5 values of the batch size." in heat.caption
    # Too small to write in; a figure is read by pointing.
    assert "Point at a cell" in heat.caption
    assert {trace["texttemplate"] for trace in facets} == {""}
    best = [trace for trace in heat.views[0].spec["data"] if trace.get("name") == "search’s best"]
    assert [len(trace["x"]) for trace in best] == [1]


def test_boxes_are_of_all_configurations_however_many(report: Document) -> None:
    boxes = [trace for trace in traces(report, "effects") if trace["type"] == "box"]
    # Two figures of each of the four parameters that vary, five numbers for each of their values.
    assert [len(trace["median"]) for trace in boxes] == [5, 5, 20, 20, 10, 10, 2, 2]
    tables = [
        block for section in report.parts[1].sections for block in section.blocks if isinstance(block, Table)
    ]
    (found,) = [
        table
        for table in tables
        if table.caption.startswith("By the value of each parameter: validation loss")
    ]
    assert [row[2] for row in found.rows] == ["400"] * 5 + ["100"] * 20 + ["200"] * 10 + ["1000"] * 2


def test_the_importance_is_that_of_the_whole_grid(report: Document) -> None:
    assert "covers all 2000 configurations" in figure(report, "importance").caption
    (bars,) = traces(report, "importance")
    assert sum(bars["x"]) == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(("count", "most"), [(3, 5), (5, 5), (6, 5), (1000, 7), (100, 2)])
def test_a_sample_is_even_and_has_the_first_and_the_last(count: int, most: int) -> None:
    taken = thinned(range(count), most)
    assert len(set(taken)) == len(taken) == min(count, most)
    assert (taken[0], taken[-1]) == (0, count - 1)
    gaps = {b - a for a, b in itertools.pairwise(taken)}
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("marked", "room", "kept"),
    [
        (set(), 10, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
        (set(), 4, (0, 3, 6, 9)),
        ({5}, 4, (0, 4, 5, 9)),
        ({4, 5}, 4, (0, 4, 5, 9)),
        ({4, 5}, 3, (0, 4, 5)),
        ({4, 5}, 2, (4, 5)),
    ],
)
def test_of_many_levels_the_marked_ones_stay_and_the_others_are_spread(
    marked: set[int], room: int, kept: tuple[int, ...]
) -> None:
    assert _kept(Parameter("x", tuple(range(10))), marked, room) == kept
