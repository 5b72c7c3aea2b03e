"""Findings, the results of weighing evidence: each has an effect with its interval, a decision and a sentence.

Effects are signed so that a positive one is in favour of the claim, whatever the figure: for two configurations, the
effect is how much better the first is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from pairsearch.search.results.formatting import figure, label, reach, words
from pairsearch.studies.claims_file import AnyEvidence, Compare, Effect
from pairsearch.studies.configuration import Configuration, Params, Value, shown
from pairsearch.studies.intervals import Interval, mean_interval
from pairsearch.studies.problem import Metric

MOST = 10_000
"""If more rounds would be needed, messages do not say how many."""


class Decision(StrEnum):
    """The decision about a claim, or about one piece of its evidence."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"


def decide_by(effect: Interval | None, threshold: float, *, strict: bool) -> Decision:
    """Decide whether the true value is above the threshold (`strict`), or at least the threshold.

    An interval without width, as of two configurations that are the same, decides too.
    """
    if effect is None:
        return Decision.UNDECIDED
    if effect.low > threshold or (effect.low == threshold and not strict):
        return Decision.HOLDS
    if effect.high < threshold or (effect.high == threshold and strict):
        return Decision.FAILS
    return Decision.UNDECIDED


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


@dataclass(frozen=True, slots=True)
class Weighed:
    """One piece of evidence with its findings, and remarks about all of them."""

    evidence: AnyEvidence
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        return self.evidence.about or ""


def nothing(evidence: AnyEvidence, what: str, *missing: str) -> Finding:
    """Make a finding without effect, for results that are missing."""
    name = getattr(evidence, "figure", "")
    return Finding(
        what=what, name=name, metric=Metric(), unit="rounds", decides=evidence.decides, missing=missing
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
        if decision is Decision.UNDECIDED and overlap is None:
            sentence += _rounds_wanted(differences)
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


def _rounds_wanted(differences: Sequence[float]) -> str:
    """Say how many rounds of this spread would make the interval of the mean as narrow as the mean is far from 0.

    By the normal distribution this is n = (2 · 1.96 · s / mean)². It is empty if the mean is 0, or there are as many.
    """
    mean = statistics.fmean(differences)
    wanted = math.ceil((2 * 1.96 * statistics.stdev(differences) / mean) ** 2) if mean else 0
    if wanted <= len(differences):
        return ""
    count = f"some {wanted:,}" if wanted <= MOST else f"more than {MOST:,}"
    return f"; {count} rounds would make the interval as narrow as the effect"


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
    better = ", ".join(name for name, interval in known if interval.low > 0) or "no step"
    worse = ", ".join(name for name, interval in known if interval.high < 0) or "no step"
    return [f"Told apart: better at {better}, worse at {worse}."] if known else []


def listed(params: Params) -> list[str]:
    """Return each parameter with its value, in words."""
    return [f"{words(name)} {shown(value)}" for name, value in params.items()]


def in_words(configuration: Configuration) -> str:
    """Return the parameters of a configuration in words: `batch size 10, learning rate 0.001`."""
    return ", ".join(listed(configuration.params))


def interval_text(metric: Metric, estimated: Interval, level: float, percent: str = "%") -> str:
    """Format an interval of a figure: `93.33 % (95 % interval 77.93 to 99.18)`."""
    unit, within = percent if metric.percent else metric.unit, reach(metric, estimated)
    return f"{figure(metric, estimated.estimate)}{unit and ' '}{unit} ({100 * level:.4g} % interval {within})"


def better_or_worse(metric: Metric, effect: Interval, level: float) -> str:
    """Format an effect: `better by 5.31 points (95 % interval 4.75 to 5.87)`; negative effects as `worse by`."""
    if effect.estimate < 0:
        turned = Interval(-effect.estimate, -effect.high, -effect.low)
        return f"worse by {interval_text(metric, turned, level, 'points')}"
    return f"better by {interval_text(metric, effect, level, 'points')}"
