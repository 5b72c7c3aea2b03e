"""The verdict of a study at the head of its part: what its folds can and cannot tell about the best configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pairsearch.search.report.content import Block, Notice, Paragraph, Section, Table
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.formatting import (
    DASH,
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
"""Configurations of the table: the best means."""


def section(reading: Reading) -> Section:
    """The verdict in sentences, and the configurations that may be the best."""
    verdict = reading.judged.verdict
    if verdict is None:
        return Section("Verdict", (Notice(f"There is nothing to judge: {reading.ended}."),))
    blocks: list[Block] = [Paragraph(line) for line in verdict_lines(reading.judged)]
    blocks.append(_table(reading, verdict))
    return Section("Verdict", tuple(blocks))


def _table(reading: Reading, verdict: Verdict) -> Table:
    chances = {candidate.key: candidate.probability_best for candidate in verdict.candidates}
    found, metric = reading.judged, reading.study.metric
    short = abbreviations(reading.study.choices)
    rows = tuple(
        (
            compact(found.configurations[member.key].params, short)
            + (" (the cheapest)" if member.key == verdict.cheapest and len(verdict.members) > 1 else ""),
            figure(metric, found.value(member.mean)),
            figure(metric, member.difference),
            f"{member.p:.3f}",
            f"{100 * chances[member.key]:.1f}" if member.key in chances else DASH,
            duration(member.seconds) if member.seconds >= 60 else f"{member.seconds:.1f} s",
        )
        for member in verdict.members[:SHOWN]
    )
    more = len(verdict.members) - len(rows)
    meant = legend(short)
    return Table(
        f"The configurations that cannot be told from the best at the {100 * verdict.alpha:g} % level"
        f"{f': the first {len(rows)} of {len(rows) + more}' if more else ''}. Mean {label(found.metric, metric)} over "
        f"folds{', in per cent' if metric.percent else ''}, how much worse it is than the best, the adjusted p-value "
        "that none is better, the probability in % of being truly the best, and the time of training."
        + (f" {meant}." if meant else ""),
        ("configuration", headed(found.metric, metric), "difference", "p", "best, %", "time"),
        rows,
    )
