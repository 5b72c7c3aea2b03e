"""Decided claims in plain sentences, as rows for people, and as JSON."""

from __future__ import annotations

from typing import Any

from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.findings import Finding, Weighed
from pairsearch.search.claims.intervals import LEVEL
from pairsearch.search.results.formatting import DASH, figure, headed

RULES = (
    f"A comparison holds where the whole {100 * LEVEL:g} % interval of its effect is on the side that is claimed, does "
    "not hold where all of it is on the other, and is undecided else. A claim holds where all comparisons do that "
    "decide it: that needs no correction for their number. It does not hold where one of them fails at the level "
    "corrected for it (Bonferroni). Comparisons in brackets are reported and decide nothing."
)
"""How decisions are made."""
HEADER = ("comparison", "figure", f"effect, {100 * LEVEL:g} % interval", "claimed", "n", "says")
"""Of `row`."""


def row(finding: Finding) -> tuple[str, ...]:
    """A finding as the cells under `HEADER`."""
    metric, effect, said = finding.metric, finding.effect, str(finding.decision)
    shown = DASH
    if effect is not None:
        estimate, low, high = (figure(metric, value) for value in (effect.estimate, effect.low, effect.high))
        shown = f"{estimate} ({low} to {high})"
    return (
        finding.what,
        headed(finding.name, metric) if finding.name else DASH,
        shown,
        claimed(finding),
        f"{finding.n} {finding.unit}",
        said if finding.decides else f"({said})",
    )


def claimed(finding: Finding) -> str:
    """What is claimed of an effect."""
    if finding.threshold is None:
        return "in the set" if finding.n else DASH
    return f"{finding.relation} {figure(finding.metric, finding.threshold)}"


def status(decided: Decided) -> str:
    """The decision; provisional while something is missing of what decides."""
    return f"{decided.decision}{' (provisional)' if decided.provisional else ''}"


def sentences(weighed: Weighed) -> list[str]:
    """What one piece of evidence gave."""
    found = [f"{finding.what}: {text(finding)}." for finding in weighed.findings]
    return [*found, *weighed.remarks]


def text(finding: Finding) -> str:
    """What a comparison gave, and what is missing."""
    return "; ".join(part for part in (finding.sentence, *finding.missing) if part)


def lines_of(decided: Decided) -> list[str]:
    """The evidence for a claim in sentences."""
    return [
        line
        for weighed in decided.weighed
        for line in (*filter(None, [weighed.evidence.about]), *sentences(weighed))
    ]


def claim_json(decided: Decided) -> dict[str, Any]:
    """What `claims --json` prints of a claim; effects in the unit of the stored figure."""
    return {
        "number": decided.number,
        "statement": decided.claim.statement,
        "source": decided.claim.source,
        "decision": str(decided.decision),
        "provisional": decided.provisional,
        "rounds": decided.rounds,
        "missing": decided.missing,
        "findings": [_finding_json(finding) for finding in decided.findings],
        "sentences": lines_of(decided),
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    effect = finding.effect
    return {
        "comparison": finding.what,
        "figure": finding.name,
        "effect": None if effect is None else effect.estimate,
        "interval": None if effect is None else [effect.low, effect.high],
        "threshold": finding.threshold,
        "n": finding.n,
        "unit": finding.unit,
        "decides": finding.decides,
        "decision": str(finding.decision),
    }
