"""How an attempt of a worker at a job ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.workers.rounds import TrainedRound


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt to train a job ended: by one of these, or by none where it was interrupted.

    Args:
        over: a line about the time limit.
    """

    outcome: Outcome | None = None
    error: Exception | None = None
    over: str | None = None
    rounds: Sequence[TrainedRound] = ()


def runs_of(claim: Claim) -> str:
    """Name the folds of a claim, for a line."""
    first, last = claim.numbers[0], claim.numbers[-1]
    return f"fold {first}" if first == last else f"folds {first} to {last}"
