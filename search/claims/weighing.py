"""Weighs evidence: by rounds of the final evaluation, or by folds over the complete grid of a search.

In studies with the same seed, problem and data, rounds of the same number share their random numbers in all
configurations, so that their common noise cancels in the differences. All configurations of a study meet the same
folds, so over the grid they are compared fold by fold: an effect is a mean over the grid in each fold, and its interval
is taken over the folds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pairsearch.search.claims.findings import (
    Decision,
    Finding,
    Weighed,
    better_and_worse_steps,
    better_or_worse,
    by_value,
    decide_by,
    in_words,
    interval_text,
    judged,
    listed,
    nothing,
    step,
)
from pairsearch.search.claims.material import (
    LackingError,
    Material,
    check_names,
    known_values,
    matches,
    round_metric,
    share_random_numbers,
    signed,
)
from pairsearch.search.common.errors import StudyError
from pairsearch.search.results.evaluations import Spread
from pairsearch.search.results.formatting import figure, headed, label, spread, with_unit, words
from pairsearch.search.results.study_table import StudyTable
from pairsearch.search.verdict.judging import judge
from pairsearch.studies.claims_file import AnyEvidence, Choice, Compare, Effect, InSet, Reaches
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.intervals import LEVEL, FloatArray, mean_interval, share_interval
from pairsearch.studies.problem import Metric

SHARE = Metric("share of rounds", percent=True, maximise=True)
"""The metric of a share of rounds."""
SHARED = "Rounds of one number draw the same data for both, and are compared pair by pair."
NOT_SHARED = (
    "The studies have not the same seed, problem and data: their rounds have nothing in common, which costs precision "
    "only."
)
ByRest = dict[str, FloatArray]
"""(folds,) of a figure, lower is better, by the key of the other parameters."""


def weigh(evidence: AnyEvidence, material: Material, rounds: int, level: float = LEVEL) -> Weighed:
    """Weigh a piece of evidence by the results that exist, of which the first `rounds` rounds count.

    It raises StudyError where the evidence names a configuration or a figure that does not exist.
    """
    try:
        if not isinstance(evidence, Effect):
            return _within(evidence, material, rounds, level)
        if evidence.at is not None:
            return _effect_at(evidence, material, rounds, level)
        return _effect_on_grid(evidence, material, level)
    except LackingError as lacking:
        studies = dict.fromkeys([*evidence.grids(), *(study for study, _ in evidence.choices())])
        what = f"{words(getattr(evidence, 'parameter', evidence.kind))}: {', '.join(studies)}"
        return Weighed(evidence, (nothing(evidence, what, str(lacking)),))


def _named(table: StudyTable, choice: Choice) -> str:
    """Name a configuration by how it was chosen: `WS (paper)`, `B1 (best validation loss, batch size 25)`."""
    how, values = ["paper"], choice.changed
    if choice.params:
        how, values = [], choice.params
    elif choice.best is not None:
        metric = table.traits.metrics.get(choice.best, Metric())
        how, values = [f"best {label(choice.best, metric)}"], choice.where
    return f"{table.name.upper()} ({', '.join([*how, *listed(values)])})"


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
        return cls(_named(table, choice), table, configuration, rounds)

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
        return f"{self.name}: {in_words(self.configuration)}."


def _within(evidence: Compare | Reaches | InSet, material: Material, rounds: int, level: float) -> Weighed:
    """Weigh evidence about configurations; in several studies, within each, and if `pooled` in the mean over them."""
    findings: list[Finding] = []
    found: list[list[Side]] = []
    for chosen in evidence.each():
        try:
            if isinstance(evidence, InSet):
                material.table(chosen[0][0], whole=True)
            sides = [Side.of(material, study, choice, rounds) for study, choice in chosen]
        except LackingError as lacking:
            what = " – ".join(dict.fromkeys(study for study, _ in chosen))
            findings.append(nothing(evidence, what, str(lacking)))
            continue
        found.append(sides)
        if isinstance(evidence, Compare):
            findings.append(_between(evidence, sides[0], sides[1], level))
        elif isinstance(evidence, InSet):
            findings.append(_membership(evidence, sides[0], level))
        else:
            findings.append(_reaching(evidence, sides[0], level))
    if isinstance(evidence, Compare) and evidence.pooled:
        findings = [replace(one, decides=False) for one in findings]
        findings.append(_pooled(evidence, found, findings, level))
    every = [side for sides in found for side in sides]
    remarks = [*dict.fromkeys(side.params for side in every)]
    if isinstance(evidence, Compare) and every:
        shared = all(share_random_numbers(every[0].table, side.table) for side in every)
        remarks.append(SHARED if shared else NOT_SHARED)
    return Weighed(evidence, tuple(findings), tuple(remarks))


def _pooled(
    evidence: Compare, found: Sequence[Sequence[Side]], findings: Sequence[Finding], level: float
) -> Finding:
    """Compare by the mean over the studies, once all of them are there."""
    what = f"mean over {', '.join(evidence.studies)}"
    missing = tuple(dict.fromkeys(reason for one in findings for reason in one.missing))
    if len(found) < len(evidence.studies):
        return nothing(evidence, what, *missing)
    differences = [_differences(first, second, evidence.figure) for first, second in found]
    shared = sorted(set.intersection(*map(set, differences)))
    means = [statistics.fmean(one[index] for one in differences) for index in shared]
    metric = round_metric(found[0][0].table, evidence.figure)
    return replace(judged(evidence, what, metric, means, level), missing=missing)


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
        spreads = f"{first.spread(name, metric)} and {second.spread(name, metric)}"
        parts.insert(0, f"{headed(name, metric)}: {spreads}")
    if (first.table.name, first.configuration) == (second.table.name, second.configuration):
        parts.append("both are the same configuration")
    if left_out := len(first.stored.keys() & second.stored.keys()) - len(differences):
        parts.append(f"left out: {left_out} rounds in which one of the two diverged")
    missing = dict.fromkeys((*first.missing, *second.missing))
    return replace(finding, sentence="; ".join(parts), missing=tuple(missing))


def _effect_at(evidence: Effect, material: Material, rounds: int, level: float) -> Weighed:
    """Compare the values of a parameter of one configuration, each with the one before."""
    study, name, at = evidence.studies[0], evidence.figure, evidence.at
    sides = [Side.of(material, study, choice, rounds) for choice in evidence.at_each()]
    metric = round_metric(sides[0].table, name)
    where = _named(sides[0].table, at) if at is not None else ""
    findings = [
        replace(_between(evidence, new, old, level), what=f"{where}: {step(evidence, *values)}")
        for (old, new), values in zip(pairwise(sides), pairwise(evidence.values), strict=True)
    ]
    spreads = [side.spread(name, metric) for side in sides]
    means = by_value(evidence, metric, f"up to {rounds} rounds", spreads)
    steps = better_and_worse_steps(evidence, findings)
    return Weighed(evidence, tuple(findings), (means, *steps, sides[0].params))


def _reaching(evidence: Reaches, side: Side, level: float) -> Finding:
    metric, count = round_metric(side.table, evidence.figure), len(side.stored)
    values, sign = list(side.values(evidence.figure).values()), metric.sign
    reached = sum(sign * value <= sign * evidence.bound for value in values)
    effect = share_interval(reached, count, level)
    bound = f"{'least' if metric.maximise else 'most'} {with_unit(metric, evidence.bound)}"
    parts = [f"{label(evidence.figure, metric)} at {bound} in {reached} of {count} rounds"]
    if effect is not None:
        parts[0] += f", {interval_text(SHARE, effect, level)}"
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


def _effect_on_grid(evidence: Effect, material: Material, level: float) -> Weighed:
    """Compare each value of a parameter with the one before, by the mean over pairs that differ in nothing else."""
    tables = [material.table(study, whole=True) for study in evidence.studies]
    if len({table.definition.folds for table in tables}) > 1:
        raise StudyError(f"studies {', '.join(evidence.studies)} have not as many folds as each other")
    rows_by_value = _by_value(evidence, tables)
    traits = tables[0].traits
    metric, findings = traits.metrics[evidence.figure], []
    names = ", ".join(table.name.upper() for table in tables)
    grid = f"{names} ({', '.join(['grid', *listed(evidence.where)])})"
    for (before, after), values in zip(pairwise(rows_by_value), pairwise(evidence.values), strict=True):
        what, shared = step(evidence, *values), sorted(before.keys() & after.keys())
        if not shared:
            raise StudyError(
                f"{', '.join(evidence.studies)}: no finished configurations differ in {what} alone"
                f"{known_values(tables[0], [evidence.parameter])}"
            )
        differences = np.mean([before[rest] - after[rest] for rest in shared], axis=0).tolist()
        found = judged(evidence, f"{grid}: {what}", metric, differences, level, traits.overlap)
        over = f"over {len(shared)} settings of the other parameters"
        findings.append(replace(found, sentence=": ".join(filter(None, [over, found.sentence]))))
    remarks = (*_means(evidence, metric, rows_by_value), *better_and_worse_steps(evidence, findings))
    return Weighed(evidence, tuple(findings), remarks)


def _by_value(evidence: Effect, tables: Sequence[StudyTable]) -> list[ByRest]:
    """Collect the finished configurations with each value; of a point in several studies the first counts."""
    rows_of: dict[str, ByRest] = {repr(value): {} for value in evidence.values}
    for table in tables:
        check_names(table, [evidence.parameter, *evidence.where])
        rows = signed(table, evidence.figure)
        for one, row in zip(table.configurations, rows, strict=True):
            value = repr(one.params.get(evidence.parameter))
            if value in rows_of and np.isfinite(row).all() and matches(one, evidence.where):
                rest = {name: other for name, other in one.params.items() if name != evidence.parameter}
                rows_of[value].setdefault(Configuration(rest).key, row)
    return list(rows_of.values())


def _means(evidence: Effect, metric: Metric, rows_by_value: Sequence[Mapping[str, FloatArray]]) -> list[str]:
    """List the mean of each value over those settings of the other parameters that all values have."""
    shared = sorted(set.intersection(*map(set, rows_by_value)))
    if not shared:
        return []
    means = [float(np.mean([rows[rest] for rest in shared])) for rows in rows_by_value]
    over = f"mean over the {len(shared)} settings of the others that all values have"
    return [by_value(evidence, metric, over, [figure(metric, metric.sign * mean) for mean in means])]


def _membership(evidence: InSet, side: Side, level: float) -> Finding:
    """Find whether a configuration is in the verdict's set at the level."""
    table, configuration = side.table, side.configuration
    metric, values = table.metric, signed(table, table.definition.metric)
    places = {one.key: place for place, one in enumerate(table.configurations)}
    if configuration.key not in places:
        raise StudyError(
            f"study {table.name} has no finished configuration {configuration.key}: expected one of its grid"
        )
    verdict = judge(
        values,
        list(places),
        table.seconds,
        overlap=table.traits.overlap,
        alpha=round(1 - level, 12),
        seed=table.definition.seed,
    )
    mine, winner = (values[places[key]] for key in (configuration.key, verdict.winner))
    members = {member.key: member for member in verdict.members}
    # Means are rounded, so that their last bits do not decide the rank.
    rank = 1 + int((values.mean(axis=1).round(12) < mine.mean().round(12)).sum())
    effect = mean_interval((winner - mine).tolist(), level, table.traits.overlap)
    parts = [f"rank {rank} of {verdict.considered} by {label(table.definition.metric, metric)}"]
    if configuration.key in members:
        parts.append(f"in the set of {len(members)} that may be the best")
        if configuration.key != verdict.winner:
            parts[-1] += f", p = {members[configuration.key].p:.3f}"
    else:
        parts.append(f"not in the set of {len(members)} that may be the best, p < {verdict.alpha:.3g}")
    if effect is not None and configuration.key != verdict.winner:
        best = Configuration(table.configurations[places[verdict.winner]].params)
        parts.append(
            f"{better_or_worse(metric, effect, level)} than the best mean, which flatters, as it was chosen: "
            f"{in_words(best)}"
        )
    return Finding(
        what=side.name,
        name=table.definition.metric,
        metric=metric,
        effect=effect,
        decision=Decision.HOLDS if configuration.key in members else Decision.FAILS,
        n=table.definition.folds,
        unit="folds",
        decides=evidence.decides,
        sentence="; ".join(parts),
    )
