"""The section with the verdict of a study: which configurations may be the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pairsearch.search.report.content import Block, Notice, Paragraph, Section, Table
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.formatting import (
    abbreviations,
    compact,
    duration,
    figure,
    headed,
    label,
    legend,
)
from pairsearch.search.verdict.sentences import verdict_lines

if TYPE_CHECKING:
    from pairsearch.search.verdict.judging import Verdict

SHOWN = 12
"""The largest number of configurations in the table."""


def section(reading: Reading) -> Section:
    """Compose the section: the verdict in sentences, and a table of the configurations that may be the best."""
    verdict = reading.judged.verdict
    if verdict is None:
        return Section("Verdict", (Notice(f"There is nothing to judge: {reading.ended}."),))
    blocks: list[Block] = [Paragraph(line) for line in verdict_lines(reading.judged)]
    blocks.append(_table(reading, verdict))
    return Section("Verdict", tuple(blocks))


def _table(reading: Reading, verdict: Verdict) -> Table:
    found, metric = reading.judged, reading.study.metric
    short = abbreviations(reading.study.choices)
    rows = tuple(
        (
            compact(found.configurations[member.key].params, short) + _remark(verdict, member.key),
            figure(metric, found.value(member.mean)),
            figure(metric, member.difference),
            f"{member.p:.3f}",
            duration(member.seconds) if member.seconds >= 60 else f"{member.seconds:.1f} s",
        )
        for member in verdict.members[:SHOWN]
    )
    more = len(verdict.members) - len(rows)
    meant = legend(short)
    return Table(
        f"The configurations that cannot be told from the best at the {100 * verdict.alpha:g} % level"
        f"{f': the first {len(rows)} of {len(rows) + more}' if more else ''}. Mean {label(found.metric, metric)} over "
        f"folds{', in per cent' if metric.percent else ''}, how much worse it is than the best, the p-value of the "
        "hypothesis that none is better, and the time of training." + (f" {meant}." if meant else ""),
        ("configuration", headed(found.metric, metric), "difference", "p", "time"),
        rows,
    )


def _remark(verdict: Verdict, key: str) -> str:
    if len(verdict.members) == 1:
        return ""
    remarks = [
        text
        for text, of in (
            ("the cheapest", verdict.cheapest),
            ("the cheapest within one standard error", verdict.cheapest_within_one_error),
        )
        if of == key
    ]
    return f" ({', '.join(remarks)})" if remarks else ""
