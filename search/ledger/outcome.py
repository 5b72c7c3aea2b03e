"""What one configuration gave: its state, its figures by fold, and its curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, SupportsFloat

from pairsearch.search.database.states import State

if TYPE_CHECKING:  # commands that only look at a database start faster without NumPy
    from pairsearch.models.training import FloatArray


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


def finite(number: SupportsFloat) -> float | None:
    """The number as a Python float, or None where it is NaN or infinite: databases differ on those."""
    converted = float(number)
    return converted if math.isfinite(converted) else None
