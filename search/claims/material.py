"""The results that claims are decided from, and the configurations in them that a claims file names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from pairsearch.search.common.errors import StudyError
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies.claims_file import Choice, Claims, Compare, Effect, Reaches
from pairsearch.studies.configuration import Configuration, Params
from pairsearch.studies.intervals import FloatArray
from pairsearch.studies.problem import Metric


class LackingError(Exception):
    """Evidence cannot be weighed because a study is missing or incomplete; the message says what to run."""


@dataclass(frozen=True, slots=True)
class Material:
    """The results of the studies of a claims file, by the names that it gives them."""

    tables: Mapping[str, StudyTable]
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Why a study has no table or an incomplete one."""

    def table(self, study: str, *, whole: bool = False) -> StudyTable:
        """Return a study's table; raises LackingError where there is none, or where it is to be `whole` and is not."""
        if study not in self.tables or (whole and study in self.lacking):
            raise LackingError(self.lacking[study])
        return self.tables[study]

    def choose(self, study: str, choice: Choice) -> Configuration:
        """Return the configuration that a choice names.

        Raises:
            LackingError: the study is missing, or incomplete although the choice needs all of it.
            StudyError: there is no such configuration.
        """
        table = self.table(study)
        if choice.params:
            return Configuration(choice.params)
        if choice.best is not None:
            return best(self.table(study, whole=True), choice.best, choice.where)
        paper = table.definition.paper
        if paper is None:
            raise StudyError(
                f"study {table.name}: its definition has no [paper] table: expected best or params"
            )
        check_names(table, choice.changed)
        return Configuration({**paper.params, **choice.changed})


def best(table: StudyTable, figure: str, where: Params) -> Configuration:
    """Return the finished configuration with the best mean of a figure over folds, among those with some values.

    Means are rounded, so that their last bits break no tie (as in `search.verdict.study_verdict`); grid order does. It
    raises StudyError where there is no such configuration, figure or parameter.
    """
    check_names(table, where)
    means = signed(table, figure).mean(axis=1)
    matching = [
        place
        for place, one in enumerate(table.configurations)
        if np.isfinite(means[place]) and matches(one, where)
    ]
    if not matching:
        said = ", ".join(f"{name} {value!r}" for name, value in where.items())
        raise StudyError(
            f"study {table.name} has no finished configuration{f' with {said}' if said else ''} and a "
            f"{figure} in every fold{known_values(table, where)}"
        )
    return table.configurations[min(matching, key=lambda place: round(float(means[place]), 12))]


def known_values(table: StudyTable, names: Collection[str]) -> str:
    """Return which values some parameters have, for a message: 0 and 0.0 look alike in tables, and differ."""
    params = [one.params for one in table.configurations]
    values = {name: dict.fromkeys(repr(one[name]) for one in params if name in one) for name in names}
    return "".join(f"; there {name} is {', '.join(known)}" for name, known in values.items())


def signed(table: StudyTable, figure: str) -> FloatArray:
    """Return a figure of folds, (configurations, folds), with its sign changed if it is maximised: lower is better.

    It raises StudyError where folds report no such figure.
    """
    _check_known(table, "folds report", figure, table.values)
    return table.traits.metrics[figure].sign * table.values[figure]


def round_metric(table: StudyTable, figure: str) -> Metric:
    """Return the metric of a figure of rounds; raises StudyError where the problem reports no such figure."""
    _check_known(table, "its problem reports", figure, table.traits.metrics)
    return table.traits.metrics[figure]


def _check_known(table: StudyTable, who: str, figure: str, known: Collection[str]) -> None:
    if figure not in known:
        raise StudyError(f"study {table.name}: {who} no {figure!r}: expected one of {', '.join(known)}")


def matches(configuration: Configuration, where: Params) -> bool:
    """Whether a configuration has these values, with the same types: 1 and 1.0 differ."""
    return all(repr(configuration.params.get(name)) == repr(value) for name, value in where.items())


def check_names(table: StudyTable, names: Collection[str]) -> None:
    """Raise StudyError where a study lacks some parameters."""
    known = table.definition.grid.choices
    if others := [name for name in names if name not in known]:
        raise StudyError(
            f"study {table.name} has no parameter {', '.join(others)}: expected some of {', '.join(known)}"
        )


def share_random_numbers(first: StudyTable, second: StudyTable) -> bool:
    """Whether rounds and folds of the same number draw the same data in both.

    Streams depend on the study's seed and on the number of the fold or round only (`studies.problem.Run.stream`).
    """
    one, other = first.definition, second.definition
    same = (one.problem, one.seed) == (other.problem, other.seed)
    return same and first.traits.fingerprint == second.traits.fingerprint


Wanted = dict[tuple[str, Configuration], int]
"""Number of rounds by the study's name in the file and by configuration, in the order of the claims."""


def wanted_rounds(claims: Claims, material: Material) -> Wanted:
    """Return the rounds that claims compare, without those of missing studies; raises StudyError as `weigh` does."""
    wanted: Wanted = {}
    for number, claim in enumerate(claims.claim, start=1):
        for evidence in claim.evidence:
            for study, choice in evidence.choices():
                try:
                    chosen = material.choose(study, choice)
                    if isinstance(evidence, Compare | Effect | Reaches):
                        round_metric(material.table(study), evidence.figure)
                except LackingError:
                    continue
                except StudyError as error:
                    raise StudyError(f"claim {number}: {error}") from None
                place = (study, chosen)
                wanted[place] = max(wanted.get(place, 0), claims.rounds_of(claim))
    return wanted
