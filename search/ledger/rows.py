"""Results as rows of our tables, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, select

from pairsearch.search.database.column_types import WrongValueError, required
from pairsearch.search.database.states import COVERED, State
from pairsearch.search.database.tables import configurations, curves, folds
from pairsearch.search.ledger.outcome import Outcome, finite
from pairsearch.studies.configuration import Configuration


def read_configuration(key: str, params: str) -> Configuration:
    """The configuration of a row, by its columns `key` and `params`.

    Raises:
        WrongValueError: they do not belong together.
    """
    configuration = Configuration.of_text(params)
    if configuration.key != key:
        raise WrongValueError(configurations.name, "params", "parameters of its key", params, f"key={key!a}")
    return configuration


def read_outcome(connection: Connection, row: sa.Row[Any]) -> Outcome | None:
    """The stored result of a configuration's row, None where it has none."""
    if row.state not in COVERED:
        return None
    required(
        configurations.name, row, "seconds", "provenance", *(["value"] if row.state == State.FINISHED else [])
    )
    points = connection.execute(
        select(curves.c.fold, curves.c.epoch, curves.c.train_loss, curves.c.val_loss, curves.c.val_error)
        .where(curves.c.configuration_id == row.id)
        .order_by(curves.c.fold, curves.c.epoch)
    ).all()
    diverged = connection.execute(
        select(folds.c.diverged_epoch).where(folds.c.configuration_id == row.id).order_by(folds.c.fold)
    ).all()
    ended = tuple(epoch for (epoch,) in diverged)
    # The same epochs of each fold that there is.
    places = {
        (fold, epoch + 1) for fold in range(len(ended)) for epoch in range(len(points) // max(1, len(ended)))
    }
    if not points or {(point.fold, point.epoch) for point in points} != places:
        raise WrongValueError(
            curves.name, "epoch", "point for each fold and epoch", None, f"configuration_id={row.id}"
        )
    return stored_outcome(row, points, ended)


def stored_outcome(
    row: sa.Row[Any], points: Sequence[Sequence[Any]], diverged: tuple[int | None, ...]
) -> Outcome:
    """An `Outcome` from its row and its (fold, epoch, figures ...) points; NULL becomes NaN."""
    import numpy as np  # noqa: PLC0415 - commands that only look start faster without it

    figures = np.array([point[2:] for point in points], dtype=np.float64)
    train_loss, val_loss, val_error = figures.T.reshape(3, len(diverged), -1)
    return Outcome(
        state=State(row.state),
        value=row.value,
        train_loss=train_loss,
        val_loss=val_loss,
        val_error=val_error,
        diverged=diverged,
        seconds=row.seconds,
        reason=row.reason,
        provenance=json.loads(row.provenance),
    )


def fold_rows(row_id: int, outcome: Outcome) -> list[dict[str, object]]:
    """A row of `pairsearch_folds` for each fold."""
    return [
        {
            "configuration_id": row_id,
            "fold": fold,
            "train_loss": finite(outcome.train_loss[fold, -1]),
            "val_loss": finite(outcome.val_loss[fold, -1]),
            "val_error": finite(outcome.val_error[fold, -1]),
            "diverged_epoch": epoch,
        }
        for fold, epoch in enumerate(outcome.diverged)
    ]


def curve_rows(row_id: int, outcome: Outcome) -> list[dict[str, object]]:
    """A row of `pairsearch_curves` for each fold and epoch."""
    count, epochs = outcome.val_loss.shape
    return [
        {
            "configuration_id": row_id,
            "fold": fold,
            "epoch": epoch + 1,
            "train_loss": finite(outcome.train_loss[fold, epoch]),
            "val_loss": finite(outcome.val_loss[fold, epoch]),
            "val_error": finite(outcome.val_error[fold, epoch]),
        }
        for fold in range(count)
        for epoch in range(epochs)
    ]
