"""What the ledger says of the configurations of a study: how many are in a state, and their results."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, or_, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import read_configuration, read_outcome
from pairsearch.studies.configuration import Configuration

columns = configurations.c


class StoredConfigurations:
    """The configurations of one study. Each method is one transaction, safe to call from any thread or process.

    Every method raises what `search.database.connection.Database.write` raises.
    """

    def __init__(self, database: Database, study_id: int) -> None:
        self.database = database
        self.study_id = study_id

    def first_traceback(self) -> tuple[str, str] | None:
        """Return key and traceback of the first configuration, by rank, whose last attempt left a traceback."""
        statement = (
            select(columns.key, columns.traceback)
            .where(columns.study_id == self.study_id, columns.traceback.is_not(None))
            .order_by(columns.rank)
            .limit(1)
        )
        with self.database.read() as connection:
            row = connection.execute(statement).first()
        return None if row is None else (row.key, row.traceback)

    def count(self, *states: State, limit: int | None = None, but: Collection[str] = ()) -> int:
        """Count the configurations in some states among the first `limit`, without those whose key is in `but`."""
        statement = select(func.count()).where(columns.study_id == self.study_id, columns.state.in_(states))
        if but:
            statement = statement.where(columns.key.not_in(but))
        if limit is not None:
            statement = statement.where(columns.rank < limit)
        with self.database.read() as connection:
            return connection.execute(statement).scalar_one()

    def one_finished(self) -> Configuration | None:
        """Return a finished configuration, None if there is none yet."""
        statement = (
            select(columns.key, columns.params)
            .where(columns.study_id == self.study_id, columns.state == State.FINISHED)
            .limit(1)
        )
        with self.database.read() as connection:
            row = connection.execute(statement).first()
            return None if row is None else read_configuration(row.key, row.params)

    def outcome(self, key: str) -> Outcome | None:
        """Return the stored result of a configuration, None if it has none."""
        with self.database.read() as connection:
            row = connection.execute(
                select(configurations).where(columns.study_id == self.study_id, columns.key == key)
            ).first()
            return None if row is None else read_outcome(connection, row)

    def result_of(self, key: str, token: str, trial_id: int) -> tuple[State | None, Outcome | None]:
        """Return the state and the result of a configuration if they belong to this claim and this trial.

        Returns:
            (None, None) if the row has another claim or none, or if its claim has another trial. The latter happens
            where the answer to the creation of a trial was lost and the worker created a second one.
        """
        with self.database.read() as connection:
            row = connection.execute(
                select(configurations).where(
                    columns.study_id == self.study_id,
                    columns.key == key,
                    columns.claim == token,
                    or_(columns.trial_id == trial_id, columns.trial_id.is_(None)),
                )
            ).first()
            return (None, None) if row is None else (State(row.state), read_outcome(connection, row))
