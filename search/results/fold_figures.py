"""Reads the figures of folds: for verdicts, for tables of finished studies, and for races."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Connection, select

from pairsearch.search.database.column_types import WrongValueError
from pairsearch.search.database.tables import runs
from pairsearch.search.ledger.rows import read_figures
from pairsearch.search.ledger.studies import StoredStudy

CHUNK = 20_000
"""Rows in memory at a time."""

FoldFigure = tuple[str, str, int, float | None]
"""Key of a configuration, name of a figure, fold, value."""


def fold_figures(
    connection: Connection, study: StoredStudy, *within: ColumnElement[bool]
) -> Iterator[FoldFigure]:
    """Yield the figures of a study's folds after their last epoch, as stored, in no particular order.

    Args:
        within: further conditions on the rows of `runs`.

    Raises:
        WrongValueError: a row has a fold that the study does not have.
    """
    c = runs.c
    statement = select(c.id, c.key, c.run, c.figures).where(c.study_id == study.id, c.kind == "fold", *within)
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        for run_id, key, fold, text in streamed:
            if fold >= study.definition.folds:
                wanted = f"number below {study.definition.folds}"
                raise WrongValueError(runs.name, "run", wanted, fold, f"id={run_id}")
            for figure, value in read_figures(text).items():
                yield key, figure, fold, value
