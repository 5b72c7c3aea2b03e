"""Renews the leases of a worker's claims while their runs are trained."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pairsearch.search.ledger.claims import Claim, Renewal
from pairsearch.search.ledger.jobs import Ledger

log = logging.getLogger(__name__)

JOIN_SECONDS = 5.0


class Heartbeat:
    """Renews the lease of the claim that a worker holds, in a thread of its own, and goes on after a renewal fails.

    The thread lives during a `with` block: starting one for each claim takes longer than a short run.

    It sets `stopping` when the study's workers are told to stop.

    Attributes:
        lost: set once the claim was lost.
    """

    def __init__(self, ledger: Ledger, stopping: threading.Event) -> None:
        self._stopping = stopping
        self.lost = threading.Event()
        self._ledger = ledger
        self._claim: Claim | None = None

    def __enter__(self) -> Heartbeat:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[self._ended], name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # A renewal to which the server does not answer has no effect any more.
        self._thread.join(JOIN_SECONDS)

    @contextmanager
    def of(self, claim: Claim) -> Iterator[None]:
        """Renew the lease of a claim during the block."""
        self.lost = threading.Event()
        self._claim = claim
        try:
            yield
        finally:
            self._claim = None

    def _run(self, ended: threading.Event) -> None:
        # Four beats for each lease: three may be missed.
        while not ended.wait(self._ledger.lease_seconds / 4):
            # In this order: a claim that comes in between has not lost what the last one did.
            lost, claim = self.lost, self._claim
            try:
                if claim is None or lost.is_set():
                    continue
                renewal = self._ledger.renew(claim)
                if renewal == Renewal.LOST:
                    lost.set()
                elif renewal == Renewal.TO_STOP:
                    self._stopping.set()
            except Exception as error:
                log.warning("heartbeat missed: %s", error)
