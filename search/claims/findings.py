"""Findings, the results of weighing evidence: each has an effect with its interval, a decision and a sentence.

Effects are signed so that a positive one is in favour of the claim, whatever the figure: for two configurations, the
effect is how much better the first is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pairsearch.search.claims.decisions import Decision, decide_by, values_for_width
from pairsearch.search.claims.words import better_or_worse
from pairsearch.search.results.formatting import label, words
from pairsearch.studies.claims_file import AnyEvidence, Compare, Effect
from pairsearch.studies.configuration import Value, shown
from pairsearch.studies.intervals import Interval, mean_interval
from pairsearch.studies.problem import Metric

MOST = 10_000
"""If more rounds would be needed, messages do not say how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one comparison.

    Args:
        effect: the effect with its interval; None if there is nothing to estimate it from.
        threshold: what the effect is compared with; None if something else decides.
        strict: whether the effect has to be above the threshold; otherwise at least the threshold.
        n: how many rounds, folds or pairs of them the effect is estimated from.
        unit: `rounds` or `folds`.
        decides: whether the claim depends on this comparison.
    """

    what: str
    name: str
    metric: Metric
    effect: Interval | None = None
    threshold: float | None = None
    strict: bool = True
    decision: Decision = Decision.UNDECIDED
    n: int = 0
    unit: str
    decides: bool
    sentence: str = ""
    missing: tuple[str, ...] = ()

    @property
    def relation(self) -> str:
        return ">" if self.strict else "≥"


@dataclass(frozen=True, slots=True)
class Weighed:
    """One piece of evidence with its findings, and remarks about all of them."""

    evidence: AnyEvidence
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = ()


def nothing(evidence: AnyEvidence, what: str, *missing: str) -> Finding:
    """Make a finding without effect, for results that are missing."""
    return Finding(
        what=what,
        name=getattr(evidence, "figure", ""),
        metric=Metric(),
        unit="rounds",
        decides=evidence.decides,
        missing=missing,
    )


def judged(
    evidence: Compare | Effect,
    what: str,
    metric: Metric,
    differences: Sequence[float],
    level: float,
    overlap: float | None = None,
) -> Finding:
    """Make a finding from differences by round, or by fold where there is an overlap; positive ones are better."""
    better = isinstance(evidence, Effect) or evidence.reads == "better"
    threshold = evidence.margin if better else -evidence.margin
    effect, sentence = mean_interval(differences, level, overlap or 0.0), ""
    decision = decide_by(effect, threshold, strict=better)
    if effect is not None:
        sentence = better_or_worse(metric, effect, level)
        # There are no further folds.
        wanted = values_for_width(differences) if overlap is None else None
        if decision is Decision.UNDECIDED and wanted is not None and wanted > len(differences):
            count = f"some {wanted:,}" if wanted <= MOST else f"more than {MOST:,}"
            sentence += f"; {count} rounds would make the interval as narrow as the effect"
    return Finding(
        what=what,
        name=evidence.figure,
        metric=metric,
        effect=effect,
        threshold=threshold,
        strict=better,
        decision=decision,
        n=len(differences),
        unit="rounds" if overlap is None else "folds",
        decides=evidence.decides,
        sentence=sentence,
    )


def step(effect: Effect, old: Value, new: Value) -> str:
    """Name a step of a parameter: `aux loss weight 5 → 10`."""
    return f"{words(effect.parameter)} {shown(old)} → {shown(new)}"


def by_value(effect: Effect, metric: Metric, over: str, figures: Iterable[str]) -> str:
    """List a figure of each value: `Test error, %, by aux loss weight, up to 10 rounds: 5: 7.00, 10: 6.06.`"""
    unit = ", %," if metric.percent else ""
    listed = [f"{shown(value)}: {text}" for value, text in zip(effect.values, figures, strict=True)]
    what = f"{label(effect.figure, metric).capitalize()}{unit} by {words(effect.parameter)}"
    return f"{what}, {over}: {', '.join(listed)}."


def better_and_worse_steps(effect: Effect, findings: Sequence[Finding]) -> list[str]:
    """Say which steps are better and which are worse by their intervals; return an empty list without effects."""
    known = [
        (step(effect, *values), one.effect)
        for values, one in zip(pairwise(effect.values), findings, strict=True)
        if one.effect is not None
    ]
    better = [name for name, interval in known if interval.low > 0]
    worse = [name for name, interval in known if interval.high < 0]
    if not known:
        return []
    return [
        f"Told apart: better at {', '.join(better) or 'no step'}, worse at {', '.join(worse) or 'no step'}."
    ]
