"""Composes the report: a part about all studies, one about claims, then one about each study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pairsearch.search.common.provenance import package_version
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.report import (
    coverage,
    curves,
    effects,
    evaluation,
    grid,
    judgement,
    searched_again,
    trade_off,
)
from pairsearch.search.report.claims import decided_part
from pairsearch.search.report.content import Block, Document, Figure, Part, Section, view_names
from pairsearch.search.report.reading import Reading, read_all
from pairsearch.search.results.chosen_figures import Choice


def compose(
    readings: Sequence[Reading],
    label: str,
    moment: datetime,
    tell: Callable[[str], None] = lambda _: None,
    claims: Part | None = None,
) -> Document:
    """Compose a report on studies that were read at a moment, with a time zone, from a database with a label."""
    names = ", ".join(reading.study.name for reading in readings)
    read, version = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC", package_version("pairsearch")
    parts = _named_apart(
        Part("Results", "All studies side by side.", (evaluation.section(readings),)),
        *([] if claims is None else [claims]),
        *(_study(reading, tell) for reading in readings),
    )
    facts = (f"read {read}", f"from {label}", f"pairsearch {version}")
    return Document(f"pairsearch report: {names}", facts, parts)


def _named_apart(*parts: Part) -> tuple[Part, ...]:
    """Rename figures whose name an earlier figure has, because figures are written to files of that name."""
    taken: set[str] = set()

    def apart(block: Block) -> Block:
        if not isinstance(block, Figure):
            return block
        named, number = block, 1
        while taken & {named.name, *view_names(named)}:
            number += 1
            named = replace(block, name=f"{block.name}-other-{number}")
        taken.update({named.name, *view_names(named)})
        return named

    def of(part: Part) -> Part:
        sections = (Section(one.title, tuple(map(apart, one.blocks))) for one in part.sections)
        return replace(part, sections=tuple(sections))

    return tuple(map(of, parts))


def compose_stored(
    database: Database,
    studies: Sequence[StoredStudy],
    tell: Callable[[str], None] = lambda _: None,
    claims: str | None = None,
    trade: Choice | None = None,
) -> Document:
    """Read studies from one snapshot of the database, and compose a report on them; the database is not changed.

    The claims of a file are decided by what is there. A trade-off between the figures of `trade` has a section in each
    study; there is none without.
    """
    decided = None if claims is None else decided_part(database, claims, tell)
    moment = datetime.now(UTC)
    return compose(read_all(database, studies, tell, trade), database.label, moment, tell, decided)


def _study(reading: Reading, tell: Callable[[str], None]) -> Part:
    tell(f"drawing {reading.study.name}")
    optional = (
        effects.section(reading),
        curves.section(reading),
        evaluation.others(reading),
        effects.time_section(reading),
        searched_again.section(reading),
    )
    sections = (
        judgement.section(reading),
        *trade_off.sections(reading),
        coverage.section(reading),
        grid.section(reading),
        *(section for section in optional if section is not None),
        coverage.provenance(reading),
    )
    return Part(reading.study.name.upper(), reading.study.definition.title, sections)
