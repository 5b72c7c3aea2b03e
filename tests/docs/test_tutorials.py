"""The tutorials show what their commands print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pages import DOCS, PAGES, page_name

SLOW = DOCS / "tutorials" / "paper.md"
"""It trains on MNIST for most of a minute."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.soak] if page == SLOW else [])
        for page in PAGES
        if page.parent.name == "tutorials"
    ],
    ids=page_name,
)
def test_a_page_shows_what_its_commands_print(
    page: Path, read_page: Callable[[Path], list[tuple[str, str, str]]]
) -> None:
    assert read_page(page) == []
