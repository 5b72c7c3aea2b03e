"""Weighs evidence from the complete grid of a search: effects of parameters, and which configurations may be the best.

All configurations of a study meet the same folds, so they are compared fold by fold. An effect is a mean over the grid
in each fold, and its interval is taken over the folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from pairsearch.search.claims import words
from pairsearch.search.claims.decisions import Decision
from pairsearch.search.claims.findings import (
    Finding,
    Weighed,
    better_and_worse_steps,
    by_value,
    judged,
    nothing,
    step,
)
from pairsearch.search.claims.material import (
    LackingError,
    Material,
    check_names,
    known_values,
    matches,
    signed,
)
from pairsearch.search.errors import StudyError
from pairsearch.search.results.formatting import figure, label
from pairsearch.search.results.study_table import StudyTable
from pairsearch.search.verdict.judging import judge
from pairsearch.studies.claims_file import Effect, InSet
from pairsearch.studies.configuration import Configuration, shown
from pairsearch.studies.intervals import FloatArray, mean_interval
from pairsearch.studies.problem import Metric

ByRest = dict[str, FloatArray]
"""(folds,) of a figure, lower is better, by the key of the other parameters."""


def effect_on_grid(evidence: Effect, material: Material, level: float) -> Weighed:
    """Compare each value of a parameter with the one before, by the mean over pairs that differ in nothing else."""
    tables = [material.grid(study) for study in evidence.studies]
    if len({table.definition.folds for table in tables}) > 1:
        raise StudyError(f"studies {', '.join(evidence.studies)} have not as many folds as each other")
    rows_by_value = _by_value(evidence, tables)
    traits = tables[0].traits
    metric, findings = traits.metrics[evidence.figure], []
    for (before, after), values in zip(pairwise(rows_by_value), pairwise(evidence.values), strict=True):
        what, shared = step(evidence, *values), sorted(before.keys() & after.keys())
        if not shared:
            raise StudyError(
                f"{', '.join(evidence.studies)}: no finished configurations differ in {what} alone"
                f"{known_values(tables[0], [evidence.parameter])}"
            )
        differences = np.mean([before[rest] - after[rest] for rest in shared], axis=0).tolist()
        where = f"{words.grid(tables, evidence.where)}: {what}"
        found = judged(evidence, where, metric, differences, level, traits.overlap)
        over = f"over {len(shared)} settings of the other parameters"
        findings.append(replace(found, sentence=": ".join(filter(None, [over, found.sentence]))))
    return Weighed(
        evidence,
        tuple(findings),
        (*_means(evidence, metric, rows_by_value), *better_and_worse_steps(evidence, findings)),
    )


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
    listed = [
        f"{shown(value)}: {figure(metric, metric.sign * float(np.mean([rows[rest] for rest in shared])))}"
        for value, rows in zip(evidence.values, rows_by_value, strict=True)
    ]
    return [
        f"{by_value(evidence, metric)}, mean over the {len(shared)} settings of the others that all values have: "
        f"{', '.join(listed)}."
    ]


def in_set(evidence: InSet, material: Material, level: float) -> Weighed:
    """Find for each study whether a configuration is in the verdict's set at the level."""
    findings, remarks = [], []
    for study in evidence.each():
        try:
            table, configuration = material.grid(study), material.choose(study, evidence.configuration)
        except LackingError as lacking:
            findings.append(nothing(evidence, study, str(lacking)))
            continue
        name = words.choice(table, evidence.configuration)
        findings.append(_membership(evidence, table, configuration, name, level))
        remarks.append(f"{name}: {words.params(configuration)}.")
    return Weighed(evidence, tuple(findings), tuple(remarks))


def _membership(
    evidence: InSet, table: StudyTable, configuration: Configuration, name: str, level: float
) -> Finding:
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
            f"{words.better_or_worse(metric, effect, level)} than the best mean, which flatters, as it was chosen: "
            f"{words.params(best)}"
        )
    return Finding(
        what=name,
        name=table.definition.metric,
        metric=metric,
        effect=effect,
        decision=Decision.HOLDS if configuration.key in members else Decision.FAILS,
        n=table.definition.folds,
        unit="folds",
        decides=evidence.decides,
        sentence="; ".join(parts),
    )
