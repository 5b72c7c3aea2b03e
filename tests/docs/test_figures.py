"""The figures of the pages: each is shown by a page, holds what can be drawn, and reads in a light and a dark theme."""

from __future__ import annotations

import json
import re

import pytest
from pages import PAGES

from pairsearch.docs.figures import CLEAR, FIGURES, GREY


def test_pages_show_every_figure_and_no_other() -> None:
    shown = [
        name
        for page in PAGES
        for name in re.findall(r"^<!-- figure: (.*) -->$", page.read_text("utf-8"), re.M)
    ]
    assert sorted(shown) == sorted(FIGURES)


@pytest.mark.usefixtures("copied_paper")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_drawn_on_any_ground(name: str) -> None:
    drawn = json.loads(FIGURES[name]().to_json())
    layout = drawn["layout"]
    assert (layout["paper_bgcolor"], layout["plot_bgcolor"], layout["font"]["color"]) == (CLEAR, CLEAR, GREY)
    assert layout["height"] <= 640
    assert all("x" in trace or "z" in trace for trace in drawn["data"])
    assert not [trace for trace in drawn["data"] if [] in (trace.get("x"), trace.get("y"))]
