"""What weighing evidence gives: findings, each an effect with its interval, a decision and a sentence.

Effects are signed so that more is better for the claim, whatever the figure: of two configurations by how much the
first is better.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pairsearch.search.claims.intervals import Decision, Interval
from pairsearch.search.results.formatting import label, words
from pairsearch.studies.claims_file import AnyEvidence, Effect
from pairsearch.studies.configuration import Value, shown
from pairsearch.studies.problem import Metric

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one comparison gave.

    Args:
        what: is compared, in a few words.
        name: of the figure of which the effect is, with its metric.
        effect: None where there is nothing to estimate it from.
        threshold: what the effect is held against; None where something else decides.
        strict: whether the effect has to be above it, and not at least it.
        n: so many pairs of rounds or folds, or rounds, are behind it.
        unit: `rounds` or `folds`.
        decides: whether the claim stands and falls with it.
        sentence: what was found.
        missing: what is not there yet.
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
        """In which the effect is claimed to stand to the threshold."""
        return ">" if self.strict else "≥"


@dataclass(frozen=True, slots=True)
class Weighed:
    """One piece of evidence: its findings, and what is to be said of all of them."""

    evidence: AnyEvidence
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = ()


def nothing(evidence: AnyEvidence, what: str, missing: str) -> Finding:
    """A finding of what is not there."""
    return Finding(
        what=what,
        name=getattr(evidence, "figure", ""),
        metric=Metric(),
        unit="rounds",
        decides=evidence.decides,
        missing=(missing,),
    )


def steps(items: Sequence[Item]) -> list[tuple[Item, Item]]:
    """Each but the first with the one before it."""
    return list(itertools.pairwise(items))


def step(effect: Effect, old: Value, new: Value) -> str:
    """`aux loss weight 5 → 10`."""
    return f"{words(effect.parameter)} {shown(old)} → {shown(new)}"


def by_value(effect: Effect, metric: Metric) -> str:
    """`Test error, %, by aux loss weight`: what a list of figures is."""
    unit = ", %," if metric.percent else ""
    return f"{label(effect.figure, metric).capitalize()}{unit} by {words(effect.parameter)}"


def told_apart(effect: Effect, findings: Sequence[Finding]) -> list[str]:
    """Which steps are better than the one before, and which are worse, by their intervals; nothing of none."""
    known = [
        (step(effect, *values), one.effect)
        for values, one in zip(steps(effect.values), findings, strict=True)
        if one.effect is not None
    ]
    better = [name for name, found in known if found.low > 0]
    worse = [name for name, found in known if found.high < 0]
    said = (
        f"Told apart: better at {', '.join(better) or 'no step'}, worse at {', '.join(worse) or 'no step'}."
    )
    return [said] if known else []
