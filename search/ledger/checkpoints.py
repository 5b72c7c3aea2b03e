"""Checkpoints of runs that are not stored yet: each run has the last one, and none once it is stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from pairsearch.search.database.clock import now
from pairsearch.search.database.tables import checkpoints, jobs
from pairsearch.search.ledger.outcome import finite
from pairsearch.search.ledger.rows import read_points

columns = checkpoints.c


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint, saved after an epoch.

    Args:
        curves: one number per epoch for each figure, up to that epoch; NaN where a figure was not reported.
        seconds: time of the training up to there.
        content: the state (`studies.checkpoint_file`); empty where a file has it.
        file: name of that file, in a folder that workers share; None where there is none.
    """

    epoch: int
    curves: Mapping[str, Sequence[float]]
    seconds: float
    content: bytes
    file: str | None = None


def _of(study_id: int, key: str, kind: str, runs: Collection[int]) -> ColumnElement[bool]:
    return and_(columns.study_id == study_id, columns.key == key, columns.kind == kind, columns.run.in_(runs))


def find_checkpoint(connection: Connection, study_id: int, key: str, kind: str, run: int) -> Kept | None:
    """Return the checkpoint of a run, None if it has none."""
    row = connection.execute(select(checkpoints).where(_of(study_id, key, kind, [run]))).first()
    if row is None:
        return None
    curves = {name: read_points(points) for name, points in json.loads(row.curves).items()}
    return Kept(row.epoch, curves, row.seconds, bytes(row.content or b""), row.file)


def put_checkpoint(connection: Connection, study_id: int, key: str, kind: str, run: int, kept: Kept) -> None:
    """Store the checkpoint of a run in place of an earlier one."""
    drop_checkpoints(connection, study_id, key, kind, [run])
    of_run = {"study_id": study_id, "key": key, "kind": kind, "run": run}
    curves = {name: [finite(point) for point in curve] for name, curve in kept.curves.items()}
    content = kept.content if kept.file is None else None
    state = {"curves": json.dumps(curves), "seconds": kept.seconds, "content": content, "file": kept.file}
    connection.execute(insert(checkpoints).values(**of_run, **state, epoch=kept.epoch, saved_at=now()))


def drop_checkpoints(
    connection: Connection, study_id: int, key: str, kind: str, runs: Collection[int]
) -> None:
    """Delete the checkpoints of runs."""
    connection.execute(delete(checkpoints).where(_of(study_id, key, kind, runs)))


def drop_checkpoints_of(connection: Connection, which: ColumnElement[bool]) -> None:
    """Delete the checkpoints of the runs of some jobs, which are given as a condition on `jobs`."""
    c = jobs.c
    theirs = select(c.id).where(
        which,
        c.study_id == columns.study_id,
        c.key == columns.key,
        c.kind == columns.kind,
        columns.run.between(c.first, c.first + c.count - 1),
    )
    connection.execute(delete(checkpoints).where(theirs.exists()))
