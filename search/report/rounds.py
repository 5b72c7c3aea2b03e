"""The evaluated configurations of Table 1, and the intervals of their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairsearch.search.report.reading import Reading
from pairsearch.search.results.evaluations import Evaluated, Round, evaluated, shown_figures
from pairsearch.search.results.formatting import DASH, figure
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.intervals import mean_interval
from pairsearch.studies.problem import Metric

BEST, PAPERS, BOTH = "search’s best", "paper’s", "both"
WHICH = {BEST: "the search’s best", PAPERS: "the paper’s", BOTH: "the best and the paper’s"}
"""How sentences name the configurations of these roles."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration of Table 1."""

    role: str
    """`BEST`, `PAPERS` or `BOTH`."""
    configuration: Configuration
    rounds: tuple[Round, ...]
    evaluated: Evaluated

    @property
    def papers(self) -> bool:
        return self.role != BEST


def candidates(reading: Reading) -> list[Candidate]:
    """Return the search's best configuration and the paper's, once if they are the same, as far as they exist."""
    best, paper = reading.best, reading.paper
    roles: dict[Configuration, str] = {}
    if best is not None:
        roles[best] = BEST
    if paper is not None:
        roles[paper] = BOTH if paper == best else PAPERS
    rounds = {one: reading.evaluated.get(one.key, ()) for one in roles}
    return [
        Candidate(role, one, rounds[one], evaluated(reading.study, one.key, rounds[one]))
        for one, role in roles.items()
    ]


def evaluated_figures(reading: Reading) -> dict[str, Metric]:
    """Return the figures of rounds that tables show, the most important last."""
    rounds = [entry for entries in reading.evaluated.values() for entry in entries]
    return {name: reading.study.traits.metrics[name] for name in shown_figures(reading.study, rounds)}


def shown_interval(metric: Metric, values: Sequence[float]) -> str:
    """Format the 95 % interval of the mean as `5.14 to 6.98`; that of fractions is clipped to [0, 1]."""
    interval = mean_interval(values)
    if interval is None:
        return DASH
    low, high = interval.low, interval.high
    if metric.percent and min(values) >= 0 and max(values) <= 1:
        low, high = max(0.0, low), min(1.0, high)
    return f"{figure(metric, low)} to {figure(metric, high)}"
