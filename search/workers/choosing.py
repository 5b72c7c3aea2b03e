"""Which job a worker claims next."""

from __future__ import annotations

from typing import Any

from pairsearch.search.database.states import OPEN_JOBS, JobState
from pairsearch.search.ledger.claims import Claim, new_token
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.sampling.in_memory import PROPOSALS
from pairsearch.search.workers.advising import Adviser
from pairsearch.search.workers.faults import Faults


class Choice:
    """Claims jobs for a worker: what the sampler proposes, if there is one, else the first of the ledger's order.

    What failed here is left to others, as long as there are any.

    Attributes:
        runs: take up to so many folds of a configuration at once.

    Args:
        name: of the worker.
        within: arguments of `Ledger.claim` that limit what this worker takes.
    """

    def __init__(
        self, ledger: Ledger, name: str, faults: Faults, sampler: Adviser | None, within: dict[str, Any]
    ) -> None:
        self.runs = 1
        self._ledger = ledger
        self._name = name
        self._faults = faults
        self._sampler = sampler
        self._within = within
        # The token of a claim whose answer has not come yet; it stays set while the database does not answer.
        self._token: str | None = None

    def next(self) -> Claim | None:
        """Claim a job; None if there is none that this worker may take now.

        Raises:
            WorkError: several configurations failed here, and nothing trains here.
        """
        claim = None if self._token is None else self._ledger.held(self._name, self._token)
        if claim is None and self._sampler is not None:
            claim = self._sampled(self._sampler)
        claim = claim or self._claimed()
        if claim is None and self._faults.failures and self._left(JobState.RUNNING) == 0:
            # No other worker is active that could try what failed here.
            self._faults.before_trying_again()
            claim = self._claimed(again=True)
        self._token = None
        return claim

    def is_over(self) -> bool:
        """Whether nothing is left to do, or the study's workers are to stop."""
        return self._left(*OPEN_JOBS) == 0 or self._ledger.stopped()

    def _left(self, *states: JobState, **but: Any) -> int:
        return self._ledger.jobs_left(*states, **self._within, **but)

    def _sampled(self, sampler: Adviser) -> Claim | None:
        """Claim what was begun, else the configuration that the sampler proposes."""
        claim = self._claimed(begun=True)
        for _ in range(PROPOSALS):
            # Nothing is left to propose.
            if claim or self._left(JobState.PENDING, but=self._faults.failures) == 0:
                break
            claim = self._claimed(sampler.propose().key)
        return claim

    def _claimed(self, key: str | None = None, *, begun: bool = False, again: bool = False) -> Claim | None:
        """Claim a job, also of what failed here if it may be tried `again`."""
        self._token = new_token()
        return self._ledger.claim(
            self._name,
            token=self._token,
            but=() if again else self._faults.failures,
            begun=begun,
            runs=self.runs,
            **(self._within if key is None else self._within | {"key": key}),
        )
