"""Fixtures of the tests of pages in a browser: each test has a new tab, which records requests and complaints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from availability import unavailable
from watching import BrowserPage, open_page

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

ARGUMENTS = (
    "--no-sandbox",  # root cannot use the sandbox
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session")
def browser_context(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A headless Chromium with a profile of its own."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415
    except ImportError:
        unavailable("Playwright is not installed: pip install 'pairsearch[test]' brings it")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=chromium,
            args=list(ARGUMENTS),
            viewport={"width": 1200, "height": 900},
        )
        yield context
        context.close()


@pytest.fixture
def browser_page(browser_context: BrowserContext) -> Iterator[BrowserPage]:
    """A new tab for each test."""
    watched = open_page(browser_context)
    yield watched
    watched.page.close()
