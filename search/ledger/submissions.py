"""Which workers were submitted to a cluster's engine, so that others can count and end them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update

from pairsearch.search.database.clock import now
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import submissions
from pairsearch.search.ledger.studies import StoredStudy

columns = submissions.c


@dataclass(frozen=True, slots=True)
class Submission:
    """Workers that an engine got together; the columns of `submissions` say what the fields are.

    Args:
        study_ids: of all studies that they work on.
        ended: whether all of them were seen to have ended.
    """

    engine: str
    address: str
    native_id: str
    workers: int
    study_ids: frozenset[int]
    ended: bool = False


def record(database: Database, made: Collection[Submission]) -> None:
    """Store submissions."""
    rows = [
        {name: getattr(one, name) for name in ("engine", "address", "native_id", "workers")}
        | {"study_id": study_id}
        for one in made
        for study_id in sorted(one.study_ids)
    ]
    with database.write() as connection:
        connection.execute(insert(submissions).values(submitted_at=now()), rows)


def submissions_to(database: Database, studies: Sequence[StoredStudy]) -> list[Submission]:
    """Read the submissions to any of these studies, in their order."""
    with database.read() as connection:
        rows = connection.execute(select(submissions).order_by(columns.id)).all()
    found: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows:
        found.setdefault((row.engine, row.address, row.native_id), []).append(row)
    read = [
        Submission(
            *key, same[0].workers, frozenset(row.study_id for row in same), same[0].ended_at is not None
        )
        for key, same in found.items()
    ]
    return [one for one in read if one.study_ids & {study.id for study in studies}]


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
