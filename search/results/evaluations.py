"""What the final evaluation of a configuration gave, over its stored rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from sqlalchemy import select

from pairsearch.search.database.column_types import required
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import rounds
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.studies.configuration import Configuration


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (ddof 1) of a figure over rounds."""

    mean: float
    std: float | None
    """None for a single round."""

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        """The spread of at least one figure."""
        return cls(statistics.fmean(figures), statistics.stdev(figures) if len(figures) > 1 else None)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The final evaluation of one configuration; errors are fractions in [0, 1]."""

    study: str
    key: str
    rounds: int
    """Rounds finished, the diverged ones among them."""
    diverged: int
    train_error: Spread | None
    test_error: Spread | None
    seconds: float


def read_evaluation(database: Database, study: StoredStudy, configuration: Configuration) -> Evaluated:
    """What the finished rounds of a configuration gave. Diverged rounds have no error and enter no mean."""
    with database.read() as connection:
        rows = connection.execute(
            select(rounds)
            .where(rounds.c.study_id == study.id, rounds.c.key == configuration.key)
            .order_by(rounds.c.round)
        ).all()
        for row in rows:
            if row.diverged_epoch is None:
                required(rounds.name, row, "train_error", "test_error")
    train = [row.train_error for row in rows if row.train_error is not None]
    test = [row.test_error for row in rows if row.test_error is not None]
    return Evaluated(
        study=study.name,
        key=configuration.key,
        rounds=len(rows),
        diverged=sum(row.diverged_epoch is not None for row in rows),
        train_error=Spread.of(train) if train else None,
        test_error=Spread.of(test) if test else None,
        seconds=sum(row.seconds for row in rows),
    )
