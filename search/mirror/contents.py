"""What Optuna is told of a result: the state of its trial, its attributes and its intermediate values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from optuna.trial import TrialState

from pairsearch.search.database.states import State
from pairsearch.search.ledger.outcome import Outcome, finite
from pairsearch.studies.definition import Definition

# A mean curve of about this many points: one write of some 2 ms each.
REPORTS = 10

FAILED_REASON = "failed_reason"


def report_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs whose mean is reported to Optuna: about ten, evenly spaced, the last among them."""
    step = max(1, epochs // REPORTS)
    return tuple(range(epochs, 0, -step))[::-1]


def reports_of(definition: Definition, outcome: Outcome, reported: Iterable[int] = ()) -> dict[int, float]:
    """The mean over folds by epoch, less the epochs that were reported while training, and those not finite."""
    curve = outcome.val_loss if definition.metric == "val_loss" else outcome.val_error
    return {
        epoch: mean
        for epoch in report_epochs(definition.epochs)
        if epoch not in reported
        and epoch <= curve.shape[1]
        and (mean := finite(curve[:, epoch - 1].mean())) is not None
    }


def attributes_of(outcome: Outcome) -> dict[str, Any]:
    """User attributes of the trial: the figures of each fold, the time, and why it is not finished."""
    result: dict[str, Any] = {
        "val_loss": [finite(loss) for loss in outcome.val_loss[:, -1]],
        "val_error": [finite(error) for error in outcome.val_error[:, -1]],
        "seconds": round(outcome.seconds, 3),
    }
    if outcome.reason:
        result["reason"] = outcome.reason
    return {"folds": result}


def state_of(outcome: Outcome) -> TrialState:
    """COMPLETE, or PRUNED for what diverged or was pruned."""
    return TrialState.COMPLETE if outcome.state == State.FINISHED else TrialState.PRUNED
