"""Weighs evidence from rounds of the final evaluation: two configurations pair by pair, or one against a bound.

In studies with the same seed, problem and data, rounds of the same number share their random numbers in all
configurations, so that their common noise cancels in the differences.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pairsearch.search.claims import words
from pairsearch.search.claims.decisions import decide_by
from pairsearch.search.claims.findings import (
    Finding,
    Weighed,
    better_and_worse_steps,
    by_value,
    judged,
    nothing,
    step,
)
from pairsearch.search.claims.material import LackingError, Material, round_metric, share_random_numbers
from pairsearch.search.results.evaluations import Spread
from pairsearch.search.results.formatting import figure, headed, label, spread, with_unit
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies.claims_file import Choice, Compare, Effect, Reaches
from pairsearch.studies.configuration import Configuration, shown
from pairsearch.studies.intervals import share_interval
from pairsearch.studies.problem import Metric

SHARE = Metric("share of rounds", percent=True, maximise=True)
"""The metric of a share of rounds."""


@dataclass(frozen=True, slots=True)
class Side:
    """A configuration with its first `rounds` rounds."""

    name: str
    table: StudyTable
    configuration: Configuration
    rounds: int

    @classmethod
    def of(cls, material: Material, study: str, choice: Choice, rounds: int) -> Side:
        """Make the side of a choice; raises what `Material.choose` raises."""
        configuration, table = material.choose(study, choice), material.table(study)
        return cls(words.choice(table, choice), table, configuration, rounds)

    @property
    def stored(self) -> dict[int, Mapping[str, float | None]]:
        """The figures of stored rounds, by number; a round that diverged has none."""
        rounds = self.table.rounds.get(self.configuration.key, {})
        return {index: rounds[index] for index in sorted(rounds) if index < self.rounds}

    def values(self, name: str) -> dict[int, float]:
        """Return a figure by round, for the rounds that have it."""
        known = {index: figures.get(name) for index, figures in self.stored.items()}
        return {index: value for index, value in known.items() if value is not None}

    def spread(self, name: str, metric: Metric) -> str:
        values = list(self.values(name).values())
        return spread(metric, Spread.of(values) if values else None)

    @property
    def missing(self) -> tuple[str, ...]:
        count = len(self.stored)
        return () if count == self.rounds else (f"{count} of {self.rounds} rounds of {self.name} are there",)

    @property
    def params(self) -> str:
        return f"{self.name}: {words.params(self.configuration)}."


def compare(evidence: Compare, material: Material, rounds: int, level: float) -> Weighed:
    """Compare two configurations; in several studies, within each, and if `pooled` in the mean over them too."""
    findings, sides, differences = [], [], []
    for one, other in evidence.pairs():
        try:
            first = Side.of(material, one, evidence.first, rounds)
            second = Side.of(material, other, evidence.second, rounds)
        except LackingError as lacking:
            findings.append(nothing(evidence, " – ".join(dict.fromkeys((one, other))), str(lacking)))
            continue
        sides += [first, second]
        differences.append(_differences(first, second, evidence.figure))
        findings.append(_between(evidence, first, second, level))
    if evidence.pooled:
        findings = [replace(one, decides=False) for one in findings]
        what = f"mean over {', '.join(evidence.studies)}"
        missing = tuple(dict.fromkeys(reason for one in findings for reason in one.missing))
        if len(differences) < len(evidence.studies):
            findings.append(nothing(evidence, what, *missing))
        else:
            shared = sorted(set.intersection(*map(set, differences)))
            pooled = [statistics.fmean(one[index] for one in differences) for index in shared]
            metric = round_metric(sides[0].table, evidence.figure)
            findings.append(replace(judged(evidence, what, metric, pooled, level), missing=missing))
    return Weighed(evidence, tuple(findings), _remarks(sides))


def _differences(first: Side, second: Side, name: str) -> dict[int, float]:
    """Return by round how much better the first is."""
    sign = -round_metric(first.table, name).sign
    ours, theirs = first.values(name), second.values(name)
    return {index: sign * (ours[index] - theirs[index]) for index in ours if index in theirs}


def _between(evidence: Compare | Effect, first: Side, second: Side, level: float) -> Finding:
    """Make the finding of how much better the first is."""
    name = evidence.figure
    metric, differences = round_metric(first.table, name), _differences(first, second, name)
    finding = judged(evidence, f"{first.name} – {second.name}", metric, list(differences.values()), level)
    parts = [finding.sentence] if finding.sentence else []
    if first.stored or second.stored:
        parts.insert(
            0, f"{headed(name, metric)}: {first.spread(name, metric)} and {second.spread(name, metric)}"
        )
    if (first.table.name, first.configuration) == (second.table.name, second.configuration):
        parts.append("both are the same configuration")
    if left_out := len(first.stored.keys() & second.stored.keys()) - len(differences):
        parts.append(f"left out: {left_out} rounds in which one of the two diverged")
    missing = dict.fromkeys((*first.missing, *second.missing))
    return replace(finding, sentence="; ".join(parts), missing=tuple(missing))


def _remarks(sides: Sequence[Side]) -> tuple[str, ...]:
    """Describe the configurations, and whether their rounds share random numbers."""
    if not sides:
        return ()
    shared = (
        "Rounds of one number draw the same data for both, and are compared pair by pair."
        if all(share_random_numbers(sides[0].table, side.table) for side in sides)
        else "The studies have not the same seed, problem and data: their rounds have nothing in common, which costs "
        "precision only."
    )
    return (*dict.fromkeys(side.params for side in sides), shared)


def effect_at(evidence: Effect, material: Material, rounds: int, level: float) -> Weighed:
    """Compare the values of a parameter of one configuration, each with the one before."""
    study, name, at = evidence.studies[0], evidence.figure, evidence.at
    sides = [Side.of(material, study, choice, rounds) for choice in evidence.at_each()]
    metric = round_metric(sides[0].table, name)
    where = words.choice(sides[0].table, at) if at is not None else ""
    findings = [
        replace(_between(evidence, new, old, level), what=f"{where}: {step(evidence, *values)}")
        for (old, new), values in zip(pairwise(sides), pairwise(evidence.values), strict=True)
    ]
    listed = [
        f"{shown(value)}: {side.spread(name, metric)}"
        for value, side in zip(evidence.values, sides, strict=True)
    ]
    means = f"{by_value(evidence, metric)}, up to {rounds} rounds: {', '.join(listed)}."
    return Weighed(
        evidence, tuple(findings), (means, *better_and_worse_steps(evidence, findings), sides[0].params)
    )


def reaches(evidence: Reaches, material: Material, rounds: int, level: float) -> Weighed:
    """Count the rounds of configurations that reach a bound."""
    findings, sides = [], []
    for study, choice in evidence.choices():
        try:
            sides.append(Side.of(material, study, choice, rounds))
        except LackingError as lacking:
            findings.append(nothing(evidence, study, str(lacking)))
        else:
            findings.append(_reaching(evidence, sides[-1], level))
    return Weighed(evidence, tuple(findings), tuple(dict.fromkeys(side.params for side in sides)))


def _reaching(evidence: Reaches, side: Side, level: float) -> Finding:
    metric, count = round_metric(side.table, evidence.figure), len(side.stored)
    values, sign = list(side.values(evidence.figure).values()), metric.sign
    reached = sum(sign * value <= sign * evidence.bound for value in values)
    effect = share_interval(reached, count, level)
    bound = f"{'least' if metric.maximise else 'most'} {with_unit(metric, evidence.bound)}"
    parts = [f"{label(evidence.figure, metric)} at {bound} in {reached} of {count} rounds"]
    if effect is not None:
        parts[0] += f", {words.interval(SHARE, effect, level)}"
    if values:
        worst = max(values, key=lambda value: sign * value)
        parts.append(f"mean {side.spread(evidence.figure, metric)}, at worst {figure(metric, worst)}")
    if diverged := count - len(values):
        parts.append(f"{diverged} diverged")
    return Finding(
        what=side.name,
        name="share",
        metric=SHARE,
        effect=effect,
        threshold=evidence.share,
        strict=False,
        decision=decide_by(effect, evidence.share, strict=False),
        n=count,
        unit="rounds",
        decides=evidence.decides,
        sentence="; ".join(parts),
        missing=side.missing,
    )
