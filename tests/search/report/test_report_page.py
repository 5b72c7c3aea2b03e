"""The page: complete, unfinished and empty studies, hostile texts, figures that Plotly knows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
import reported
from reported import read, table

from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.report import document, judgement
from pairsearch.search.report.content import Document, Notice, Paragraph, Table
from pairsearch.search.report.drawing import Shade, briefly, plain, spans
from pairsearch.search.report.evaluation import shown_interval
from pairsearch.search.report.page import inline_json, render
from pairsearch.search.report.parameters import Parameter, number
from pairsearch.search.results.evaluations import Spread
from pairsearch.search.results.formatting import spread
from pairsearch.search.verdict.sentences import verdict_lines
from pairsearch.studies.problem import Metric

HOSTILE = (
    '</script><img src=x onerror=alert(1)><a href="javascript:alert(2)">here</a>&lt;b&gt;\u2028{{ 7 * 7 }}'
)


class Elements(HTMLParser):
    """The elements of a page, their attributes, and the text in scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self.text = ""
        self._raw: int | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._raw = len(self.found) - 1 if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._raw = None

    def handle_data(self, data: str) -> None:
        if self._raw is None:
            self.text += data
        else:
            self.texts[self._raw] = self.texts.get(self._raw, "") + data

    def scripts(self, *, data: bool) -> list[str]:
        """The texts of the scripts that run, or of the JSON beside them."""
        return [
            self.texts[index]
            for index, (tag, attributes) in enumerate(self.found)
            if tag == "script" and (attributes.get("type") == "application/json") == data
        ]


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    opened = open_database(sqlite_url, create=True)
    yield opened
    opened.close()


def composed(database: Database, *studies: StoredStudy, label: str = "here") -> Document:
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return document.compose([read(database, study) for study in studies], label, moment)


def whole(database: Database, **changes: object) -> StoredStudy:
    """A study that is searched to its end and evaluated, with one configuration of each other state."""
    study = reported.create(database, **changes)
    for state in (State.FAILED, State.DIVERGED, State.PRUNED):
        reported.end(database, study, state, HOSTILE)
    reported.finish(database, study, host=HOSTILE)
    best = read(database, study).best
    assert best is not None
    assert study.definition.paper is not None
    for configuration in {best, study.definition.paper.configuration}:
        reported.evaluate(database, study, configuration, [0.05, 0.06, 0.07])
    return study


def notices(report: Document) -> str:
    blocks = [block for part in report.parts for section in part.sections for block in section.blocks]
    return "\n".join(block.text for block in blocks if isinstance(block, Notice))


def test_every_figure_is_one_that_plotly_knows(database: Database) -> None:
    import plotly.graph_objects as go  # noqa: PLC0415

    report = composed(database, whole(database))
    assert [figure.name for figure in report.figures] == [
        "evaluation",
        "pairs-by-epoch",
        "pairs-val-loss",
        "pairs-val-error",
        "pairs-parallel",
        "pairs-importance",
        "pairs-effects",
        "pairs-learning-curves",
        "pairs-seconds",
        "pairs-regret",
        "pairs-stopping",
    ]
    for figure in report.figures:
        assert figure.alt
        for view in figure.views:
            go.Figure(view.spec)  # raises for a property or a value that Plotly does not have


def test_the_heat_map_of_the_paper_s_grid_has_a_view_for_the_best_over_the_weights_and_for_each_weight(
    database: Database,
) -> None:
    report = composed(database, whole(database))
    (figure,) = [figure for figure in report.figures if figure.name == "pairs-val-loss"]
    assert [view.label for view in figure.views] == [
        "best over aux loss weight",
        "aux loss weight 1",
        "aux loss weight 5",
    ]
    layout = figure.views[0].spec["layout"]
    assert [layout[axis]["title"]["text"] for axis in ("xaxis3", "yaxis3")] == [
        "learning rate",
        "weight decay",
    ]
    assert [note["text"] for note in layout["annotations"]] == [
        f"batch size {batch} · hidden units {units}" for units in (10, 50) for batch in (10, 25)
    ]
    cells = [
        text
        for trace in figure.views[1].spec["data"]
        if trace["type"] == "heatmap"
        for row in trace["text"]
        for text in row
    ]
    reading = read(database, get_study(database, "pairs"))
    expected = [point for point in reading.finished if point.configuration.params["aux_loss_weight"] == 1.0]
    assert sorted(filter(None, cells)) == sorted(f"{point.value:.3f}" for point in expected)
    assert len(cells) == 16


def test_cells_without_a_figure_are_empty_and_marked(database: Database) -> None:
    study = reported.create(database)
    reported.finish(database, study, 20)
    reported.end(database, study, State.DIVERGED, "fold 0 diverged")
    (figure,) = [figure for figure in composed(database, study).figures if figure.name == "pairs-val-loss"]
    views = [view.spec["data"] for view in figure.views[1:]]
    heat = [trace for data in views for trace in data if trace["type"] == "heatmap"]
    shades = [shade for trace in heat for row in trace["z"] for shade in row]
    assert (len(shades), shades.count(None)) == (32, 12)
    marks = {
        name: sum(len(trace["x"]) for data in views for trace in data if trace.get("name") == name)
        for name in ("diverged", "not started")
    }
    assert marks == {"diverged": 1, "not started": 11}


def test_an_empty_study_has_a_report_that_says_what_is_missing(database: Database) -> None:
    report = composed(database, reported.create(database, paper=None))
    assert report.figures == []
    assert "There is nothing to judge: no configuration is finished yet." in notices(report)
    assert "no configuration is finished yet; `pairsearch worker pairs` trains them" in notices(report)
    assert "32 of 32 configurations have no result yet" in notices(report)
    assert "pairs" in Elements(render(report)).text.lower()


def test_an_unfinished_study_that_is_not_evaluated_says_so(database: Database) -> None:
    study = reported.create(database)
    reported.finish(database, study, 9)
    said = notices(composed(database, study))
    assert "23 of 32 configurations have no result yet" in said
    assert (
        "0 of 3 rounds of the search’s best configuration are done; `pairsearch evaluate pairs` trains"
        in said
    )
    assert "`pairsearch evaluate pairs --paper` trains" in said


def test_table_1_has_our_figures_with_their_interval_beside_the_paper_s(database: Database) -> None:
    study = reported.create(database)
    assert study.definition.paper is not None
    reported.evaluate(database, study, study.definition.paper.configuration, [0.05, 0.06, 0.07])
    found = table(composed(database, study), "Table 1")
    assert found.header == (
        "study",
        "configuration",
        "hyperparameters",
        "parameters",
        *reported.OF_ROUNDS,
    )
    assert found.caption.endswith(
        "BS batch size, LR learning rate, WD weight decay, HU hidden units, ALW aux loss weight."
    )
    (row,) = found.rows
    # Mean 6, deviation 1, t(0.975; 2) = 4.3027: 6 ± 4.3027 / √3.
    assert row == (
        "PAIRS",
        "paper’s",
        "BS 10 LR 0.0001 WD 0 HU 50 ALW 5",
        "50,454",
        "3",
        "3.00 ± 0.50",
        "6.00 ± 1.00",
        "3.52 to 8.48",
        "0.00 ± 0.00",
        "6.06 ± 1.28",
    )


def test_each_study_opens_with_its_verdict(database: Database) -> None:
    study = whole(database)
    reading = read(database, study)
    verdict = reading.judged.verdict
    assert verdict is not None
    part = composed(database, study).parts[1]
    first = part.sections[0]
    assert first.title == "Verdict"
    sentences = [block.text for block in first.blocks if isinstance(block, Paragraph)]
    assert sentences == verdict_lines(reading.judged)
    (members,) = [block for block in first.blocks if isinstance(block, Table)]
    assert len(members.rows) == min(12, len(verdict.members))
    assert members.rows[0][:3] == (
        "BS 10 LR 0.001 WD 0 HU 50 ALW 5 (the cheapest, the cheapest within one standard error)",
        f"{verdict.members[0].mean:.4f}",
        "0.0000",
    )
    # One that is alone is the cheapest anyway.
    for count, remarked in ((2, True), (1, False)):
        few = replace(reading.judged, verdict=replace(verdict, members=verdict.members[:count]))
        (left,) = [
            one for one in judgement.section(replace(reading, judged=few)).blocks if isinstance(one, Table)
        ]
        assert ["(the cheapest" in row[0] for row in left.rows] == [remarked, False][:count]


def test_a_single_round_has_neither_deviation_nor_interval() -> None:
    error, accuracy = Metric(percent=True), Metric(percent=True, maximise=True)
    assert (spread(error, Spread.of([0.05])), shown_interval(error, [0.05])) == ("5.00", "–")
    assert (spread(error, None), shown_interval(error, [])) == ("–", "–")
    # Fractions stay between 0 and 1; what is no fraction may be below 0.
    assert shown_interval(error, [0.0, 0.02]) == "0.00 to 13.71"
    assert shown_interval(accuracy, [0.98, 1.0]) == "86.29 to 100.00"
    assert shown_interval(Metric(), [0.0, 0.02]) == "-0.1171 to 0.1371"


def test_hostile_texts_stay_texts(database: Database) -> None:
    report = composed(database, whole(database, title=HOSTILE), label=HOSTILE)
    page = render(report)
    elements = Elements(page)
    assert [attributes for tag, attributes in elements.found if tag == "img"] == []
    assert {attributes["href"] for tag, attributes in elements.found if tag == "a"} <= {
        f"#part-{part}{section}" for part in (1, 2) for section in ("", *(f"-{n}" for n in range(1, 10)))
    }
    assert [name for _, attributes in elements.found for name in attributes if name.startswith("on")] == []
    # Title, label, the reason of three states and the host: there, letter for letter.
    assert elements.text.count(HOSTILE) >= 6
    for text in elements.scripts(data=True):
        assert not re.search("[<>&\u2028\u2029]", text)
        json.loads(text)


def strings(value: Any) -> Iterator[str]:
    """Every text in a specification."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings(entry)


def test_plotly_gets_no_tag_but_line_breaks(database: Database) -> None:
    report = composed(database, whole(database, title=HOSTILE), label=HOSTILE)
    texts = [text for figure in report.figures for view in figure.views for text in strings(view.spec)]
    tags = {tag for text in texts for tag in re.findall("<[^>]*>", text)}
    assert tags <= {"<br>", "<extra>", "</extra>"}
    assert plain("<a href='javascript:1'>&amp;</a>\n") == (
        "&lt;a href='javascript:1'&gt;&amp;amp;&lt;/a&gt; "
    )


def test_only_the_scripts_of_the_page_may_run_and_nothing_may_be_loaded(database: Database) -> None:
    page = render(composed(database, reported.create(database)))
    elements = Elements(page)
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in elements.found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    scripts = elements.scripts(data=False)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(hashes) == 2
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    assert f"script-src {allowed};" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    sources = [a.get("src") for _, a in elements.found] + [
        a["href"] for tag, a in elements.found if tag == "link"
    ]
    assert {source for source in sources if source} == {"data:,"}


def test_figures_are_numbered_and_the_markup_has_no_empty_lines(database: Database) -> None:
    page = render(composed(database, whole(database)))
    for what in ("figure", "data"):
        numbers = [int(number) for number in re.findall(rf'id="{what}-(\d+)"', page)]
        assert numbers == list(range(1, 12))
    body = page.partition("<body>")[2].partition("<noscript>")[0]
    assert not [line for line in body.splitlines() if line != line.strip()]
    assert "\n\n" not in body
    assert inline_json({"a": [1, 2]}) == '{"a":[1,2]}'


def test_json_in_a_page_refuses_what_json_does_not_have() -> None:
    assert json.loads(inline_json({"a": HOSTILE})) == {"a": HOSTILE}
    with pytest.raises(ValueError, match="JSON"):
        inline_json(float("nan"))


def test_shades_run_from_the_best_to_the_worst_and_spread_what_is_near_the_best() -> None:
    shade = Shade.over([0.1, 0.2, 10.0], Metric())
    assert (shade.of(0.1), shade.of(10.0)) == (0.0, 1.0)
    # A quarter of the way on the logarithmic scale is half of the colours.
    assert shade.of(0.1 * 100**0.25) == pytest.approx(0.5)
    places = [shade.of(tick) for tick in shade.ticks()]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, 1.0)
    assert Shade.over([0.0, 0.5], Metric()).of(0.125) == pytest.approx(0.5)
    assert Shade.over([0.3], Metric()).of(0.3) == 0.0


@pytest.mark.parametrize("figures", [[-3.0, -1.5, 2.0], [0.5, 0.91], [0.0, 1e-7], [0.1, 1e5], [-2.0, -1.0]])
@pytest.mark.parametrize("metric", [Metric(), Metric(percent=True), Metric(maximise=True)])
def test_shades_of_any_figures_run_from_the_best_to_the_worst(figures: list[float], metric: Metric) -> None:
    shade = Shade.over(figures, metric)
    best, worst = sorted((figures[0], figures[-1]), reverse=metric.maximise)
    assert (shade.of(best), shade.of(worst)) == (0.0, 1.0)
    ticks = shade.ticks()
    assert (ticks[0], ticks[-1]) == (best, worst)
    places = [shade.of(tick) for tick in ticks]
    assert places == sorted(places)
    assert 3 <= len(places) <= 12


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_facets_side_by_side_fill_the_figure_without_overlapping(count: int) -> None:
    found = spans(count, 0.1)
    assert (len(found), found[0][0], found[-1][1]) == (count, 0.0, pytest.approx(1.0))
    assert all(right > left for left, right in found)
    assert all(after[0] > before[1] for before, after in pairwise(found))
    # Gaps take less room than what they part.
    assert sum(right - left for left, right in found) > 0.5


def test_levels_that_are_numbers_ascend_and_others_keep_their_order() -> None:
    numbers = Parameter.of("x", [3, 0.5, 1, 1.0], absent=True)
    assert (numbers.levels, numbers.texts) == ((0.5, 1, 1.0, 3, None), ("0.5", "1", "1.0", "3", "absent"))
    assert [type(level) for level in numbers.levels[1:3]] == [int, float]
    assert [type(level) for level in Parameter.of("x", [1.0, 1], absent=False).levels] == [int, float]
    assert Parameter.of("x", ["b", "a", 1], absent=False).levels == ("b", "a", 1)


def test_figures_in_a_cell_are_short() -> None:
    values = (0.25, 0.01, 0.00999, 99.9, 100.0, -0.25, -0.005, 0.0)
    assert [briefly(Metric(), value) for value in values] == [
        *("0.250", "0.010", "0.00999", "99.900", "100", "-0.250", "-0.005", "0"),
    ]
    assert briefly(Metric(percent=True), 0.12345) == "12.35"


def test_hyperparameters_are_short() -> None:
    assert [number(value) for value in (0.0, 1e-5, 1e-3, 0.0025, 0.01, 0.5, 10, 100)] == [
        "0",
        "1e-5",
        "1e-3",
        "2.5e-3",
        "0.01",
        "0.5",
        "10",
        "100",
    ]
