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


# Nothing is claimed again from here, but for FAILED, which a person may have tried again.
TERMINAL = (State.FINISHED, State.DIVERGED, State.PRUNED, State.FAILED)
# Those that hold a result: what the search set out to find.
COVERED = (State.FINISHED, State.DIVERGED, State.PRUNED)
