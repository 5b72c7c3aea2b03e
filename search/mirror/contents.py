"""Converts a result to the contents of Optuna's trial: state, attributes and intermediate values."""

from __future__ import annotations

from typing import Any

from optuna.trial import TrialState

from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome, mean_of, steps_are_epochs
from pairsearch.search.ledger.studies import StoredStudy

FAILED_REASON = "failed_reason"


def report_steps(study: StoredStudy) -> tuple[int, ...]:
    """Return the steps that are reported to Optuna.

    A step is an epoch if folds train together or there is one, and a fold, from 1, if they train one after the other.
    """
    definition = study.definition
    if not steps_are_epochs(definition, study.traits):
        return tuple(range(1, definition.folds + 1))
    return definition.reported_epochs


def reports_of(study: StoredStudy, outcome: Outcome) -> dict[int, float]:
    """Return the finite values of the metric by step.

    A value is the mean over folds after an epoch, or the figure of a fold if folds train one after the other.
    """
    metric = study.definition.metric
    if steps_are_epochs(study.definition, study.traits):
        of_epochs = outcome.folds if outcome.mean is None else (outcome.mean,)
        curves = [run.curves.get(metric, ()) for run in of_epochs]
        epochs = min(map(len, curves))
        values = {
            step: mean_of([curve[step - 1] for curve in curves])
            for step in report_steps(study)
            if step <= epochs
        }
    else:
        values = {fold.index + 1: fold.last(metric) for fold in outcome.folds}
    return {step: value for step, value in values.items() if value is not None}


def attributes_of(outcome: Outcome) -> dict[str, Any]:
    """Return the user attributes of the trial: the figures of each fold, the time, and why it is not finished."""
    finals = [fold.final for fold in outcome.folds]
    result: dict[str, Any] = {name: [final.get(name) for final in finals] for name in outcome.figures}
    result["seconds"] = round(outcome.seconds, 3)
    if outcome.reason:
        result["reason"] = outcome.reason
    return {"folds": result}


def state_of(outcome: Outcome) -> TrialState:
    """Return COMPLETE, or PRUNED if the configuration diverged or was pruned."""
    return TrialState.COMPLETE if outcome.state == State.FINISHED else TrialState.PRUNED
