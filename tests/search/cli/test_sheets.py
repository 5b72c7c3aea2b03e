"""Tables never cut a value, however narrow the terminal."""

from __future__ import annotations

import io
import itertools
import re
from operator import itemgetter
from typing import Any

import pytest
import tiny
from rich.console import Console

from pairsearch.search.cli.sheet import Sheet
from pairsearch.search.cli.tables import progress_table, ranked_table
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.fields import Field
from pairsearch.search.results.progress import Progress
from pairsearch.search.results.ranking import Ranked

RATES = (0.00012, 0.00013, 0.000562341, 1e-05)
RANKED = [
    Ranked(
        rank,
        tiny.point(25, rate, 0.00562341, units, 5.0),
        0.1234,
        {"train_loss": 0.1, "val_loss": 0.1234, "val_error": 0.06},
        1234.5,
    )
    for rank, (rate, units) in enumerate(itertools.product(RATES, (10, 100)), start=1)
]


@pytest.fixture(scope="module")
def study() -> StoredStudy:
    """One with the grid of these configurations."""
    grid = {name: sorted({entry.params[name] for entry in RANKED}) for name in RANKED[0].params}
    loaded = tiny.loaded(architecture="wsal", grid=grid)
    return StoredStudy(1, "wsal", 1, loaded.definition, loaded.definition.grid.choices, loaded.traits)


def shown(sheet: Sheet[Any], width: int) -> str:
    screen = Console(file=io.StringIO(), width=width, color_system=None)
    screen.print(sheet)
    written = str(screen.file.getvalue())  # type: ignore[attr-defined]
    assert max(map(len, written.splitlines())) <= width
    return written


def words(text: str) -> list[str]:
    return re.findall(r"[^\s,│┃]+", text)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_best_are_shown_with_every_digit(width: int, study: StoredStudy) -> None:
    written = shown(ranked_table(study, RANKED), width)
    assert "…" not in written
    found = words(written)
    for rate in RATES:
        assert found.count(f"{rate:g}") == 2
    assert found.count("0.1234") == found.count("6.00") == found.count("1234.5") == len(RANKED)


def test_at_eighty_columns_what_does_not_vary_is_said_once(study: StoredStudy) -> None:
    written = shown(ranked_table(study, RANKED), 80)
    told = " ".join(written.split())
    assert "The same in all rows: batch_size 25, weight_decay 0.00562341, aux_loss_weight 5." in told
    assert words(written).count("0.00562341.") + words(written).count("0.00562341") == 1


def test_one_row_leaves_nothing_out(study: StoredStudy) -> None:
    assert "The same" not in shown(ranked_table(study, RANKED[:1]), 80)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_progress_is_shown_with_every_digit(width: int) -> None:
    progress = Progress("pairs-of-digits", "val_loss", 100_000, {"finished": 99_998}, RANKED[0], {}, 0.0)
    for rate in (None, 1.25):
        written = shown(progress_table([progress, progress], rate), width)
        assert "…" not in written
        assert words(written).count("99998/100000") == 2
        assert words(written).count("0.00012") == 2


def test_a_table_as_wide_as_the_terminal_is_still_a_table() -> None:
    fields = [Field("some words", itemgetter(0)), Field("b", itemgetter(1))]
    sheet = Sheet(fields, [("12345678", "1"), ("2", "34")])
    assert "│" in shown(sheet, 17)
    assert "│" not in shown(sheet, 16)
