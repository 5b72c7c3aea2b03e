"""Which workers were submitted to a cluster's engine, so that others can count and end them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import submissions
from pairsearch.search.ledger.studies import StoredStudy

columns = submissions.c


@dataclass(frozen=True, slots=True)
class Submission:
    """Workers that an engine got together.

    Args:
        engine: its name, as `--on` takes it.
        address: where it is; empty for its usual place.
        native_id: what the engine calls them.
        workers: how many they are.
    """

    engine: str
    address: str
    native_id: str
    workers: int


def record(
    database: Database,
    studies: Sequence[StoredStudy],
    engine: str,
    address: str,
    ids: Mapping[str, int],
) -> None:
    """Store the submission of workers to studies; `ids` has how many belong to each native id."""
    rows = [
        {"study_id": study.id, "engine": engine, "address": address, "native_id": native, "workers": workers}
        for study in studies
        for native, workers in ids.items()
    ]
    with database.write() as connection:
        connection.execute(insert(submissions), [row | {"submitted_at": now()} for row in rows])


def open_submissions(database: Database, studies: Sequence[StoredStudy]) -> list[Submission]:
    """Read the submissions to any of these studies that nobody has seen ended, in their order."""
    statement = (
        select(columns.engine, columns.address, columns.native_id, columns.workers)
        .where(columns.study_id.in_([study.id for study in studies]), columns.ended_at.is_(None))
        .order_by(columns.id)
    )
    with database.read() as connection:
        return list(dict.fromkeys(Submission(*row) for row in connection.execute(statement).all()))


def close(database: Database, ended: Collection[Submission]) -> None:
    """Note that all workers of submissions have ended."""
    with database.write() as connection:
        for one in ended:
            connection.execute(
                update(submissions)
                .where(
                    columns.engine == one.engine,
                    columns.address == one.address,
                    columns.native_id == one.native_id,
                    columns.ended_at.is_(None),
                )
                .values(ended_at=now())
            )
