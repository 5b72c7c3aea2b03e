"""What the ledger says of the configurations of a study: how many are in a state, and their results."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import JobState, State
from pairsearch.search.database.tables import configurations, failures, jobs
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import read_configuration, read_outcome
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Kind

columns = configurations.c


class StoredConfigurations:
    """The configurations of one study. Each method is one transaction, safe to call from any thread or process.

    Every method raises what `search.database.connection.Database.write` raises.
    """

    def __init__(self, database: Database, study_id: int) -> None:
        self.database = database
        self.study_id = study_id

    def first_traceback(self) -> tuple[str, str] | None:
        """Return key and traceback of the first job, by rank, that is not done and has failed with one."""
        f = failures.c
        statement = (
            select(jobs.c.key, f.traceback)
            .join(jobs, jobs.c.id == f.job_id)
            .where(
                jobs.c.study_id == self.study_id,
                jobs.c.state != JobState.DONE,
                f.traceback.is_not(None),
            )
            .order_by(jobs.c.rank, f.id.desc())
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

    def jobs_left(
        self,
        *states: JobState,
        limit: int | None = None,
        key: str | None = None,
        but: Collection[str] = (),
        kinds: Collection[Kind] = ("fold", "round"),
    ) -> int:
        """Count the jobs in some states, rounds and folds; the arguments select as those of `Ledger.claim` do."""
        of_job = jobs.c
        statement = select(func.count()).where(
            of_job.study_id == self.study_id, of_job.state.in_(states), of_job.kind.in_(kinds)
        )
        if key is not None:
            statement = statement.where(of_job.key == key)
        if but:
            statement = statement.where(of_job.key.not_in(but))
        if limit is not None:
            statement = statement.where(of_job.rank < limit)
        with self.database.read() as connection:
            return connection.execute(statement).scalar_one()
