"""Renews the lease of a claim while its configuration is trained."""

from __future__ import annotations

import logging
import threading

from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger

log = logging.getLogger(__name__)

JOIN_SECONDS = 5.0


class Heartbeat:
    """Renews the lease of a claim in a thread of its own, and goes on after a renewal fails.

    Args:
        stopping: is set when the study's workers are told to stop.

    Attributes:
        lost: set once the claim was lost.
    """

    def __init__(self, ledger: Ledger, claim: Claim, stopping: threading.Event | None = None) -> None:
        self._stopping = stopping or threading.Event()
        self.lost = threading.Event()
        self._done = threading.Event()
        self._ledger = ledger
        self._claim = claim
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        # A renewal to which the server does not answer must not delay the result; it has no effect any more.
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        # Four beats for each lease: three may be missed.
        while not self._done.wait(self._ledger.lease_seconds / 4):
            try:
                if not self._ledger.renew(self._claim):
                    self.lost.set()
                    return
                if self._ledger.stopped():
                    self._stopping.set()
            except Exception as error:
                log.warning("heartbeat missed: %s", error)
