"""The report in a real browser draws its figures without errors, loads nothing, and does not run hostile texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import reported
from reported import read
from watching import BrowserPage, open_page

from pairsearch.search.database.connection import open_database
from pairsearch.search.database.states import State
from pairsearch.search.report import document
from pairsearch.search.report.page import render

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

HOSTILE = (
    "</script><img src=x onerror=alert(1)><script>alert(2)</script>"
    '<a href="javascript:alert(3)">here</a><a href="http://198.51.100.1/">there</a>&lt;b&gt;'
)
# The longest name that the ledger accepts.
HOSTILE_NAME = "<b>&lt;</b><a href='javascript:alert(4)'>x</a><script>"
FIGURES = 11


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a finished and evaluated study that has hostile texts wherever it can."""
    folder = tmp_path_factory.mktemp("report")
    database = open_database(f"sqlite:///{folder / 'pairs.db'}", create=True)
    study = reported.create(database, title=HOSTILE)
    for state in (State.FAILED, State.DIVERGED, State.PRUNED):
        reported.end(database, study, state, HOSTILE)
    reported.finish(database, study, host=HOSTILE)
    assert study.definition.paper is not None
    reported.evaluate(database, study, study.definition.paper.configuration, [0.05, 0.06, 0.07])
    # The program refuses this name, but somebody else may have written it into the database.
    reading = read(database, study)
    named = dataclasses.replace(reading, study=dataclasses.replace(study, name=HOSTILE_NAME))
    database.close()
    path = folder / "report.html"
    path.write_text(render(document.compose([named], HOSTILE, datetime.now(UTC))), encoding="utf-8")
    return path


def scroll_through(browser_page: BrowserPage, path: Path) -> None:
    """Open the page and scroll to every figure."""
    from playwright.sync_api import expect  # noqa: PLC0415 - where it is not installed, the fixture skips

    browser_page.page.goto(path.as_uri())
    for drawing in browser_page.page.locator(".drawing").all():
        drawing.scroll_into_view_if_needed()
        expect(drawing).to_have_attribute("aria-busy", "false")


@pytest.fixture(scope="module")
def visited(browser_context: BrowserContext, page_file: Path) -> Iterator[BrowserPage]:
    """The page, after it was scrolled to its end."""
    watched = open_page(browser_context)
    scroll_through(watched, page_file)
    yield watched
    watched.page.close()


def test_every_figure_is_drawn(visited: BrowserPage) -> None:
    drawn = visited.page.locator(".js-plotly-plot")
    assert drawn.count() == FIGURES
    for place in range(FIGURES):
        marks = drawn.nth(place).locator(".cartesianlayer .trace path, .cartesianlayer .hm image")
        assert marks.count() > 0, f"figure {place + 1} is empty"


def test_nothing_is_asked_for_but_the_page_and_nothing_is_complained_about(
    visited: BrowserPage, page_file: Path
) -> None:
    assert visited.requests == [page_file.as_uri()]
    assert visited.complaints == []


def test_hostile_texts_are_shown_and_do_nothing(visited: BrowserPage) -> None:
    page = visited.page
    assert visited.dialogs == []
    assert page.title() == f"pairsearch report: {HOSTILE_NAME}"
    assert page.locator("main td", has_text=HOSTILE).count() >= 4
    # The study's name is also on an axis of the box plot, letter for letter.
    axis = page.locator("#figure-1 .xtick text").first
    assert axis.evaluate("text => text.textContent") == HOSTILE_NAME.upper()
    assert page.locator("svg a, a[href^=javascript], a[href^=http], img").count() == 0


def test_the_policy_stops_a_script_that_got_in(browser_page: BrowserPage, page_file: Path) -> None:
    browser_page.page.goto(page_file.as_uri())
    browser_page.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<a id=in onclick=\"document.title=1\">x</a>')"
    )
    browser_page.page.locator("#in").click()
    assert browser_page.page.title() != "1"
    assert any("Content Security Policy" in complaint for complaint in browser_page.complaints)


def test_another_view_is_drawn_when_it_is_chosen(visited: BrowserPage) -> None:
    from playwright.sync_api import expect  # noqa: PLC0415

    figure = visited.page.locator("figure", has_text="Mean validation loss over").first
    cells = figure.locator(".heatmap-label")
    before = cells.all_text_contents()
    assert len(before) > 0
    figure.locator("select").select_option(label="aux loss weight 1")
    expect(figure.locator(".drawing")).to_have_attribute("data-drawn", "1")
    expect(figure.locator(".drawing")).to_have_attribute("aria-busy", "false")
    assert cells.all_text_contents() != before
    assert visited.complaints == []


def test_in_a_narrow_window_only_figures_and_tables_scroll_sideways(
    browser_page: BrowserPage, page_file: Path
) -> None:
    browser_page.page.set_viewport_size({"width": 360, "height": 800})
    scroll_through(browser_page, page_file)
    assert browser_page.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_on_paper_figures_and_tables_fit_the_width_and_nothing_is_there_to_click(
    visited: BrowserPage,
) -> None:
    page = visited.page
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    # The width of A4 between its margins, in CSS pixels.
    page.set_viewport_size({"width": 680, "height": 1009})
    page.emulate_media(media="print")
    for selector in (".drawing", "table", ".drawing .main-svg"):
        boxes = [place.bounding_box() for place in page.locator(selector).all()]
        assert boxes
        for box in boxes:
            assert box is not None
            assert box["x"] + box["width"] <= 681, selector
            assert selector == "table" or box["height"] <= 900
    assert page.locator(".modebar:visible, nav:visible").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
