"""The states of a configuration in the ledger."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """States of a configuration in the ledger."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    FAILED = "failed"


# Those that hold a result: what the search set out to find.
COVERED = (State.FINISHED, State.DIVERGED, State.PRUNED)
