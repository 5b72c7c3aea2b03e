"""Configurations that are evaluated, and what is estimated from their rounds: mean, deviation and interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pairsearch.search.report.drawing import number
from pairsearch.search.report.reading import Reading, Round
from pairsearch.search.results.formatting import DASH, per_cent
from pairsearch.studies.configuration import Configuration

LEVEL = 0.95
SHORT = {
    "batch_size": "BS",
    "learning_rate": "LR",
    "weight_decay": "WD",
    "hidden_units": "HL",
    "aux_loss_weight": "ALW",
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean and sample standard deviation (ddof 1) of n figures, and the t interval of the mean.

    The interval is mean ± t(0.975; n − 1) · std / √n, for figures that are independent and about normal
    (Student 1908). A single figure has neither deviation nor interval.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, figures: Sequence[float]) -> Estimate | None:
        """The estimate from the figures, None without any."""
        if not figures:
            return None
        n, mean = len(figures), statistics.fmean(figures)
        if n == 1:
            return cls(1, mean, None, None, None)
        from scipy.special import stdtrit  # noqa: PLC0415 - slow to import for a report without evaluations

        std = statistics.stdev(figures)
        half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * std / math.sqrt(n)
        return cls(n, mean, std, mean - half, mean + half)

    def __str__(self) -> str:
        """`6.06 ± 1.28`, in per cent."""
        return per_cent(self.mean) + ("" if self.std is None else f" ± {per_cent(self.std)}")

    @property
    def interval(self) -> str:
        """`5.14 to 6.98`, in per cent."""
        if self.low is None or self.high is None:
            return DASH
        return f"{per_cent(max(0.0, self.low))} to {per_cent(self.high)}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration of Table 1."""

    role: str
    """`search's best`, `paper's` or both."""
    configuration: Configuration
    rounds: tuple[Round, ...]


def compact(configuration: Configuration) -> str:
    """`BS 25, LR 1e-4, WD 0.1`."""
    return ", ".join(f"{SHORT[name]} {number(value)}" for name, value in configuration.params.items())


def candidates(reading: Reading) -> list[Candidate]:
    """The search's best configuration and the paper's; one where they are the same, none of a bare study."""
    best, paper = reading.best, reading.paper
    roles: dict[Configuration, str] = {}
    if best is not None:
        roles[best] = "search’s best"
    if paper is not None:
        roles[paper] = "both" if paper == best else "paper’s"
    return [
        Candidate(role, configuration, reading.evaluated.get(configuration.key, ()))
        for configuration, role in roles.items()
    ]


def train_errors(rounds: Sequence[Round]) -> list[float]:
    """Training errors of the rounds that did not diverge, fractions."""
    return [entry.train_error for entry in rounds if entry.train_error is not None]


def test_errors(rounds: Sequence[Round]) -> list[float]:
    """Test errors of the rounds that did not diverge, fractions."""
    return [entry.test_error for entry in rounds if entry.test_error is not None]
