"""What one configuration gave: its state, its figures by fold, and its curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class State(StrEnum):
    """States of a configuration in the ledger."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    FAILED = "failed"


# Nothing is claimed again from here, but for FAILED, which a person may lay out anew.
TERMINAL = (State.FINISHED, State.DIVERGED, State.PRUNED, State.FAILED)
# Those that hold a result: what the search set out to find.
COVERED = (State.FINISHED, State.DIVERGED, State.PRUNED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one configuration.

    Args:
        state: FINISHED, DIVERGED or PRUNED.
        value: what the study minimises, None unless FINISHED.
        train_loss, val_loss, val_error: (folds, epochs run) float64; losses are mean cross entropies, errors
            fractions in [0, 1]; not finite from the epoch in which a fold diverged.
        diverged: per fold, the 1-based epoch in which it diverged, or None.
        reason: why it is not FINISHED.
        seconds: wall-clock time of the training.
        provenance: versions, git commit, host, processor; small.
    """

    state: State
    value: float | None
    train_loss: FloatArray
    val_loss: FloatArray
    val_error: FloatArray
    diverged: tuple[int | None, ...]
    seconds: float
    reason: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def mean_val_loss(self) -> float | None:
        """Mean over the folds of the last epoch's validation loss, None where it is not finite."""
        return finite(self.val_loss[:, -1].mean())

    @property
    def mean_val_error(self) -> float | None:
        """Mean over the folds of the last epoch's validation error, None where it is not finite."""
        return finite(self.val_error[:, -1].mean())


def finite(number: float | np.floating) -> float | None:
    """The number as a Python float, or None where it is NaN or infinite: databases differ on those."""
    number = float(number)
    return number if np.isfinite(number) else None
