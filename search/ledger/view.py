"""What shows the ledger to others, and is written in the ledger's own transactions (`search.mirror.trials`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from pairsearch.search.ledger.outcome import Outcome
from pairsearch.studies.configuration import Configuration


@dataclass(frozen=True, slots=True)
class Shown:
    """A configuration that is shown, by the ids of its row and of its trial, if it has one."""

    row_id: int
    configuration: Configuration
    trial_id: int | None


class View:
    """Shows nothing. Others show one trial for each configuration that is being trained or has ended.

    Every method with a connection works in the transaction of the change that it shows.

    Attributes:
        notice: a line for people about what is shown otherwise than usual; empty if nothing is.
    """

    notice = ""

    def start(self, connection: Connection, shown: Shown, worker: str) -> int | None:
        """Add the trial of a configuration that a worker begins; return its id, None if it gets one at the end."""
        return None

    def due(self) -> bool:
        """Whether it is time for another report; a result shows all of them."""
        return False

    def report(self, connection: Connection, shown: Shown, reports: Mapping[int, float]) -> None:
        """Show the metric after some steps of a configuration that is being trained."""

    def finish(self, connection: Connection, shown: Shown, worker: str, outcome: Outcome) -> int | None:
        """Show a result; return the id of its trial, which may be another if the trial was deleted."""
        return None

    def abandon(self, connection: Connection, shown: Shown, reason: str) -> None:
        """Show that an attempt ended without a result."""

    def committed(self) -> None:
        """Do what can only be done after the transaction of a result."""

    def complete(self) -> int:
        """Show again what somebody deleted; return how many trials it were."""
        return 0
