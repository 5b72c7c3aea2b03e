"""The paper's shipped results, which figures and pages of the site are made from when it is built."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from pairsearch.search.claims import sentences
from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.training import find_sources
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.results.study_table import StudyTable, read_table
from pairsearch.search.setup.load import load
from pairsearch.studies import claims_file

_FOLDER = tempfile.TemporaryDirectory(prefix="paper-")
"""Its database goes with the process."""


@cache
def database() -> Database:
    """A database into which the shipped results were loaded."""
    url = f"sqlite:///{Path(_FOLDER.name) / 'paper.db'}"
    load(url, "paper")
    return open_database(url)


@cache
def table(study: str) -> StudyTable:
    """A study's table."""
    return read_table(database(), get_study(database(), study))


@cache
def decided() -> tuple[Decided, ...]:
    """The paper's claims, as `pairsearch claims paper --stored` decides them."""
    return tuple(find_sources(claims_file.PAPER, database()).decide(database()))


def comparisons() -> str:
    """Every comparison behind the claims, in Markdown."""
    parts = [
        markdown(
            sentences.OVERVIEW,
            [(*cells, f"**{decision}**") for *cells, decision in map(sentences.overview, decided())],
        ),
        f"{sentences.RULES} {sentences.SIGNS}",
        *(part for one in decided() for part in _claim(one)),
    ]
    return "\n\n".join(parts)


def _claim(one: Decided) -> Iterator[str]:
    yield f"## {one.number}. {one.claim.statement}"
    yield f"**{sentences.status(one).capitalize()}.** {sentences.opening(one)}"
    yield markdown(sentences.HEADER, [sentences.row(finding) for finding in one.findings])
    for group in sentences.groups(one):
        yield from filter(None, [group.about])
        yield "\n".join(f"* {sentence}" for sentence in sentences.sentences(group))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
