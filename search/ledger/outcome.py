"""The result of one configuration: its state, its figures, and the curves of its runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsFloat

from pairsearch.search.database.states import State
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.studies.definition import Definition
from pairsearch.studies.problem import Traits


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of one fold or round.

    Args:
        index: of the fold or round, from 0.
        curves: one number per trained epoch for each figure, all curves of one length; NaN where a figure was not
            reported, not finite where the run diverged.
        diverged: the epoch, from 1, in which the run diverged, or None.
        known: the figures after the last epoch of a run that was read without its curves; None where it has curves.
        seconds: its training time, a share of it where runs train together; None if that is not known.
        facts: of the problem about the configuration, where it was just trained.
    """

    index: int
    curves: Mapping[str, Sequence[float]]
    diverged: int | None = None
    known: Mapping[str, float | None] | None = None
    seconds: float | None = field(default=None, compare=False)
    facts: Mapping[str, str] | None = field(default=None, compare=False)

    @property
    def epochs(self) -> int:
        """How many epochs have figures."""
        return max(map(len, self.curves.values()), default=0)

    @property
    def final(self) -> dict[str, float | None]:
        """The figures after the last epoch, None for one that is not finite; empty if the run diverged."""
        if self.known is not None:
            return dict(self.known)
        if self.diverged is not None:
            return {}
        return {name: finite(curve[-1]) for name, curve in self.curves.items()}

    def last(self, name: str) -> float | None:
        """Return a figure after the last epoch, in which the run may have diverged; None if it is not finite."""
        curve = self.curves.get(name, ())
        return finite(curve[-1]) if curve else self.final.get(name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one configuration, or of some folds of it.

    Args:
        state: FINISHED, DIVERGED or PRUNED.
        value: the mean over folds of the study's metric after the last epoch, None unless FINISHED.
        figures: means over folds after the last epoch, by name; None if the figure of a fold is not finite.
        folds: ordered by index.
        seconds: wall-clock time of the training.
        reason: why the state is not FINISHED.
        mean: the mean curves of folds that were loaded without curves of their own; None otherwise.
    """

    state: State
    value: float | None
    figures: Mapping[str, float | None]
    folds: tuple[RunResult, ...]
    seconds: float
    reason: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    mean: RunResult | None = None


def conclude(
    definition: Definition,
    traits: Traits,
    folds: Sequence[RunResult],
    *,
    pruned: bool,
    seconds: float,
    provenance: Mapping[str, str],
) -> Outcome:
    """Return what folds say about their configuration: it diverged if one did, and else is finished or was pruned.

    Args:
        folds: in their order; means are taken in it, whoever trained which.
        pruned: whether a pruner ended the training after these folds, or in this epoch of them.
    """
    names = [
        name for name in traits.metrics if any(name in fold.curves or name in fold.final for fold in folds)
    ]
    finals = [fold.final for fold in folds]
    figures = {name: mean_of([final.get(name) for final in finals]) for name in names}
    first = next((fold for fold in folds if fold.diverged is not None), None)
    state, reason = State.FINISHED, None
    if first is not None:
        state, figures = State.DIVERGED, dict.fromkeys(figures)
        reason = f"fold {first.index} diverged in epoch {first.diverged}: a figure became NaN or infinite"
    elif pruned:
        of_epochs = definition.steps_are_epochs(traits.together)
        after = f"epoch {folds[0].epochs}" if of_epochs else f"{len(folds)} folds"
        state, reason = State.PRUNED, f"pruned after {after} by pruner {definition.pruner}"
    return Outcome(
        state=state,
        value=figures[definition.metric] if state == State.FINISHED else None,
        figures=figures,
        folds=tuple(folds),
        seconds=seconds,
        reason=reason,
        provenance=provenance,
    )


def reports_of(study: StoredStudy, outcome: Outcome) -> dict[int, float]:
    """Return the finite values of the metric by step (`StoredStudy.report_steps`).

    A value is the mean over folds after an epoch, or the figure of a fold if folds train one after the other.
    """
    metric = study.definition.metric
    if not study.definition.steps_are_epochs(study.traits.together):
        return fold_reports(outcome.folds, metric)
    of_epochs = outcome.folds if outcome.mean is None else (outcome.mean,)
    curves = [run.curves.get(metric, ()) for run in of_epochs]
    steps = [step for step in study.report_steps if step <= min(map(len, curves))]
    means = {step: mean_of([curve[step - 1] for curve in curves]) for step in steps}
    return {step: mean for step, mean in means.items() if mean is not None}


def fold_reports(folds: Iterable[RunResult], metric: str) -> dict[int, float]:
    """Return the finite values of the metric of folds that train one after the other, by step."""
    return {fold.index + 1: value for fold in folds if (value := fold.last(metric)) is not None}


def finite(number: SupportsFloat) -> float | None:
    """Return the number as a Python float, or None if it is NaN or infinite, which databases store differently."""
    converted = float(number)
    return converted if math.isfinite(converted) else None


def mean_of(numbers: Sequence[float | None]) -> float | None:
    """Return the mean; None if there is no number, or one is missing or not finite."""
    if not numbers or None in numbers:
        return None
    # NumPy's order of summation: stored results depend on it in their last bits.
    import numpy as np  # noqa: PLC0415 - commands that only look at a database start faster without it

    return finite(np.array(numbers, dtype=np.float64).mean())
