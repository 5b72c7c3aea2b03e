"""An attempt of a worker at a job: the checkpoints of its runs, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pairsearch.search.common.errors import DatabaseAwayError, DiskFullError
from pairsearch.search.ledger.checkpoints import Kept
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.workers.rounds import TrainedRound

log = logging.getLogger(__name__)

Calls = Callable[[Callable[[], Any]], Any]


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


class ClaimKeeper:
    """Keeps the checkpoints of the runs of a claim in the ledger.

    Args:
        once: makes a call.
        patiently: makes a call, and repeats it while the database is away.
    """

    def __init__(self, ledger: Ledger, claim: Claim, once: Calls, patiently: Calls) -> None:
        self._ledger = ledger
        self._claim = claim
        self._once = once
        self._patiently = patiently

    def find(self, run: int) -> Kept | None:
        """Return the checkpoint of a run, None if it has none."""
        found: Kept | None = self._patiently(lambda: self._ledger.find_checkpoint(self._claim, run))
        return found

    def keep(self, run: int, kept: Kept) -> bool:
        """Store a checkpoint, unless the database is away; return False if the claim was lost."""
        try:
            held: bool = self._once(lambda: self._ledger.save_checkpoint(self._claim, run, kept))
            return held
        except (DatabaseAwayError, DiskFullError) as error:
            log.warning("checkpoint of epoch %d put off: %s", kept.epoch, error)
            return True
