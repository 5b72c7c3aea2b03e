"""The states of a configuration in the ledger."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a configuration in the ledger."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    FAILED = "failed"


# The states with a result, which the search is there to find.
COVERED = (State.FINISHED, State.DIVERGED, State.PRUNED)
# The states without one, which workers still end.
OPEN = (State.PENDING, State.RUNNING)
