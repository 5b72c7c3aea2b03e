"""Tests that this process can train a study's problem, before it claims anything."""

from __future__ import annotations

from pairsearch.search.common.errors import WorkError
from pairsearch.studies.loading import Loaded


def prove(loaded: Loaded, device: str) -> None:
    """Let the problem test that it can train in this process.

    Raises:
        WorkError: it cannot; the message says why.
    """
    try:
        loaded.problem.prove(device)
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise WorkError(
            f"this machine cannot train study {loaded.definition.name} on {device} ({type(error).__name__}: "
            f"{lines[0]}): nothing was taken; `pairsearch doctor STUDY` checks what it needs"
        ) from None
