"""The whole report in its order: what all studies show together, then each study by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.provenance import package_version
from pairsearch.search.report import auxiliary, cost, coverage, evaluation, grid, judgement, learning
from pairsearch.search.report.content import Part, Report, Section
from pairsearch.search.report.reading import Reading, read_all


def compose(
    readings: Sequence[Reading],
    label: str,
    moment: datetime,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """The report of studies.

    Args:
        readings: in the order of their parts.
        label: of the database, its password masked.
        moment: of the reading, with a zone.
        tell: is told what is being done.
    """
    names = ", ".join(reading.study.name for reading in readings)
    return Report(
        title=f"pairsearch report: {names}",
        facts=(
            f"read {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            f"from {label}",
            f"pairsearch {package_version('pairsearch')}",
        ),
        parts=(
            Part("Results", "All studies side by side.", (evaluation.section(readings),)),
            *(_study(reading, tell) for reading in readings),
        ),
    )


def compose_stored(
    database: Database, studies: Sequence[StoredStudy], tell: Callable[[str], None] = lambda _: None
) -> Report:
    """The report of studies as the database holds them now, all at one moment; it is only read."""
    moment = datetime.now(UTC)
    return compose(read_all(database, studies, tell), database.label, moment, tell)


def _study(reading: Reading, tell: Callable[[str], None]) -> Part:
    tell(f"drawing {reading.study.name}")
    optional = (
        auxiliary.section(reading),
        learning.section(reading),
        _others(reading),
        cost.section(reading),
    )
    sections = (
        judgement.section(reading),
        coverage.section(reading),
        grid.section(reading),
        *(section for section in optional if section is not None),
        coverage.provenance(reading),
    )
    return Part(reading.study.name.upper(), reading.study.definition.title, sections)


def _others(reading: Reading) -> Section | None:
    table = evaluation.others(reading)
    return None if table is None else Section("Evaluated configurations", (table,))
