"""What Optuna is told of a result: the state of its trial, its attributes and its intermediate values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from optuna.trial import TrialState

from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome, finite, mean_of
from pairsearch.search.ledger.studies import StoredStudy

FAILED_REASON = "failed_reason"


def report_steps(study: StoredStudy) -> tuple[int, ...]:
    """The steps that are reported to Optuna.

    Where folds train together, a step is an epoch; where they train in turn, a fold, from 1.
    """
    definition = study.definition
    if not study.traits.together:
        return tuple(range(1, definition.folds + 1))
    return definition.reported_epochs


def reports_of(study: StoredStudy, outcome: Outcome, reported: Iterable[int] = ()) -> dict[int, float]:
    """The metric by step, less the steps that were reported while training, and those not finite.

    The mean over folds after an epoch, or the figure of each fold where they are trained in turn.
    """
    curves = [fold.curves.get(study.definition.metric, ()) for fold in outcome.folds]
    if study.traits.together:
        epochs = min(map(len, curves), default=0)
        found = {
            step: mean_of([curve[step - 1] for curve in curves])
            for step in report_steps(study)
            if step <= epochs
        }
    else:
        found = {place: finite(curve[-1]) for place, curve in enumerate(curves, start=1) if curve}
    return {step: value for step, value in found.items() if step not in reported and value is not None}


def attributes_of(outcome: Outcome) -> dict[str, Any]:
    """User attributes of the trial: the figures of each fold, the time, and why it is not finished."""
    finals = [fold.final for fold in outcome.folds]
    result: dict[str, Any] = {name: [final.get(name) for final in finals] for name in outcome.figures}
    result["seconds"] = round(outcome.seconds, 3)
    if outcome.reason:
        result["reason"] = outcome.reason
    return {"folds": result}


def state_of(outcome: Outcome) -> TrialState:
    """COMPLETE, or PRUNED for what diverged or was pruned."""
    return TrialState.COMPLETE if outcome.state == State.FINISHED else TrialState.PRUNED
