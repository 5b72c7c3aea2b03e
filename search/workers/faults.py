"""Whose fault a worker's failures are: a configuration's, or the worker's own.

A worker that fails where another configuration trains is not at fault. Where none trains it is broken: it hands back
what it took, its failures count against nobody, and it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pairsearch.search.common.errors import WorkError
from pairsearch.search.database.states import State
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.workers.failure import failure
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.studies.configuration import Configuration

# A worker that has failed with this many configurations before any was trained suspects itself, once nothing else is
# left to try.
STREAK = 3
# It suspects itself at once after this many: a worker that cannot train should not go through a large grid.
MOST_UNKNOWN = 20


class Faults:
    """The failures of one worker on one study; `patiently` makes the calls of the ledger.

    Attributes:
        failures: keys of the configurations that failed here.
    """

    def __init__(
        self, ledger: Ledger, objective: CrossValidation, patiently: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self.failures: set[str] = set()
        self._study = ledger.study.name
        self._ledger = ledger
        self._objective = objective
        self._patiently = patiently
        # The claims of each configuration that failed of which nobody knows yet whether this worker is at fault.
        self._unknown: dict[str, list[str]] = {}
        self._last_reason = ""

    def add(self, claim: Claim, reason: str) -> None:
        """Count a failure, of which nobody knows yet whose fault it is.

        Raises:
            WorkError: there are too many of them; what this worker took is handed back.
        """
        key = claim.configuration.key
        self.failures.add(key)
        self._unknown.setdefault(key, []).append(claim.token)
        self._last_reason = reason
        if len(self._unknown) >= MOST_UNKNOWN:
            self._suspect()

    def acquit(self) -> None:
        """Note that something trained here: earlier failures are not this worker's fault."""
        self._unknown.clear()

    def look_again(self) -> None:
        """Find out whose fault the failures were, if another worker has finished a configuration since.

        It raises what `trains_another` raises.
        """
        if self._unknown:
            self.trains_another(self._last_reason)

    def before_trying_again(self) -> None:
        """Check that configurations that failed here may be tried here again, as nobody else is there to try them.

        Raises:
            WorkError: several failed and nothing trains here.
        """
        if len(self._unknown) >= STREAK and not self.trains_another(self._last_reason):
            self._suspect()

    def trains_another(self, reason: str) -> bool:
        """Whether a finished configuration, the control, trains here for an epoch; False if none is finished yet.

        Raises:
            WorkError: it raises an exception here: this worker is broken. Its failures are not counted.
        """
        known: Configuration | None = self._patiently(self._ledger.one_finished)
        if known is None:
            return False
        try:
            self._objective(known, lambda *_: State.PENDING)
        except Exception as error:
            self._patiently(lambda: self._ledger.forgive(self._claims(), lost=False))
            raise WorkError(
                f"study {self._study}: an attempt failed here ({reason}), and so does {known.key}, trained before "
                f"({failure(error)}): what this worker took is handed back"
            ) from None
        self.acquit()
        return True

    def _claims(self) -> list[str]:
        return [token for tokens in self._unknown.values() for token in tokens]

    def _suspect(self) -> None:
        """Hand back what failed here, where nothing has been trained that could tell whose fault it is."""
        self._patiently(lambda: self._ledger.forgive(self._claims(), lost=True))
        raise WorkError(
            f"study {self._study}: the first {len(self._unknown)} configurations all failed here, and none has been "
            f"trained yet ({self._last_reason}): what this worker took is handed back"
        )
