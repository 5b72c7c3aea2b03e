"""The section with the verdict of a study: which configurations may be the best."""

from __future__ import annotations

from pairsearch.search.report.content import Block, Notice, Paragraph, Section, Table
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import (
    abbreviations,
    compact,
    duration,
    figure,
    headed,
    label,
    legend,
)
from pairsearch.search.verdict.judging import Member, Verdict
from pairsearch.search.verdict.sentences import verdict_lines

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
    fields: list[Field[Member]] = [
        Field(
            "configuration",
            lambda one: compact(found.configurations[one.key].params, short) + _remark(verdict, one.key),
            right=False,
        ),
        Field(headed(found.metric, metric), lambda one: figure(metric, found.value(one.mean))),
        Field("difference", lambda one: figure(metric, one.difference)),
        Field("p", lambda one: f"{one.p:.3f}"),
        Field("time", lambda one: duration(one.seconds) if one.seconds >= 60 else f"{one.seconds:.1f} s"),
    ]
    members, meant = verdict.members, legend(short)
    return Table.of(
        f"The configurations that cannot be told from the best at the {100 * verdict.alpha:g} % level"
        f"{f': the first {SHOWN} of {len(members)}' if len(members) > SHOWN else ''}. Mean "
        f"{label(found.metric, metric)} over folds{', in per cent' if metric.percent else ''}, how much worse it is "
        "than the best, the p-value of the hypothesis that none is better, and the time of training."
        + (f" {meant}." if meant else ""),
        fields,
        members[:SHOWN],
    )


def _remark(verdict: Verdict, key: str) -> str:
    if len(verdict.members) == 1:
        return ""
    error = "the cheapest within one standard error"
    cheapest = (("the cheapest", verdict.cheapest), (error, verdict.cheapest_within_one_error))
    remarks = ", ".join(text for text, of in cheapest if of == key)
    return f" ({remarks})" if remarks else ""
