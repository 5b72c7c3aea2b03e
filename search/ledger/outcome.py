"""What one configuration gave: its state, and the curves of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsFloat

from pairsearch.search.database.states import State


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one fold or round gave.

    Args:
        index: from 0.
        curves: by figure, a number for each epoch that was run, all of one length; NaN where one was not reported, and
            not finite where the run diverged.
        diverged: the epoch, from 1, in which it diverged, or None.
    """

    index: int
    curves: Mapping[str, Sequence[float]]
    diverged: int | None = None

    @property
    def epochs(self) -> int:
        """How many epochs have figures."""
        return max(map(len, self.curves.values()), default=0)

    @property
    def final(self) -> dict[str, float | None]:
        """The figures after the last epoch, None for one that is not finite; none at all where the run diverged."""
        if self.diverged is not None:
            return {}
        return {name: finite(curve[-1]) for name, curve in self.curves.items()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one configuration.

    Args:
        state: FINISHED, DIVERGED or PRUNED.
        value: the mean over folds of the study's metric after the last epoch, None unless FINISHED.
        figures: means over folds after the last epoch, by name; None where a fold has no finite one.
        folds: in their order.
        seconds: wall-clock time of the training.
        reason: why it is not FINISHED.
        provenance: versions, git commit, host, processor; small.
    """

    state: State
    value: float | None
    figures: Mapping[str, float | None]
    folds: tuple[RunResult, ...]
    seconds: float
    reason: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)


def finite(number: SupportsFloat) -> float | None:
    """The number as a Python float, or None where it is NaN or infinite: databases differ on those."""
    converted = float(number)
    return converted if math.isfinite(converted) else None


def mean_of(numbers: Sequence[float]) -> float | None:
    """The mean, None where a number is not finite or there is none."""
    if not numbers:
        return None
    # NumPy's sum, whose last bits are those of all results that there are.
    import numpy as np  # noqa: PLC0415 - commands that only look at a database start faster without it

    return finite(np.array(numbers, dtype=np.float64).mean())
