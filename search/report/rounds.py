"""The evaluated configurations of Table 1, and the intervals of their figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pairsearch.search.report.reading import Reading
from pairsearch.search.results.evaluations import Round, Spread, shown_figures
from pairsearch.search.results.formatting import DASH, figure, spread
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Metric

LEVEL = 0.95
BEST, PAPERS, BOTH = "search’s best", "paper’s", "both"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration of Table 1."""

    role: str
    """`BEST`, `PAPERS` or `BOTH`."""
    configuration: Configuration
    rounds: tuple[Round, ...]


def candidates(reading: Reading) -> list[Candidate]:
    """Return the search's best configuration and the paper's, once if they are the same, as far as they exist."""
    best, paper = reading.best, reading.paper
    roles: dict[Configuration, str] = {}
    if best is not None:
        roles[best] = BEST
    if paper is not None:
        roles[paper] = BOTH if paper == best else PAPERS
    return [
        Candidate(role, configuration, reading.evaluated.get(configuration.key, ()))
        for configuration, role in roles.items()
    ]


def evaluated_figures(reading: Reading) -> dict[str, Metric]:
    """Return the figures of rounds that tables show, the most important last."""
    rounds = [entry for entries in reading.evaluated.values() for entry in entries]
    return {name: reading.study.traits.metrics[name] for name in shown_figures(reading.study, rounds)}


def mean_and_deviation(metric: Metric, values: Sequence[float]) -> str:
    """Format mean and standard deviation as `6.06 ± 1.28`."""
    return spread(metric, Spread.of(list(values)) if values else None)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % t interval of the mean, None for fewer than two values.

    It is mean ± t(0.975; n − 1) · std / √n, for values that are independent and about normal (Student 1908).
    """
    n = len(values)
    if n < 2:
        return None
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import for a report without evaluations

    mean = statistics.fmean(values)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * statistics.stdev(values) / math.sqrt(n)
    return mean - half, mean + half


def shown_interval(metric: Metric, values: Sequence[float]) -> str:
    """Format the interval of the mean as `5.14 to 6.98`; that of fractions is clipped to [0, 1]."""
    bounds = interval(values)
    if bounds is None:
        return DASH
    low, high = bounds
    if metric.percent and min(values) >= 0 and max(values) <= 1:
        low, high = max(0.0, low), min(1.0, high)
    return f"{figure(metric, low)} to {figure(metric, high)}"
