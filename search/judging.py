"""The verdict of a stored study: reads the figures of its folds and has them judged (`search.verdict`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from search.catalogue import StoredStudy
from search.checked import WrongValueError, required
from search.database import Database
from search.states import State
from search.tables import configurations, folds
from studies.configuration import PARAMETERS, Configuration
from studies.definition import Definition

if TYPE_CHECKING:  # NumPy is imported only where there is something to judge
    from search.verdict import Verdict

# A row of `_read`; releases of SQLAlchemy differ in the type parameters of Row.
FoldRow = Any


@dataclass(frozen=True, slots=True)
class Winner:
    """The finished configuration with the lowest mean of a figure; both are means over folds."""

    configuration: Configuration
    val_loss: float | None
    val_error: float | None


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """The verdict of a study by its metric, and its winners by either figure."""

    study: str
    metric: str
    """`val_loss` or `val_error`: the figure that the verdict is about."""
    protocol: str
    verdict: Verdict | None
    """None while no configuration is finished with a figure in every fold."""
    configurations: dict[str, Configuration]
    """The finished configurations by key."""
    winner_by_loss: Winner | None
    winner_by_error: Winner | None
    open: int
    """Configurations that are still to be trained: while there are any, the verdict is provisional."""

    @property
    def provisional(self) -> bool:
        """Whether configurations are still to be trained."""
        return self.open > 0


def judge_study(
    database: Database, study: StoredStudy, *, alpha: float = 0.05, limit: int | None = None
) -> StudyVerdict:
    """Judge what a study has so far; over its first `limit` configurations where there is a limit.

    What diverged, was pruned or failed has no figures to compare and is counted as excluded. Ties are broken as
    in `search.views.best`: by the study's value, then in the order of the grid.
    """
    by_configuration = _read(database, study, limit)
    ended = [rows for rows in by_configuration if rows[0].state not in (State.PENDING, State.RUNNING)]
    finished = [rows[0] for rows in ended if rows[0].state == State.FINISHED]
    return StudyVerdict(
        study=study.name,
        metric=study.definition.metric,
        protocol=study.definition.protocol,
        verdict=_judge(study.definition, ended, alpha),
        configurations={row.key: _configuration(row) for row in finished},
        winner_by_loss=_lowest(finished, lambda row: row.val_loss),
        winner_by_error=_lowest(finished, lambda row: row.val_error),
        open=len(by_configuration) - len(ended),
    )


def fold_test_fraction(definition: Definition) -> float:
    """Validation pairs over training pairs of a fold."""
    if definition.validation_size is None:
        return 1.0 / (definition.folds - 1)
    return definition.validation_size / (definition.sample_size - definition.validation_size)


def _read(database: Database, study: StoredStudy, limit: int | None) -> list[list[FoldRow]]:
    """The rows of each configuration, one for each fold stored, at least one; by value, then as laid out."""
    c = configurations.c
    statement = (
        select(
            c.id,
            c.key,
            c.state,
            c.value,
            c.val_loss,
            c.val_error,
            c.seconds,
            *(c[name] for name in PARAMETERS),
            folds.c.fold,
            folds.c.val_loss.label("fold_val_loss"),
            folds.c.val_error.label("fold_val_error"),
        )
        .select_from(configurations.outerjoin(folds, folds.c.configuration_id == c.id))
        .where(c.study_id == study.id)
        .order_by(c.value, c.id, folds.c.fold)
    )
    if limit is not None:
        statement = statement.where(c.rank < limit)
    with database.read() as connection:
        rows = connection.execute(statement).all()
        for row in rows:
            if row.state == State.FINISHED:
                required(configurations.name, row, "value", "seconds")
            if row.fold is not None and not 0 <= row.fold < study.definition.folds:
                wanted, where = f"number below {study.definition.folds}", f"configuration_id={row.id}"
                raise WrongValueError(folds.name, "fold", wanted, row.fold, where)
    grouped: dict[int, list[FoldRow]] = {}
    for row in rows:
        grouped.setdefault(row.id, []).append(row)
    return list(grouped.values())


def _judge(definition: Definition, ended: Sequence[Sequence[FoldRow]], alpha: float) -> Verdict | None:
    if not any(rows[0].state == State.FINISHED for rows in ended):
        return None
    import numpy as np  # noqa: PLC0415

    from search.verdict import judge  # noqa: PLC0415

    values = np.full((len(ended), definition.folds), np.nan)
    for index, rows in enumerate(ended):
        # A pruned configuration has figures too, of an earlier epoch.
        if rows[0].state == State.FINISHED:
            for row in rows:
                figure = row.fold_val_loss if definition.metric == "val_loss" else row.fold_val_error
                if row.fold is not None and figure is not None:
                    values[index, row.fold] = figure
    if not np.isfinite(values).all(axis=1).any():
        return None
    first = [rows[0] for rows in ended]
    return judge(
        values,
        [row.key for row in first],
        np.array([row.seconds or 0.0 for row in first]),
        protocol=definition.protocol,
        test_fraction=fold_test_fraction(definition),
        alpha=alpha,
        seed=definition.seed,
        # Within an architecture the number of parameters grows with the hidden units, and with nothing else.
        sizes=[row.hidden_units or 0 for row in first],
    )


def _lowest(finished: Sequence[FoldRow], figure: Callable[[FoldRow], float | None]) -> Winner | None:
    # As in `search.verdict.judge`: the last bits of a mean break no tie.
    known = [(round(value, 12), row) for row in finished if (value := figure(row)) is not None]
    if not known:
        return None
    _, row = min(known, key=lambda pair: pair[0])
    return Winner(_configuration(row), row.val_loss, row.val_error)


def _configuration(row: FoldRow) -> Configuration:
    return Configuration(**{name: getattr(row, name) for name in PARAMETERS})
