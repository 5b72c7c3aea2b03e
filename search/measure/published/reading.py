"""Reads a complete database into the rows of the published tables, in a fixed order, with the work behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from sqlalchemy import Connection, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import configurations, rounds
from pairsearch.search.errors import StudyError
from pairsearch.search.evaluation import evaluating
from pairsearch.search.evaluation.evaluating import TableRow
from pairsearch.search.evaluation.rounds import missing_rounds
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import fold_rows, read_configuration, read_outcome
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.measure.published.columns import CURVE_FIGURES, FOLD_FIGURES, ROUND_FIGURES
from pairsearch.search.redaction import conceal
from pairsearch.search.results.progress import read_progress
from pairsearch.studies.definition import PARAMETERS

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work: a configuration's training, or one round; times are seconds since 1970, UTC."""

    worker: str
    started: float | None
    """None for a round, of which only the end is known."""
    finished: float
    seconds: float
    origin: dict[str, str]
    """Its provenance (`search.provenance`)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is published of a database."""

    studies: tuple[StoredStudy, ...]
    table_1: tuple[TableRow, ...]
    folds: Rows = field(default_factory=list)
    curves: Rows = field(default_factory=list)
    rounds: Rows = field(default_factory=list)
    work: list[Work] = field(default_factory=list)


def fold_figures(outcome: Outcome) -> Rows:
    """The final figures of each fold, in their order; None where one is not finite."""
    return [{name: row[name] for name in ("fold", *FOLD_FIGURES)} for row in fold_rows(0, outcome)]


def mean_curves(outcome: Outcome) -> Rows:
    """The means over folds of each epoch; None where a fold has no finite figure.

    Their sum is rounded once, whatever the order (`math.fsum`), so that the bits depend on the figures alone.
    """
    return [
        {"epoch": epoch + 1}
        | {name: _mean(getattr(outcome, name)[:, epoch].tolist()) for name in CURVE_FIGURES}
        for epoch in range(outcome.val_loss.shape[1])
    ]


def _mean(figures: Sequence[float]) -> float | None:
    return fmean(figures) if all(map(math.isfinite, figures)) else None


def read(database: Database, names: Sequence[str]) -> Reading:
    """Read complete studies in the order of their names, configurations in the order of their numbers.

    Raises:
        StudyError: a study is unknown or not complete, or two belong to different data or training versions.
    """
    studies = [get_study(database, name) for name in dict.fromkeys(names)]
    for study in studies:
        _check_one_kind(studies[0], study)
    chosen = [choice for study in studies for choice in _chosen(database, study)]
    reading = Reading(
        tuple(studies),
        tuple(
            evaluating.table_row(database, choice, one) for choice in chosen for one in choice.configurations
        ),
    )
    with database.read() as connection:
        for study in studies:
            by = {
                choice.by: {one.key for one in choice.configurations}
                for choice in chosen
                if choice.study == study
            }
            _read_search(connection, study, reading)
            _read_rounds(connection, study, by, reading)
    return reading


def _check_one_kind(first: StoredStudy, study: StoredStudy) -> None:
    for what, name in (("data", "source_fingerprint"), ("training version", "training_version")):
        if getattr(first, name) != getattr(study, name):
            raise StudyError(
                f"studies {first.name} and {study.name} belong to another {what} each ({getattr(first, name)} and "
                f"{getattr(study, name)}): publish them by themselves"
            )


def _chosen(database: Database, study: StoredStudy) -> list[evaluating.Chosen]:
    """The configurations whose rounds make Table 1: all of them stored."""
    if left := read_progress(database, study).open:
        raise StudyError(
            f"study {study.name} is not complete: {left} configurations are still to be trained: run it to its end"
        )
    by: tuple[tuple[Any, bool], ...] = (("search", False), ("paper", True))
    chosen = [
        evaluating.Chosen(
            name, study, evaluating.configurations_to_evaluate(database, study, top=1, paper=paper)
        )
        for name, paper in by
        if not paper or study.definition.paper is not None
    ]
    wanted = study.definition.evaluation.rounds
    for choice in chosen:
        for one in choice.configurations:
            if missing := missing_rounds(database, study, one, wanted):
                option = " --paper" if choice.by == "paper" else ""
                raise StudyError(
                    f"study {study.name} is not complete: {len(missing)} of {wanted} rounds of {one.key} are missing: "
                    f"`pairsearch evaluate {study.name}{option}` trains them"
                )
    return chosen


def _read_search(connection: Connection, study: StoredStudy, reading: Reading) -> None:
    columns = configurations.c
    rows = connection.execute(select(configurations).where(columns.study_id == study.id)).all()
    points = {row.key: read_configuration(row.key, row.params).params for row in rows}
    for row in sorted(rows, key=lambda row: [points[row.key].get(name, 0) for name in PARAMETERS]):
        outcome = read_outcome(connection, row)
        origin = dict(outcome.provenance) if outcome is not None else {}
        common = {"study": study.name, "configuration": row.key}
        about = (
            dict.fromkeys(PARAMETERS) | dict(points[row.key]) | {"state": row.state, "seconds": row.seconds}
        )
        about["reason"] = None if row.reason is None else conceal(row.reason)
        about["processor"] = origin.get("processor")
        # What failed has a row for each fold too, so that its absence shows.
        figures = (
            [{"fold": k} for k in range(study.definition.folds)] if outcome is None else fold_figures(outcome)
        )
        reading.folds.extend(common | about | one for one in figures)
        if outcome is not None:
            reading.curves.extend(common | one for one in mean_curves(outcome))
            reading.work.append(Work(row.worker, row.started_at, row.finished_at, row.seconds, origin))


def _read_rounds(
    connection: Connection, study: StoredStudy, by: dict[Any, set[str]], reading: Reading
) -> None:
    columns = rounds.c
    found = connection.execute(select(rounds).where(columns.study_id == study.id)).all()
    order = {
        one["configuration"]: place for place, one in enumerate(reading.folds) if one["study"] == study.name
    }
    for row in sorted(found, key=lambda row: (order.get(row.key, -1), row.key, row.round)):
        origin = json.loads(row.provenance)
        names = [name for name, keys in by.items() if row.key in keys] or ["other"]
        reading.rounds.append(
            {"study": study.name, "configuration": row.key, "round": row.round}
            | {name: getattr(row, name) for name in (*ROUND_FIGURES, "seconds")}
            | {"processor": origin.get("processor"), "chosen_by": "both" if len(names) > 1 else names[0]}
        )
        reading.work.append(Work(row.worker, None, row.finished_at, row.seconds, origin))
