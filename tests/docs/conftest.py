"""A reader for the pages of the documentation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import programs
import pytest
from pages import Reader, blocks, copy_database, load_by_copying, write

from pairsearch.docs import shipped

WRITE = "WRITE_OUTPUTS"
"""An environment variable: what a page says otherwise than its commands is written into it."""


@pytest.fixture
def copied_paper(paper_url: str, monkeypatch: pytest.MonkeyPatch) -> programs.Prepare:
    """Figures are drawn of a copy of a database with the shipped results, for loading takes seconds.

    A program does it too when this prepares it.
    """
    monkeypatch.setattr(shipped, "load", partial(copy_database, paper_url))
    return partial(load_by_copying, paper_url)


@pytest.fixture
def read_page(
    tmp_path: Path, mnist_root: Path, request: pytest.FixtureRequest
) -> Callable[[Path], list[tuple[str, str, str]]]:
    """Types what a page shows; gives what printed something else: command, what the page says, what came."""

    def read(page: Path) -> list[tuple[str, str, str]]:
        variables = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PAIRSEARCH_DATA": str(mnist_root),
            "COLUMNS": "100",
        }
        if "postgresql://" in "".join(block.text for block in blocks(page) if block.language != "sh"):
            variables["PAIRSEARCH_STORAGE"] = request.getfixturevalue("postgresql_url")
        reader = Reader(tmp_path, variables)
        reader.read(page)
        if os.environ.get(WRITE):
            write(page, reader.differences)
        return [(one.command, one.stated, one.printed) for one in reader.differences]

    return read
