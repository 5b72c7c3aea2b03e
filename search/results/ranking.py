"""Ranks the finished configurations of a study, the best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations
from pairsearch.search.ledger.rows import read_configuration, read_figures
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.studies.configuration import Configuration, Params

columns = configurations.c


@dataclass(frozen=True, slots=True)
class Ranked:
    """A finished configuration with its rank and its figures, which are means over folds after the last epoch."""

    rank: int
    """1 for the best."""
    configuration: Configuration
    value: float
    figures: Mapping[str, float | None]
    seconds: float

    @property
    def params(self) -> Params:
        """The parameters of the configuration."""
        return self.configuration.params


def best_first(study: StoredStudy) -> ColumnElement[float]:
    """Return the SQL expression that orders configurations by their value, the best first."""
    return columns.value.desc() if study.metric.maximise else columns.value.asc()


def read_best(database: Database, study: StoredStudy, top: int) -> list[Ranked]:
    """Read the `top` best finished configurations, the best first, ties in the order of the grid."""
    with database.read() as connection:
        return ranked_within(connection, study, top)


def ranked_within(
    connection: Connection, study: StoredStudy, top: int, limit: int | None = None
) -> list[Ranked]:
    """Read the best as `read_best` does, in the caller's transaction, among the first `limit` of the study's order."""
    statement = (
        select(configurations)
        .where(columns.study_id == study.id, columns.state == State.FINISHED)
        .order_by(best_first(study), columns.id)
        .limit(top)
    )
    if limit is not None:
        statement = statement.where(columns.rank < limit)
    rows = connection.execute(statement).all()
    return [
        Ranked(
            place, read_configuration(row.key, row.params), row.value, read_figures(row.figures), row.seconds
        )
        for place, row in enumerate(rows, start=1)
    ]
