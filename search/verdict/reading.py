"""The verdict of a stored study: reads the figures of its folds and has them judged (`search.verdict.judging`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from pairsearch.search.database.column_types import WrongValueError, required
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, folds
from pairsearch.search.ledger.rows import read_configuration
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition

if TYPE_CHECKING:  # NumPy is imported only where there is something to judge
    from pairsearch.search.verdict.judging import Verdict
    from pairsearch.search.verdict.sign_flips import FloatArray

# A configuration's; releases of SQLAlchemy differ in the type parameters of theirs.
Row = Any

CHUNK = 20_000
"""Figures of folds that are held as rows at a time."""


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


@dataclass(frozen=True, slots=True)
class Figures:
    """What a verdict is made from, as the database held it at one moment."""

    study: StoredStudy
    rows: Sequence[Row]
    """Configurations in any state, by value, then as laid out."""
    configurations: Mapping[str, Configuration]
    """Of the rows, by key."""
    values: FloatArray | None
    """(configurations, folds) of the study's metric, NaN where there is none; None where nothing is finished."""


def judge_study(
    database: Database, study: StoredStudy, *, alpha: float = 0.05, limit: int | None = None
) -> StudyVerdict:
    """Judge what a study has so far; over its first `limit` configurations where there is a limit."""
    with database.snapshot() as connection:
        figures = read_figures(connection, study, limit)
    return judge_figures(figures, alpha=alpha)


def judge_figures(
    figures: Figures, *, alpha: float = 0.05, progress: Callable[[float], None] = lambda _: None
) -> StudyVerdict:
    """Judge what was read.

    What diverged, was pruned or failed has no figures to compare and is counted as excluded. Ties are broken as
    in `search.results.ranking.read_best`: by the study's value, then in the order of the grid.

    Args:
        progress: is told which share of the work is done.
    """
    study = figures.study
    ended = [row.state not in (State.PENDING, State.RUNNING) for row in figures.rows]
    finished = [row for row in figures.rows if row.state == State.FINISHED]
    return StudyVerdict(
        study=study.name,
        metric=study.definition.metric,
        protocol=study.definition.protocol,
        verdict=_judge(figures, ended, alpha, progress),
        configurations={row.key: figures.configurations[row.key] for row in finished},
        winner_by_loss=_lowest(figures, finished, lambda row: row.val_loss),
        winner_by_error=_lowest(figures, finished, lambda row: row.val_error),
        open=ended.count(False),
    )


def fold_test_fraction(definition: Definition) -> float:
    """Validation pairs over training pairs of a fold."""
    if definition.validation_size is None:
        return 1.0 / (definition.folds - 1)
    return definition.validation_size / (definition.sample_size - definition.validation_size)


def read_figures(connection: Connection, study: StoredStudy, limit: int | None = None) -> Figures:
    """Read what a verdict is made from; over the first `limit` configurations where there is a limit."""
    c = configurations.c
    within = [c.study_id == study.id]
    if limit is not None:
        within.append(c.rank < limit)
    names = ("id", "key", "params", "state", "value", "val_loss", "val_error", "seconds")
    rows = connection.execute(
        select(*(c[name] for name in names)).where(*within).order_by(c.value, c.id)
    ).all()
    finished = [row for row in rows if row.state == State.FINISHED]
    for row in finished:
        required(configurations.name, row, "value", "seconds")
    points = {row.key: read_configuration(row.key, row.params) for row in rows}
    if not finished:
        return Figures(study, rows, points, None)
    import numpy as np  # noqa: PLC0415

    values = np.full((len(rows), study.definition.folds), np.nan)
    places = {row.id: place for place, row in enumerate(rows)}
    # A pruned configuration has figures too, of an earlier epoch.
    figure = folds.c[study.definition.metric]
    statement = (
        select(folds.c.configuration_id, folds.c.fold, figure)
        .select_from(configurations.join(folds, folds.c.configuration_id == c.id))
        .where(*within, c.state == State.FINISHED, figure.is_not(None))
    )
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        for chunk in streamed.partitions():
            for row_id, fold, value in chunk:
                if not 0 <= fold < study.definition.folds:
                    wanted, where = f"number below {study.definition.folds}", f"configuration_id={row_id}"
                    raise WrongValueError(folds.name, "fold", wanted, fold, where)
                values[places[row_id], fold] = value
    return Figures(study, rows, points, values)


def _judge(
    figures: Figures, ended: Sequence[bool], alpha: float, progress: Callable[[float], None]
) -> Verdict | None:
    if figures.values is None:
        return None
    import numpy as np  # noqa: PLC0415

    from pairsearch.search.verdict.judging import judge  # noqa: PLC0415

    values = figures.values[np.array(ended)]
    if not np.isfinite(values).all(axis=1).any():
        return None
    rows = [row for row, over in zip(figures.rows, ended, strict=True) if over]
    definition = figures.study.definition
    return judge(
        values,
        [row.key for row in rows],
        np.array([row.seconds or 0.0 for row in rows]),
        protocol=definition.protocol,
        test_fraction=fold_test_fraction(definition),
        alpha=alpha,
        seed=definition.seed,
        # Within an architecture the number of parameters grows with the hidden units, and with nothing else.
        sizes=[_size(figures.configurations[row.key]) for row in rows],
        progress=progress,
    )


def _lowest(
    figures: Figures, finished: Sequence[Row], figure: Callable[[Row], float | None]
) -> Winner | None:
    # As in `search.verdict.judging.judge`: the last bits of a mean break no tie.
    known = [(round(value, 12), row) for row in finished if (value := figure(row)) is not None]
    if not known:
        return None
    _, row = min(known, key=lambda pair: pair[0])
    return Winner(figures.configurations[row.key], row.val_loss, row.val_error)


def _size(configuration: Configuration) -> float:
    units = configuration.params.get("hidden_units", 0)
    return units if isinstance(units, int | float) else 0


def telling(step: str, tell: Callable[[str], None]) -> Callable[[float], None]:
    """What takes the share of a step that is done, and tells it."""
    return lambda share: tell(f"{step}: {share:.0%}")
