"""The states of configurations and of jobs in the ledger."""

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


class JobState(StrEnum):
    """State of a job in the ledger."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DROPPED = "dropped"
    """Its configuration ended without it."""


# The states with a result, which the search is there to find.
COVERED = (State.FINISHED, State.DIVERGED, State.PRUNED)
# The states without one, which workers still end.
OPEN = (State.PENDING, State.RUNNING)
# The jobs that workers still end.
OPEN_JOBS = (JobState.PENDING, JobState.RUNNING)
