"""The README, that of the benchmarks and the explanations show what their commands print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pages import BENCHMARKS, PAGES, README, page_name


@pytest.mark.parametrize(
    "page",
    [README, BENCHMARKS, *(page for page in PAGES if page.parent.name == "explanation")],
    ids=page_name,
)
def test_a_page_shows_what_its_commands_print(
    page: Path, read_page: Callable[[Path], list[tuple[str, str, str]]]
) -> None:
    assert read_page(page) == []
