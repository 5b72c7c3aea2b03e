"""What the report draws and tabulates is what the study has: every number follows from the outcomes below."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import reported
import tiny
from reported import figure, read, table

from pairsearch.search.database.connection import open_database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.replay.simulation import Stopping, replay
from pairsearch.search.report import document, searched_again
from pairsearch.search.report.content import Document, Figure, Notice
from pairsearch.search.report.drawing import briefly
from pairsearch.search.report.evaluation import others
from pairsearch.search.report.importance import decompose, importance
from pairsearch.search.report.parameters import number
from pairsearch.search.report.reading import Reading
from pairsearch.search.report.searched_again import _stopping, section
from pairsearch.search.results.formatting import duration
from pairsearch.studies.configuration import Configuration, describe
from pairsearch.studies.problem import Metric
from pairsearch.studies.seeds import layout_order

LOSS, ERROR = Metric(), Metric(percent=True)
GRID = reported.RAW["grid"]
FOLDS, EPOCHS = reported.FOLDS, reported.EPOCHS
TEST_ERRORS = {"best": [0.05, 0.06, 0.10], "paper": [0.07, 0.09], "other": [0.02]}


def value_of(configuration: Configuration) -> float:
    """A mean that no two configurations share."""
    return reported.value_of(configuration) + 0.3 * configuration.params["weight_decay"]


def seconds_of(configuration: Configuration) -> float:
    """The batch size matters most, and no two configurations take the same."""
    params = configuration.params
    return 1000 / params["batch_size"] + 100 * params["learning_rate"] + params["hidden_units"] / 1000


def losses(configuration: Configuration) -> list[list[float]]:
    """By fold and epoch."""
    above = [0.3, 0.2, 0.1, 0.0]
    return [[value_of(configuration) + more + one for more in above] for one in (-0.02, 0.0, 0.02)]


def outcome(configuration: Configuration) -> Outcome:
    val_loss = losses(configuration)
    third, seventh = ([[one / part for one in curve] for curve in val_loss] for part in (3, 7))
    return tiny.outcome_of(
        third, val_loss, seventh, value=value_of(configuration), seconds=seconds_of(configuration)
    )


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """The study, searched to its end; its best and the paper's configuration are evaluated."""
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('data') / 'study.db'}", create=True)
    study = reported.create(database)
    ledger = Ledger(database, study)
    while (claim := ledger.claim("worker")) is not None:
        assert tiny.finish(ledger, claim, outcome(claim.configuration))
    best = min(study.definition.grid.configurations(), key=value_of)
    assert study.definition.paper is not None
    reported.evaluate(database, study, best, TEST_ERRORS["best"])
    reported.evaluate(database, study, study.definition.paper.configuration, TEST_ERRORS["paper"])
    worst = max(study.definition.grid.configurations(), key=value_of)
    reported.evaluate(database, study, worst, TEST_ERRORS["other"])
    found = read(database, study)
    database.close()
    return found


@pytest.fixture(scope="module")
def report(reading: Reading) -> Document:
    return document.compose([reading], "here", datetime(2026, 1, 2, 3, 4, tzinfo=UTC))


@pytest.fixture(scope="module")
def ranked(reading: Reading) -> list[Configuration]:
    """All configurations, the best first."""
    return sorted(reading.study.definition.grid.configurations(), key=value_of)


def place(name: str, configuration: Configuration) -> int:
    return GRID[name].index(configuration.params[name])


def test_the_verdict_of_the_report_is_the_usual_one(reading: Reading) -> None:
    verdict = reading.judged.verdict
    assert verdict is not None
    assert (verdict.winner, verdict.alpha, verdict.folds) == (
        reading.points[0].configuration.key,
        0.05,
        FOLDS,
    )


def test_a_point_has_the_figures_of_its_configuration(reading: Reading, ranked: list[Configuration]) -> None:
    assert [point.configuration for point in reading.points] == ranked
    for point in reading.points:
        assert (point.value, point.seconds) == (
            pytest.approx(value_of(point.configuration)),
            seconds_of(point.configuration),
        )
        assert reading.places[point.key] == tuple(place(name, point.configuration) for name in GRID)
        assert point.figure("val_error") == pytest.approx(value_of(point.configuration) / 7)
    assert (reading.best, reading.covered) == (ranked[0], 32)
    assert [point.configuration for point in reading.finished[: len(reading.top)]] == ranked[:3]


@pytest.mark.parametrize(("name", "part", "metric"), [("val-loss", 1, LOSS), ("val-error", 7, ERROR)])
def test_a_cell_of_the_heat_map_is_the_best_of_its_configurations(
    report: Document, ranked: list[Configuration], name: str, part: int, metric: Metric
) -> None:
    """Learning rates across, weight decays up; a facet for each batch size and number of hidden units."""
    shown = figure(report, f"pairs-{name}")
    assert ("in per cent" in shown.caption) == metric.percent
    assert shown.choice == "Aux loss weight"
    every, *chosen = shown.views
    for view, weights in [(every, (1.0, 5.0)), (chosen[0], (1.0,)), (chosen[1], (5.0,))]:
        for units_place, units in enumerate(GRID["hidden_units"]):
            for batch_place, batch in enumerate(GRID["batch_size"]):
                suffix = ("", "2", "3", "4")[2 * units_place + batch_place]
                (heat,) = [
                    trace
                    for trace in view.spec["data"]
                    if trace["type"] == "heatmap" and trace["xaxis"] == f"x{suffix}"
                ]
                assert heat["yaxis"] == f"y{suffix}"
                for rate_place, rate in enumerate(GRID["learning_rate"]):
                    for decay_place, decay in enumerate(GRID["weight_decay"]):
                        best = next(
                            one
                            for one in ranked
                            if one.params["aux_loss_weight"] in weights
                            and (one.params["batch_size"], one.params["hidden_units"]) == (batch, units)
                            and (one.params["learning_rate"], one.params["weight_decay"]) == (rate, decay)
                        )
                        assert heat["text"][decay_place][rate_place] == briefly(metric, value_of(best) / part)
                        hover = heat["hovertext"][decay_place][rate_place].split("<br>")
                        assert hover[:3] == [
                            describe(best.params),
                            f"validation loss {value_of(best):.4f}",
                            f"validation error {100 * value_of(best) / 7:.2f} %",
                        ]
                        assert hover[3:] == (["best of 2 finished of 2"] if len(weights) > 1 else [])
                        shade = heat["z"][decay_place][rate_place]
                        assert (shade == 0.0) == (best == ranked[0])
                        assert (shade == 1.0) == (best == ranked[-1])


def test_rings_and_squares_stand_in_the_cells_of_the_best_and_the_paper_s(
    report: Document, reading: Reading, ranked: list[Configuration]
) -> None:
    paper = reading.paper
    assert paper is not None
    for view, weights in zip(
        figure(report, "pairs-val-loss").views, [(1.0, 5.0), (1.0,), (5.0,)], strict=True
    ):
        marks = {
            trace["name"]: (trace["xaxis"], trace["x"], trace["y"])
            for trace in view.spec["data"]
            if trace["type"] == "scatter"
        }
        expected = {}
        for name, one in (("search’s best", ranked[0]), ("paper’s configuration", paper)):
            if one.params["aux_loss_weight"] in weights:
                facet = 2 * place("hidden_units", one) + place("batch_size", one)
                expected[name] = (
                    f"x{('', '2', '3', '4')[facet]}",
                    [place("learning_rate", one)],
                    [place("weight_decay", one)],
                )
        assert marks == expected


def test_lines_of_the_parallel_coordinates_run_through_their_values_the_best_below(
    report: Document, ranked: list[Configuration]
) -> None:
    (view,) = figure(report, "pairs-parallel").views
    groups = view.spec["data"][::-1]
    assert [group["name"] for group in groups] == [
        "best 2 % (1)", "2 to 10 % (3)", "10 to 25 % (4)", "25 to 50 % (8)", "the other half (16)",
    ]  # fmt: skip
    xs = [x for group in groups for x in group["x"]]
    ys = [y for group in groups for y in group["y"]]
    assert xs == [0, 1, 2, 3, 4, 5, None] * 32
    lines = [ys[start : start + 6] for start in range(0, len(ys), 7)]
    assert set(ys[6::7]) == {None}
    heights = [line[5] for line in lines]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (0.0, 1.0)
    for parameter, name in enumerate(GRID):
        bands: dict[int, list[float]] = {0: [], 1: []}
        for line, configuration in zip(lines, ranked, strict=True):
            bands[place(name, configuration)].append(line[parameter])
        for band, found in bands.items():
            assert band / 2 < min(found) <= max(found) < (band + 1) / 2
            assert found == sorted(found)
    labels = [note for note in view.spec["layout"]["annotations"] if note["x"] < 5]
    assert [(note["text"], note["x"], note["y"]) for note in labels] == [
        (number(value), parameter, (band + 0.5) / 2)
        for parameter, values in enumerate(GRID.values())
        for band, value in enumerate(values)
    ]
    ticks = [note for note in view.spec["layout"]["annotations"] if note["x"] == 5]
    assert (ticks[0]["text"], ticks[0]["y"]) == (f"{value_of(ranked[0]):.3f}", 0.0)
    assert (ticks[-1]["text"], ticks[-1]["y"]) == (f"{value_of(ranked[-1]):.3f}", 1.0)


def test_effects_are_quartiles_and_bests_by_value(report: Document, ranked: list[Configuration]) -> None:
    views = {view.label: view.spec for view in figure(report, "pairs-effects").views}
    assert len(views) == 2 * len(GRID)
    for figure_name, part, scale in (("validation loss", 1, 1), ("validation error", 7, 100)):
        for name, values in GRID.items():
            spec = views[f"{name.replace('_', ' ')}: {figure_name}"]
            boxes, bests = spec["data"]
            assert boxes["x"] == bests["x"] == spec["layout"]["xaxis"]["tickvals"] == [0, 1]
            assert spec["layout"]["xaxis"]["ticktext"] == [number(value) for value in values]
            assert spec["layout"]["xaxis"]["range"] == [-0.5, 1.5], "each has its whole place"
            # Losses above 0 have a logarithmic axis, fractions one that begins at 0.
            assert (spec["layout"]["yaxis"].get("type") == "log") == (figure_name == "validation loss")
            for level, value in enumerate(values):
                found = [scale * value_of(one) / part for one in ranked if one.params[name] == value]
                low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
                expected = {"lowerfence": found[0], "q1": low, "median": middle, "q3": high}
                expected["upperfence"] = found[-1]
                assert {key: boxes[key][level] for key in expected} == pytest.approx(expected, rel=1e-5)
                assert bests["y"][level] == pytest.approx(found[0], rel=1e-5)
    effects = table(report, "By the value of each parameter: validation loss")
    assert [row[:3] for row in effects.rows[:2]] == [("batch size", "10", "16"), ("batch size", "25", "16")]
    for row, batch in zip(effects.rows[:2], GRID["batch_size"], strict=True):
        found = [value_of(one) for one in ranked if one.params["batch_size"] == batch]
        assert row[3:] == (
            f"{found[0]:.4f}",
            f"{statistics.median(found):.4f}",
            f"{statistics.fmean(found):.4f}",
            "16",
        )


def test_the_importance_is_that_of_the_complete_grid(report: Document, ranked: list[Configuration]) -> None:
    cells = np.empty((2,) * 5)
    for one in ranked:
        cells[tuple(place(name, one) for name in GRID)] = math.log10(value_of(one))
    shares = decompose(cells, list(GRID))
    (view,) = figure(report, "pairs-importance").views
    (bars,) = view.spec["data"]
    main = sorted(shares.main.items(), key=lambda bar: -bar[1])
    pairs = sorted(shares.pairs.items(), key=lambda bar: -bar[1])
    expected = {name.replace("_", " "): share for name, share in main}
    expected |= {" × ".join(names).replace("_", " "): share for names, share in pairs[:4]}
    expected |= {
        "6 other pairs": sum(share for _, share in pairs[4:]),
        "three and more, and noise": shares.rest,
    }
    assert view.spec["layout"]["yaxis"]["ticktext"] == list(expected)
    assert bars["x"] == pytest.approx([100 * share for share in expected.values()], abs=0.001)
    assert bars["text"] == [f"{100 * share:.1f}" for share in expected.values()]
    assert bars["y"] == list(range(len(expected)))


def test_learning_curves_are_those_of_the_folds_with_their_mean(
    report: Document, ranked: list[Configuration]
) -> None:
    views = figure(report, "pairs-learning-curves").views
    assert [view.label for view in views] == [
        f"rank {rank}: BS {batch} LR 0.001 WD 0 HU {units} ALW 5 (val_loss {value_of(one):.4f})"
        for rank, batch, units, one in zip((1, 2, 3), (10, 25, 10), (50, 50, 10), ranked, strict=False)
    ]
    for view, one in zip(views, ranked, strict=False):
        traces = {trace["name"]: trace for trace in view.spec["data"]}
        for name, part, scale in (("validation loss", 1, 1), ("validation error", 7, 100)):
            folds, mean = traces[f"{name}, folds"], traces[f"{name}, mean"]
            assert folds["x"] == [1, 2, 3, 4, None] * FOLDS
            expected = [y for curve in losses(one) for y in (*(scale * loss / part for loss in curve), None)]
            assert [y for y in folds["y"] if y is not None] == pytest.approx(
                [y for y in expected if y is not None], rel=1e-5
            )
            assert [y is None for y in folds["y"]] == [y is None for y in expected]
            assert mean["x"] == [1, 2, 3, 4]
            assert mean["y"] == pytest.approx(
                [scale * (value_of(one) + more) / part for more in (0.3, 0.2, 0.1, 0.0)], rel=1e-4
            )


@pytest.mark.parametrize(("role", "view"), [("best", 0), ("paper", 1)])
def test_the_band_of_the_rounds_is_a_deviation_to_either_side(report: Document, role: str, view: int) -> None:
    shown = figure(report, "pairs-by-epoch")
    traces = {trace["name"]: trace for trace in shown.views[view].spec["data"]}
    errors = [100 * error for error in TEST_ERRORS[role]]
    mean, deviation = statistics.fmean(errors), statistics.stdev(errors)
    above = [30.0, 20.0, 10.0, 0.0]
    # For those who cannot see it.
    assert f"test error {mean:.4g}" in shown.alt
    line, band = traces["test error"], traces["test error, ± std"]
    assert line["x"] == [1, 2, 3, 4]
    assert line["y"] == pytest.approx([mean + more for more in above])
    assert band["x"] == [1, 2, 3, 4, 4, 3, 2, 1]
    highs, lows = ([mean + sign * deviation + more for more in above] for sign in (1, -1))
    assert band["y"] == pytest.approx([*highs, *lows[::-1]], rel=1e-5)


def test_boxes_of_the_evaluation_hold_every_round_beside_the_paper_s_figure(report: Document) -> None:
    view = figure(report, "evaluation").views[0]
    assert view.label == "test error"
    best, paper, stated = view.spec["data"]
    assert (best["x"], best["y"]) == ([-0.2] * 3, pytest.approx([5.0, 6.0, 10.0]))
    assert (paper["x"], paper["y"]) == ([0.2] * 2, pytest.approx([7.0, 9.0]))
    assert stated["y"] == pytest.approx([6.06])
    assert stated["error_y"]["array"] == pytest.approx([1.28])
    assert 0.2 < stated["x"][0] < 0.5
    axis = view.spec["layout"]["xaxis"]
    assert (axis["tickvals"], axis["ticktext"]) == ([0], ["PAIRS"])
    notes = [row[:2] for row in table(report, "Table 1").rows]
    assert notes == [("PAIRS", "search’s best"), ("", "paper’s")]


def test_times_are_shown_by_the_parameter_that_matters_most(
    report: Document, ranked: list[Configuration]
) -> None:
    shown = figure(report, "pairs-seconds")
    assert shown.title == "Training time by batch size"
    (box,) = shown.views[0].spec["data"]
    by_batch = [
        sorted((one for one in ranked if one.params["batch_size"] == batch), key=seconds_of)
        for batch in GRID["batch_size"]
    ]
    assert box["x"] == [0] * 16 + [1] * 16
    assert box["y"] == pytest.approx([seconds_of(one) for group in by_batch for one in group], abs=0.001)
    times = table(report, "Seconds of training")
    groups = {"10": by_batch[0], "25": by_batch[1], "all": ranked}
    assert [row[0] for row in times.rows] == list(groups)
    for row, group in zip(times.rows, groups.values(), strict=True):
        found = sorted(map(seconds_of, group))
        assert row[1:5] == (
            str(len(found)),
            f"{statistics.median(found):.1f}",
            f"{found[0]:.1f}",
            f"{found[-1]:.1f}",
        )
        assert row[5] == duration(sum(found))
    # Six rounds of half a second.
    assert f"The 6 rounds of the evaluation took {duration(3.0)}." in times.caption


def curve(report: Document, view: int) -> dict[str, Any]:
    spec = figure(report, "pairs-regret").views[view].spec
    return {trace.get("name", "low"): trace for trace in spec["data"]}


def test_the_regret_of_the_study_s_own_order_is_that_of_its_best_so_far(
    report: Document, reading: Reading
) -> None:
    order = layout_order(reading.study.definition)
    values = list(map(value_of, order))
    own = curve(report, 0)["the study's own order"]
    assert own["x"] == list(range(1, 33))
    regrets = [min(values[:trials]) - min(values) for trials in range(1, 33)]
    assert own["y"] == pytest.approx(regrets, abs=1e-6)
    against_seconds = curve(report, 1)["the study's own order"]
    ends = np.cumsum(list(map(seconds_of, order)))
    for spent, regret in zip(against_seconds["x"], against_seconds["y"], strict=True):
        trained = int((ends <= spent * (1 + 1e-9)).sum())
        assert regret == (pytest.approx(regrets[trained - 1], abs=1e-6) if trained else None)
    assert against_seconds["x"][-1] == pytest.approx(ends[-1], rel=1e-4)


@pytest.mark.parametrize("view", [0, 1])
def test_the_band_of_random_orders_has_their_median_in_it(report: Document, view: int) -> None:
    traces = curve(report, view)
    names = ("low", "random order, median", "random order, 90 %")
    rows = [[math.inf if y is None else y for y in traces[name]["y"]] for name in names]
    assert all(low <= middle <= high for low, middle, high in zip(*rows, strict=True))
    assert all(row == sorted(row, reverse=True) and row[-1] == 0.0 for row in rows)


def test_it_says_what_of_the_grid_is_covered_and_how_often_it_was_claimed(report: Document) -> None:
    counts = table(report, "Configurations by state")
    assert "claimed 32 times, 0 attempts ended in an exception, and 0 results came after" in counts.caption
    shown = dict(zip(counts.header, counts.rows[0], strict=True))
    assert (shown["configurations"], shown["finished"], shown["pending"], shown["covered"]) == (
        "32", "32", "0", "100.0 %",
    )  # fmt: skip


def test_every_evaluated_configuration_is_listed_the_best_first_where_table_1_does_not_show_all(
    report: Document, reading: Reading, ranked: list[Configuration]
) -> None:
    assert reading.paper is not None
    listed = table(report, "Every evaluated configuration")
    assert listed.header == (
        "configuration", "n", "training error, %", "test error, %", "95 % interval, test error, %",
    )  # fmt: skip
    assert [row[:4] for row in listed.rows] == [
        (ranked[-1].key, "1", "1.00", "2.00"),
        (ranked[0].key, "3", "3.50 ± 1.32", "7.00 ± 2.65"),
        (reading.paper.key, "2", "4.00 ± 0.71", "8.00 ± 1.41"),
    ]
    assert listed.rows[0][4] == "–"
    assert others(replace(reading, evaluated=dict(list(reading.evaluated.items())[:0]))) is None
    both = {one.key: reading.evaluated[one.key] for one in (ranked[0], reading.paper)}
    assert others(replace(reading, evaluated=both)) is None, "Table 1 shows them all"


def test_without_a_complete_part_of_the_grid_there_is_no_importance(reading: Reading) -> None:
    # Each configuration differs in two parameters from every other, so that no two by two are finished.
    points = [point for point in reading.points if sum(reading.places[point.key]) % 2 == 0]
    assert len(points) == 16
    said = importance(replace(reading, points=tuple(points)))
    assert isinstance(said, Notice)
    assert said.text == (
        "Importance: the analysis of variance needs a complete grid of two or more parameters, and none is finished."
    )
    few = importance(replace(reading, points=tuple(reading.points[:7])))
    assert isinstance(few, Notice)
    assert few.text.startswith(
        "Importance: 7 finished configurations over 5 varying parameters; it is shown from 8"
    )


def test_the_configurations_that_may_be_the_best_are_listed_with_what_the_verdict_has_of_them(
    report: Document, reading: Reading, ranked: list[Configuration]
) -> None:
    verdict = reading.judged.verdict
    assert verdict is not None
    listed = table(report, "The configurations that cannot be told from the best at the 5 % level")
    assert "the first 12 of 32. Mean validation loss over folds, how much worse" in listed.caption
    short = {"batch_size": "BS", "learning_rate": "LR", "weight_decay": "WD", "hidden_units": "HU"}
    for row, member, one in zip(listed.rows, verdict.members, ranked, strict=False):
        assert all(f"{letters} {one.params[name]:g}" in row[0] for name, letters in short.items())
        assert row[1:4] == (
            f"{value_of(one):.4f}",
            f"{value_of(one) - value_of(ranked[0]):.4f}",
            f"{member.p:.3f}",
        )
        seconds = seconds_of(one)
        assert row[4] == (duration(seconds) if seconds >= 60 else f"{seconds:.1f} s")
    assert len(listed.rows) == 12
    within = [row[0] for row in listed.rows if "the cheapest within one standard error" in row[0]]
    assert len(within) == 1


def test_results_come_with_what_they_depend_on_and_what_computed_them(
    report: Document, reading: Reading
) -> None:
    facts = dict(table(report, "What the results depend on").rows)
    study = reading.study
    expected = {
        "title": reported.RAW["title"],
        "problem": f"pairs, version {study.traits.version}",
        "architecture": "wsal",
        "sample size": "20",
        "protocol": f"3 folds, 4 epochs, seed {study.definition.seed}",
        "metric": "mean validation loss over folds after the last epoch, lowest first",
        "sampler, pruner": "grid, none",
        "grid": "batch size 10, 25; learning rate 1e-4, 1e-3; weight decay 0, 0.1; hidden units 10, 50; "
        "aux loss weight 1, 5",
        "data": "digits",
        "data, SHA-256": study.traits.fingerprint,
        "definition, SHA-256": study.definition.fingerprint,
    }
    assert {name: facts[name] for name in expected} == expected
    origins = table(report, "What computed the results")
    assert origins.header == ("work", "host", "results", "time")
    searched = sum(seconds_of(point.configuration) for point in reading.points)
    assert origins.rows == (
        ("search", "–", "32", duration(searched)),
        ("evaluation", "there", "6", duration(3.0)),
    )


def test_the_study_s_own_order_needed_so_many_trials(report: Document, reading: Reading) -> None:
    order = layout_order(reading.study.definition)
    best = order.index(min(order, key=value_of)) + 1
    own = [
        row
        for row in table(report, "How much of the grid had to be seen").rows
        if row[0] == "the study's own"
    ]
    assert own[0][1:5] == ("0.0000", str(best), f"{100 * best / 32:.1f}", "–")
    assert own[0][5] == f"{sum(map(seconds_of, order[:best])):.0f}"
    # Half a standard error of the best's mean, and one: its folds are 0.02 apart.
    error = 0.02 / math.sqrt(3)
    assert [row[1] for row in own[1:]] == [f"{error / 2:.4f}", f"{error:.4f}"]


def test_random_orders_needed_what_half_and_nearly_all_of_them_needed(
    report: Document, reading: Reading
) -> None:
    assert reading.table is not None
    random = replay(reading.table, "random")
    regrets = random.course.regret
    assert random.searches == len(regrets)
    values = sorted(map(value_of, reading.study.definition.grid.configurations()))
    listed = table(report, "How much of the grid had to be seen")
    assert listed.header == (
        "order", "regret at most", "trials, half of the searches", "of the grid, %", "trials, 95 %", "seconds, half",
    )  # fmt: skip
    rows = [row for row in listed.rows if row[0] == "random order"]
    assert len(rows) == 3
    for row, most in zip(rows, (0.0, 0.01 / math.sqrt(3), 0.02 / math.sqrt(3)), strict=True):
        reached = regrets <= most * (1 + 1e-9) + 1e-12
        trials = np.sort(reached.argmax(axis=1) + 1)
        seconds = np.sort(np.take_along_axis(random.course.seconds, reached.argmax(axis=1)[:, None], 1)[:, 0])
        half, most_of_all = trials[len(trials) // 2 - 1], trials[math.ceil(0.95 * len(trials)) - 1]
        assert abs(int(row[2]) - half) <= 1
        assert row[3] == f"{100 * int(row[2]) / len(values):.1f}"
        assert abs(int(row[4]) - most_of_all) <= 1
        assert abs(float(row[5]) - seconds[len(seconds) // 2]) <= 0.05 * seconds[-1]


def test_what_early_stopping_saves_and_loses_is_drawn_rule_by_rule(reading: Reading) -> None:
    assert reading.table is not None
    none = np.zeros(40)
    rules = [
        Stopping("median", 50.0, True, 40, 0.123456, 0.654321, none),
        Stopping("race", 0.05, True, 40, 0.5, 0.0, none),
    ]
    shown = _stopping(reading.table, rules)
    points = shown.views[0].spec["data"]
    assert [(point["x"], point["y"]) for point in points] == [([12.35], [65.43]), ([50.0], [0.0])]
    assert [point["name"] for point in points] == ["median (percentile 50)", "race (error rate 0.05)"]
    for point, rule in zip(points, rules, strict=True):
        low, high = (100 * end for end in rule.interval)
        assert point["error_y"]["array"] == [round(high - 100 * rule.lost, 2)]
        assert point["error_y"]["arrayminus"] == [round(100 * rule.lost - low, 2)]
        assert (
            point["hovertemplate"] == f"{rule.pruner}: %{{x}} % saved, best lost in %{{y}} %<extra></extra>"
        )
    assert len({point["marker"]["color"] for point in points}) == 2
    layout = shown.views[0].spec["layout"]
    assert [layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis")] == [
        "training saved, %",
        "best lost, %",
    ]
    assert shown.caption.startswith("Over 40 random orders")
    assert shown.alt.endswith("share of training saved: median 12 %, 65 %; race 50 %, 0 %")


def test_a_study_is_searched_again_when_it_has_ended_and_is_small_enough(
    report: Document, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisional = replace(reading, judged=replace(reading.judged, open=1))
    assert section(provisional) is None
    assert section(replace(reading, points=reading.points[:1])) is None
    large = section(replace(reading, table=None))
    assert large is not None
    (notice,) = large.blocks
    assert isinstance(notice, Notice)
    assert "`pairsearch replay pairs` does it" in notice.text
    asked: list[tuple[int, bool]] = []

    def measure(_: object, searches: int, every: bool) -> list[Stopping]:
        asked.append((searches, every))
        return []

    monkeypatch.setattr(searched_again, "measure_stopping", measure)
    for work in (32 * 19, 32 * 50, 32 * 101):
        monkeypatch.setattr(searched_again, "WORK", work)
        shown = section(replace(reading, points=reading.points[:2]))
        assert shown is not None
        assert len(shown.blocks) == 2, "without rules that can stop anything there is no figure of them"
    assert asked == [(20, False), (50, False), (100, False)]
    for view, (title, last) in zip(
        figure(report, "pairs-regret").views,
        (("trials", 32), ("seconds of training, one after the other", None)),
        strict=True,
    ):
        layout, traces = view.spec["layout"], view.spec["data"]
        assert layout["xaxis"]["title"]["text"] == title
        assert layout["yaxis"]["title"]["text"] == "regret, validation loss"
        assert [len(trace["x"]) for trace in traces] == [last or 200] * 4
        assert [trace.get("name") for trace in traces[1:]] == [
            "random order, 90 %", "random order, median", "the study's own order",
        ]  # fmt: skip
        steps = np.diff(traces[0]["x"])
        assert steps == pytest.approx(np.full(len(steps), traces[0]["x"][0]), rel=0.01)


def test_the_importance_names_what_it_leaves_out(reading: Reading) -> None:
    """All but one of the configurations, and one of each kind of study."""
    some = importance(replace(reading, points=tuple(reading.points[1:])))
    assert isinstance(some, Figure)
    gone = reading.points[0].configuration.params
    assert some.caption.startswith("What moves the logarithm of the mean validation loss over the finished")
    assert (
        "covers 16 of the 31 finished configurations: its largest complete part found, without batch size "
        f"{gone['batch_size']}." in some.caption
    )
    whole = importance(reading)
    assert isinstance(whole, Figure)
    (bars,) = whole.views[0].spec["data"]
    names = whole.views[0].spec["layout"]["yaxis"]["ticktext"]
    assert bars["x"] == [round(x, 3) for x in bars["x"]]
    said = ", ".join(f"{name} {text} %" for name, text in zip(names[:5], bars["text"], strict=False))
    assert whole.alt == f"Bar chart of the share of variance by parameter: {said}."
    layout = whole.views[0].spec["layout"]
    assert layout["xaxis"]["title"]["text"] == "share of variance, %"
    assert (layout["yaxis"]["range"], layout["yaxis"]["tickvals"]) == ([10.5, -0.5], list(range(11)))
    shifted = tuple(replace(point, value=point.known - 0.4) for point in reading.points)
    below = importance(replace(reading, points=shifted))
    assert isinstance(below, Figure)
    assert below.caption.startswith("What moves the mean validation loss over")
    for count, kind in ((7, Notice), (8, Figure)):
        # The first eight by place are a complete grid of three parameters.
        by_place = sorted(reading.points, key=lambda point: reading.places[point.key])
        assert isinstance(importance(replace(reading, points=tuple(by_place[:count]))), kind)


def test_parallel_coordinates_are_named_and_say_which_is_the_best(
    report: Document, ranked: list[Configuration]
) -> None:
    shown = figure(report, "pairs-parallel")
    assert shown.alt == (
        f"Parallel coordinates of 32 finished configurations; the best has {describe(ranked[0].params)}."
    )
    assert "Drawn are" not in shown.caption
    layout = shown.views[0].spec["layout"]
    assert layout["xaxis"]["ticktext"] == [*(name.replace("_", " ") for name in GRID), "validation loss"]
    best = shown.views[0].spec["data"][-1]
    # Two values a parameter; the best stands 0.15 above the lower end of the band of its value.
    assert best["y"][:-2] == [round((place(name, ranked[0]) + 0.15) / 2, 4) for name in GRID]
    worst = shown.views[0].spec["data"][0]["y"][-7:-2]
    assert worst == [round((place(name, ranked[-1]) + 0.15 + 0.7 * 31 / 32) / 2, 4) for name in GRID]


def test_parts_and_sections_stand_in_their_order(report: Document) -> None:
    assert report.title == "pairsearch report: pairs"
    assert report.facts[:2] == ("read 2026-01-02 03:04 UTC", "from here")
    assert [(part.title, [section.title for section in part.sections]) for part in report.parts] == [
        ("Results", ["Final evaluation"]),
        (
            "PAIRS",
            [
                "Verdict", "Coverage", "The grid", "Effect of each parameter", "Learning curves",
                "Evaluated configurations", "Time and cost", "Searched again", "Provenance",
            ],
        ),
    ]  # fmt: skip
