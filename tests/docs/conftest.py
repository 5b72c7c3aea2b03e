"""A reader for the pages of the documentation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import Reader, blocks, write

WRITE = "WRITE_OUTPUTS"
"""An environment variable: what a page says otherwise than its commands is written into it."""


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
