"""Checkpoints: what a run needs to go on where it was, in another process and on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

State = Mapping[Any, Any]
"""Nested mappings, lists and tuples of arrays, tensors, numbers, texts, bytes and None."""


class Checkpoint:
    """A run's checkpoint, `run.checkpoint`. This one, of runs outside of the service, keeps nothing."""

    @property
    def wanted(self) -> bool:
        """Whether to save after the epoch that was reported last, because the training is to end: on SIGTERM, or by
        `pairsearch stop`.
        """
        return False

    def poll(self) -> None:
        """Do what `Run.poll` does, which is nothing for this one."""

    def load(self) -> tuple[int, Any] | None:
        """Return the epoch and the state that were saved last, None if nothing was; reports go on from the next epoch.

        Raises:
            ReportError: something was reported already.
        """
        return None

    def save(self, epoch: int, state: State) -> None:
        """Store a state with all figures that were reported up to an epoch, in place of an earlier one.

        Args:
            epoch: the epoch that was reported last.
            state: all that the next epoch depends on: weights, the optimiser's state, generators' states.

        Raises:
            Stopped: the training has to end; let it pass.
            ReportError: it is another epoch, or the state holds something that cannot be stored.
        """
