"""Puts decided claims into sentences, into rows of a table, and into JSON."""

from __future__ import annotations

from typing import Any

from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.findings import Finding, Weighed
from pairsearch.search.results.formatting import DASH, figure, headed, reach
from pairsearch.studies.intervals import LEVEL, Interval
from pairsearch.studies.problem import Metric

RULES = (
    f"A comparison holds where the whole {100 * LEVEL:g} % interval of its effect is on the side that is claimed, does "
    "not hold where all of it is on the other, and is undecided else. A claim holds where all comparisons do that "
    "decide it: that needs no correction for their number. It does not hold where one of them fails at the level "
    "corrected for it (Bonferroni). Comparisons in brackets are reported and decide nothing."
)
"""An explanation of how decisions are made."""
HEADER = ("comparison", "figure", f"effect, {100 * LEVEL:g} % interval", "claimed", "n", "says")
"""Headers of the cells of `row`."""
OVERVIEW = ("claim", "statement", "source", "decision")
"""Headers of the cells of `overview`."""
SIGNS = (
    "Effects are signed so that more is better for the claim; of fractions they are in points of a per cent."
)
"""An explanation of the effects of `row`."""


def with_interval(metric: Metric, effect: Interval) -> str:
    """Format an effect as `5.31 (4.75 to 5.87)`."""
    return f"{figure(metric, effect.estimate)} ({reach(metric, effect)})"


def row(finding: Finding) -> tuple[str, ...]:
    """Return the cells of a finding, under `HEADER`."""
    metric, said = finding.metric, str(finding.decision)
    return (
        finding.what,
        headed(finding.name, metric) if finding.name else DASH,
        DASH if finding.effect is None else with_interval(metric, finding.effect),
        claimed(finding),
        f"{finding.n} {finding.unit}",
        said if finding.decides else f"({said})",
    )


def claimed(finding: Finding) -> str:
    """Return what is claimed of a comparison: a relation to a threshold, or to be in the verdict's set."""
    if finding.threshold is None:
        return "in the set" if finding.n else DASH
    return f"{'>' if finding.strict else '≥'} {figure(finding.metric, finding.threshold)}"


def status(decided: Decided) -> str:
    """Format the decision, marked as provisional while results are missing that it depends on."""
    return f"{decided.decision}{' (provisional)' if decided.provisional else ''}"


def overview(decided: Decided) -> tuple[str, ...]:
    """Return the cells of a claim, under `OVERVIEW`."""
    return str(decided.number), decided.claim.statement, decided.claim.source, status(decided)


def opening(decided: Decided) -> str:
    """Return the source of the claim, followed by the claims file's advice for this decision."""
    source, advice = decided.claim.source, decided.claim.advice.get(decided.decision.value)
    line = f"Source: {source}{'' if source.endswith('?') else '.'}"
    return line if advice is None else f"{line} {advice}"


def groups(decided: Decided) -> list[Weighed]:
    """Return the evidence of a claim under its headings: pieces without a text `about` go with the one before."""
    collected: list[Weighed] = []
    for one in decided.weighed:
        if one.evidence.about is not None or not collected:
            collected.append(one)
            continue
        last = collected[-1]
        # A remark about several pieces appears once, after the last of them.
        remarks = (*(remark for remark in last.remarks if remark not in one.remarks), *one.remarks)
        collected[-1] = Weighed(last.evidence, (*last.findings, *one.findings), remarks)
    return collected


def outcome(finding: Finding) -> str:
    """Return the result of a comparison in words, or else what is missing."""
    return finding.sentence or "; ".join(finding.missing)


def sentences(group: Weighed) -> list[str]:
    """Return a sentence for each finding of a group, and its remarks."""
    return [*(f"{one.what}: {outcome(one)}." for one in group.findings), *group.remarks]


def lines_of(decided: Decided) -> list[str]:
    """List source, advice and evidence of a claim, one sentence per line."""
    return [
        opening(decided),
        *(line for group in groups(decided) for line in (group.about, *sentences(group)) if line),
    ]


def claim_json(decided: Decided) -> dict[str, Any]:
    """Return a claim as `claims --json` prints it; effects have the unit of the stored figure."""
    return {
        "number": decided.number,
        "statement": decided.claim.statement,
        "source": decided.claim.source,
        "advice": decided.claim.advice.get(decided.decision.value),
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
