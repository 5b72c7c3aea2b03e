"""A real optuna-dashboard shows a finished study in a real browser."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import programs
import pytest
import tiny
from availability import needed

from pairsearch.data.sources import Source
from pairsearch.search.database.connection import open_database
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.seeds import layout_order

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from watching import BrowserPage

HOSTILE = (
    '<img src=x onerror="window.hacked=1"> **bold** http://evil.example/ <script>window.hacked=1</script>'
)


@pytest.fixture
def dashboard(tmp_path: Path, digits_source: Source, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a `pairsearch dashboard` with the tiny study, which is finished and has a hostile title.

    It is there twice: written by us, and by Optuna's own functions, as where a later Optuna has tables of its own.
    """
    needed("optuna_dashboard")
    url = f"sqlite:///{tmp_path / 'pairsearch.db'}"
    database = open_database(url, create=True)
    for name in ("tiny", "later"):
        study = create_study(database, tiny.loaded(source=digits_source, title=HOSTILE, name=name)).study
        Worker(open_ledger(database, study), tiny.Answering(), stopping=threading.Event()).run()
        monkeypatch.setattr("pairsearch.search.mirror.tables.VERSION", "v9.9.9")
    database.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "pairsearch", "dashboard", "--port", str(port), "--storage", url],
        cwd=tmp_path,
        env=programs.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        assert process.poll() is None, "the dashboard ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        programs.wait_for(answers, "the dashboard")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_the_dashboard_shows_note_trials_and_history_and_speaks_to_nobody_else(
    dashboard: str, browser_page: BrowserPage
) -> None:
    page = browser_page.page
    for study in (1, 2):
        look_at(page, f"{dashboard}/dashboard/studies/{study}")
    assert page.evaluate("window.hacked") is None
    assert (browser_page.complaints, browser_page.dialogs) == ([], [])
    assert [url for url in browser_page.requests if not url.startswith(f"{dashboard}/")] == []


def look_at(page: Page, study: str) -> None:
    """Hold the pages of a study to what they have to show."""
    from playwright.sync_api import expect  # noqa: PLC0415

    page.goto(f"{study}/note")
    expect(page.get_by_role("heading", name="How to read it")).to_be_visible()
    expect(page.get_by_role("row", name="learning_rate 0.0001, 0.001")).to_be_visible()
    # The title is shown letter by letter, and its markup is not interpreted.
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    assert page.locator("main img, main script, main a[href*=evil]").count() == 0

    first = layout_order(tiny.definition())[0]
    page.goto(f"{study}/trials?numbers=0")
    expect(page.get_by_text("8 Trials")).to_be_visible()
    expect(page.get_by_text(f"{tiny.value_of(first):g}", exact=True).first).to_be_visible()
    for name, value in first.params.items():
        expect(page.get_by_text(f"{name} {value!r}").first).to_be_visible()

    page.goto(study)
    history = page.locator("#plot-history")
    expect(history.locator(".scatterlayer .point").nth(7)).to_be_attached()
    expect(history.get_by_text("val_loss", exact=True)).to_be_attached()
