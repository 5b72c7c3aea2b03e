"""What figures are made of: scales, axes, panels, marks and texts, worked out by hand."""

from __future__ import annotations

import math
import statistics

import pytest

from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.report import drawing
from pairsearch.search.report.content import Figure, View, view_names
from pairsearch.search.report.curves import Lines, _traces, panels, several_epochs
from pairsearch.search.report.drawing import Shade
from pairsearch.search.report.evaluation_figures import _band
from pairsearch.studies.definition import Stated
from pairsearch.studies.problem import Metric

LOSS, ERROR, GAIN = Metric("log loss"), Metric("test error", percent=True), Metric("gain", maximise=True)


@pytest.mark.parametrize(
    ("metric", "figures", "logarithmic"),
    [
        (LOSS, [0.5, 2.0], True),
        (LOSS, [1e-9], True),
        (LOSS, [0.0, 2.0], False),
        (LOSS, [-1.0, 2.0], False),
        (LOSS, [], False),
        (ERROR, [0.5, 0.9], False),
        (GAIN, [0.5, 0.9], False),
        (Metric(percent=True, maximise=True), [0.5, 0.9], False),
    ],
)
def test_losses_above_0_have_a_logarithmic_scale(
    metric: Metric, figures: list[float], logarithmic: bool
) -> None:
    assert drawing.logarithmic(metric, figures) is logarithmic


def test_figures_are_scaled_to_the_unit_of_their_axis_with_six_digits() -> None:
    assert drawing.scaled(ERROR, 0.123456789) == 12.3457
    assert drawing.scaled(LOSS, 0.123456789) == 0.123457
    assert (drawing.from_zero(ERROR), drawing.from_zero(LOSS)) == ({"rangemode": "tozero"}, {})


def test_texts_are_shortened_and_escaped() -> None:
    assert [drawing.shortened("x" * count) for count in (24, 25)] == ["x" * 24, "x" * 23 + "…"]
    assert drawing.shortened("abcdef", 4) == "abc…"
    assert drawing.plain("'\"<&>\x00é\n") == "'\"&lt;&amp;&gt; é "
    assert drawing.slug("Val.Loss (%)") == "val-loss"
    assert drawing.thinned_note(5, 5, 7, "them") == ""
    assert drawing.thinned_note(1000, 4000, 7, "them") == (
        " Drawn are 1,000 of the 4,000, at most 7 of them, evenly by rank"
    )
    assert drawing.faded("#0172b2", 0.15) == "rgba(1,114,178,0.15)"


def test_axes_have_their_title_and_what_is_given_has_the_last_word() -> None:
    named = drawing.axis("a <b>", zeroline=True, type="log")
    assert named["title"]["text"] == "a &lt;b&gt;"
    assert (named["zeroline"], named["type"], named["automargin"]) == (True, "log", True)
    assert "title" not in drawing.axis()
    assert drawing.axis()["zeroline"] is False
    made = drawing.chart([{"x": 1}], legend={"y": 2}, xaxis=named)
    assert (made["data"], made["layout"]["legend"], made["layout"]["xaxis"]) == ([{"x": 1}], {"y": 2}, named)


@pytest.mark.parametrize(("count", "step"), [(1, 1), (12, 1), (13, 2), (24, 2), (25, 3)])
def test_of_many_categories_not_all_are_labelled(count: int, step: int) -> None:
    texts = [f"<{'x' * 30}{place}" for place in range(count)]
    made = drawing.categories(texts, "titled")
    assert made["title"]["text"] == "titled"
    assert made["tickvals"] == list(range(0, count, step))
    assert made["ticktext"] == [f"&lt;{'x' * 22}…" for _ in range(0, count, step)]
    assert made["range"] == [-0.5, count - 0.5]
    assert drawing.labelled(["a", "<"])["ticktext"] == ["a", "&lt;"]
    assert drawing.labelled(["a", "<"])["tickvals"] == [0, 1]


def test_traces_have_what_they_are_given() -> None:
    assert drawing.scatter("lines", [1, 2], [3, 4], name="it") == {
        "type": "scatter", "mode": "lines", "x": [1, 2], "y": [3, 4], "name": "it",
    }  # fmt: skip
    for first in (0, 1):
        curves = drawing.joined([[5.0, None], [6.0]], first=first, name="it")
        assert curves["x"] == [first, first + 1, None, first, None]
        assert (curves["y"], curves["name"]) == ([5.0, None, None, 6.0, None], "it")
    assert drawing.joined([[5.0]])["x"] == [0, None]
    assert drawing.whiskers([1.0], [2.0], color="red") == {
        "type": "data", "symmetric": False, "array": [1.0], "arrayminus": [2.0], "color": "red",
    }  # fmt: skip
    made = drawing.boxes("it", [0, 0], [1.0, 2.0], "#0072B2", jitter=0.6, hovertemplate="h")
    assert (made["type"], made["name"], made["x"], made["y"]) == ("box", "it", [0, 0], [1.0, 2.0])
    assert (made["line"]["color"], made["fillcolor"]) == ("#0072B2", "rgba(0,114,178,0.12)")
    assert (made["jitter"], made["hovertemplate"], made["boxpoints"]) == (0.6, "h", "all")
    assert made["marker"]["color"] == "#0072B2"
    assert drawing.box("it", [0], "#0072B2", width=0.5)["width"] == 0.5


def test_what_a_paper_states_is_a_mark_with_a_bar() -> None:
    made = drawing.stated_figures(
        [0.42, 1.42], ERROR, [Stated(mean=0.0606, std=0.0128), Stated(mean=0.5, std=0)], "red"
    )
    assert (made["x"], made["y"], made["error_y"]["array"]) == ([0.42, 1.42], [6.06, 50.0], [1.28, 0.0])
    assert made["name"] == "the paper’s figure, mean ± std"
    assert made["hovertemplate"] == "paper: %{y:.4g} %<extra></extra>"
    assert "%{y:.4g}<" in drawing.stated_figures([0], LOSS, [Stated(mean=1, std=0)], "red")["hovertemplate"]


def test_panels_and_notes_stand_where_they_belong() -> None:
    assert [drawing.on(index) for index in range(3)] == [
        {"xaxis": "x", "yaxis": "y"}, {"xaxis": "x2", "yaxis": "y2"}, {"xaxis": "x3", "yaxis": "y3"},
    ]  # fmt: skip
    assert drawing.panel(1, {"a": 1}, {"b": 2}) == {
        "xaxis2": {"a": 1, "anchor": "y2"}, "yaxis2": {"b": 2, "anchor": "x2"},
    }  # fmt: skip
    assert drawing.note("<a>", 0.25, 0.75, xref="x") == {
        "text": "&lt;a&gt;", "x": 0.25, "y": 0.75, "xref": "x", "yref": "paper", "showarrow": False,
    }  # fmt: skip
    assert drawing.spans(2, 0.12) == [[0.0, pytest.approx(0.44)], [pytest.approx(0.56), pytest.approx(1.0)]]
    # Never more than half of the room is left for gaps.
    assert drawing.spans(10, 0.5)[1] == [pytest.approx(0.105), pytest.approx(0.16)]


@pytest.mark.parametrize(
    ("figures", "metric", "ticks"),
    [
        ([0.1, 10.0], LOSS, [0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 10.0]),
        ([4.5, 70.0], LOSS, [4.5, 5.0, 6.0, 8.0, 15.0, 30.0, 70.0]),
        ([0.0, 1.0], ERROR, [0.0, 0.01, 0.04, 0.09, 0.16, 0.25, 0.35, 0.47, 0.61, 0.76, 1.0]),
        ([0.2, 0.35], GAIN, [0.35, 0.348, 0.343, 0.335, 0.325, 0.312, 0.297, 0.279, 0.259, 0.236, 0.2]),
        ([-2.0, 3.0], LOSS, [-2.0, -1.9, -1.7, -1.4, -1.0, -0.5, 0.1, 0.8, 1.6, 3.0]),
        ([0.3, 0.3], LOSS, [0.3]),
    ],
)
def test_ticks_are_round_figures_that_are_apart(
    figures: list[float], metric: Metric, ticks: list[float]
) -> None:
    shade = Shade.over(figures, metric)
    assert shade.ticks() == pytest.approx(ticks)
    assert shade.of(shade.best) == 0.0


@pytest.mark.parametrize(
    ("figures", "metric", "figure", "shade"),
    [
        ([1.0, 16.0], LOSS, 2.0, 0.5),
        ([1.0, 16.0], LOSS, 0.5, 0.0),
        ([1.0, 16.0], LOSS, 17.0, 1.0),
        ([-1.0, 3.0], LOSS, 0.0, 0.5),
        ([-1.0, 3.0], GAIN, 2.0, 0.5),
        ([2.0, 6.0], GAIN, 5.0, 0.5),
        ([2.0, 6.0], GAIN, 7.0, 0.0),
        ([2.0, 6.0], GAIN, 1.0, 1.0),
    ],
)
def test_a_shade_is_the_root_of_the_way_from_the_best_to_the_worst(
    figures: list[float], metric: Metric, figure: float, shade: float
) -> None:
    assert Shade.over(figures, metric).of(figure) == pytest.approx(shade)


def run(index: int, **curves: list[float]) -> RunResult:
    return RunResult(index, {name.replace("_", " "): curve for name, curve in curves.items()})


METRICS = {
    "t": Metric("training loss", training=True),
    "l": Metric("validation loss"),
    "never": Metric("never loss"),
    "g": Metric("validation gain", maximise=True),
    "e": Metric("validation error", percent=True),
    "a": Metric("validation accuracy", percent=True, maximise=True),
}


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        # Figures of each panel, its title, and whether its axis is logarithmic.
        ("tl", [("training loss, validation loss", "loss", True)]),
        ("lg", [("validation loss, validation gain", None, False)]),
        ("gl", [("validation loss, validation gain", None, False)]),
        ("e", [("validation error", "validation error, %", False)]),
        (
            "le",
            [
                ("validation loss", "validation loss", True),
                ("validation error", "validation error, %", False),
            ],
        ),
        (
            "ael",
            [
                ("validation loss", "validation loss", True),
                ("validation error, validation accuracy", "%", False),
            ],
        ),
    ],
)
def test_curves_stand_in_panels_of_their_unit(names: str, axes: list[tuple[str, str | None, bool]]) -> None:
    runs = [RunResult(0, {name: [0.5, math.nan, 0.25] for name in names}), RunResult(1, {names[0]: [0.5]})]
    made = panels(runs, METRICS, lambda lines: [{"name": lines.label, "lines": lines}])
    assert len([key for key in made["layout"] if "axis" in key]) == 2 * len(axes)
    for index, (labels, title, logarithmic) in enumerate(axes):
        end = "" if index == 0 else str(index + 1)
        here = [trace for trace in made["data"] if trace["xaxis"] == f"x{end}"]
        assert ", ".join(trace["name"] for trace in here) == labels
        assert {trace["yaxis"] for trace in here} == {f"y{end}"}
        across, up = made["layout"][f"xaxis{end}"], made["layout"][f"yaxis{end}"]
        assert (across["title"]["text"], across["anchor"], up["anchor"]) == ("epoch", f"y{end}", f"x{end}")
        assert across["domain"] == drawing.spans(len(axes), 0.12)[index]
        assert up.get("title", {}).get("text") == title
        assert (up.get("type") == "log") is logarithmic
        assert (up.get("rangemode") == "tozero") is ("%" in (title or ""))
        for trace in here:
            lines = trace["lines"]
            scale = 100 if lines.metric.percent else 1
            assert lines.curves[0] == [50.0 * scale / 100, None, 25.0 * scale / 100]
            assert (lines.colour in (drawing.BLUE, drawing.SKY)) is lines.metric.training
    assert len({trace["lines"].colour for trace in made["data"] if trace["xaxis"] == "x"}) == len(
        [trace for trace in made["data"] if trace["xaxis"] == "x"]
    )


def test_a_curve_that_is_zero_or_less_has_no_logarithmic_axis() -> None:
    def kind(*curves: list[float]) -> str | None:
        runs = [RunResult(place, {"l": curve}) for place, curve in enumerate(curves)]
        found: str | None = panels(runs, METRICS, _traces)["layout"]["yaxis"].get("type")
        return found

    assert [kind([0.5, 0.25]), kind([0.5], [0.0]), kind([0.5, -0.1]), kind([math.inf, 0.5])] == [
        "log", None, None, "log",
    ]  # fmt: skip


def test_runs_have_several_epochs_if_one_of_them_has_two() -> None:
    one, two = run(0, l=[0.5]), run(1, l=[0.5, 0.25])
    assert [several_epochs(of) for of in ([], [one], [one, one], [two], [two, one], [one, two])] == [
        False, False, False, True, True, True,
    ]  # fmt: skip


def test_a_mean_curve_is_over_the_runs_that_got_so_far() -> None:
    lines = Lines("a <b>", LOSS, "#0072B2", [[0.5, None, 0.123456789], [0.25, None], [0.75]])
    assert lines.by_epoch() == [[0.5, 0.25, 0.75], [], [0.123456789]]
    folds, mean = _traces(lines)
    assert (folds["name"], folds["x"][:4]) == ("a &lt;b&gt;, folds", [1, 2, 3, None])
    assert (mean["x"], mean["y"], mean["name"]) == ([1, 2, 3], [0.5, None, 0.12346], "a &lt;b&gt;, mean")
    assert mean["hovertemplate"] == "epoch %{x}: mean a &lt;b&gt; %{y:.4g}<extra></extra>"
    assert (folds["line"]["color"], mean["line"]["color"]) == ("rgba(0,114,178,0.3)", "#0072B2")
    assert (folds["hoverinfo"], folds["showlegend"]) == ("skip", False)


@pytest.mark.parametrize(
    ("metric", "floor"),
    [(LOSS, -math.inf), (GAIN, -math.inf), (ERROR, 0.0), (Metric("", percent=True, maximise=True), 0.0)],
)
def test_a_band_is_a_deviation_to_either_side_and_of_fractions_not_below_0(
    metric: Metric, floor: float
) -> None:
    curves = [[3.0, 0.0, None, 2.0], [9.0, 3.0, None], [6.0]]
    band, line = _band(Lines("a <b>", metric, "#0072B2", curves))
    by_epoch = {1: [3.0, 9.0, 6.0], 2: [0.0, 3.0], 4: [2.0]}
    means = [statistics.fmean(values) for values in by_epoch.values()]
    deviations = [3.0, statistics.stdev([0.0, 3.0]), 0.0]
    assert (line["x"], line["y"], line["name"]) == ([1, 2, 4], means, "a &lt;b&gt;")
    assert (band["x"], band["name"]) == ([1, 2, 4, 4, 2, 1], "a &lt;b&gt;, ± std")
    highs = [mean + one for mean, one in zip(means, deviations, strict=True)]
    lows = [max(floor, mean - one) for mean, one in zip(means, deviations, strict=True)]
    assert band["y"] == pytest.approx([*highs, *lows[::-1]], rel=1e-5)
    assert line["hovertemplate"] == f"a &lt;b&gt; %{{y:.4g}}{' %' if metric.percent else ''}<extra></extra>"
    assert (band["showlegend"], band["hoverinfo"], band["fill"]) == (False, "skip", "toself")


def test_a_band_of_shares_below_0_is_not_cut() -> None:
    band, _ = _band(Lines("change", ERROR, "#0072B2", [[-1.0, 4.0], [1.0, 4.0]]))
    assert band["y"][-1] == pytest.approx(-statistics.stdev([-1.0, 1.0]), rel=1e-5)
    nothing, _ = _band(Lines("nothing", ERROR, "#0072B2", [[None]]))
    assert (nothing["x"], nothing["y"]) == ([], [])


def test_views_of_a_figure_have_names_of_their_own() -> None:
    views = tuple(View("", {}) for _ in range(3))
    for count, names in ((1, ["it"]), (2, ["it-1", "it-2"]), (3, ["it-1", "it-2", "it-3"])):
        assert view_names(Figure("it", "", "", "", views[:count])) == names
