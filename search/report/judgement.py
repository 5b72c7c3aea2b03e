"""The verdict of a study at the head of its part: what its folds can and cannot tell about the best configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pairsearch.search.report.content import Block, Notice, Paragraph, Section, Table
from pairsearch.search.report.reading import Reading
from pairsearch.search.report.rounds import SHORT, compact
from pairsearch.search.results.formatting import DASH, duration, per_cent
from pairsearch.search.verdict.sentences import verdict_lines

if TYPE_CHECKING:
    from pairsearch.search.verdict.judging import Verdict

SHOWN = 12
"""Configurations of the table: the lowest means."""


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
    found = reading.judged
    is_loss = found.metric == "val_loss"

    def figure(value: float) -> str:
        return f"{value:.4f}" if is_loss else per_cent(value)

    rows = tuple(
        (
            compact(found.configurations[member.key])
            + (" (the cheapest)" if member.key == verdict.cheapest and len(verdict.members) > 1 else ""),
            figure(member.mean),
            figure(member.difference),
            f"{member.p:.3f}",
            f"{100 * chances[member.key]:.1f}" if member.key in chances else DASH,
            duration(member.seconds) if member.seconds >= 60 else f"{member.seconds:.1f} s",
        )
        for member in verdict.members[:SHOWN]
    )
    more = len(verdict.members) - len(rows)
    unit = "" if is_loss else ", in per cent"
    short = ", ".join(f"{SHORT[name]} {name.replace('_', ' ')}" for name in reading.study.choices)
    return Table(
        f"The configurations that cannot be told from the best at the {100 * verdict.alpha:g} % level"
        f"{f': the first {len(rows)} of {len(rows) + more}' if more else ''}. Mean {found.metric} over folds{unit}, "
        "its difference from the lowest, the adjusted p-value that none is better, the probability in % of being "
        f"truly the best, and the time of training. {short}.",
        ("configuration", found.metric, "difference", "p", "best, %", "time"),
        rows,
    )
