"""Reads the rows of the published tables from a complete database, in a fixed order, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import configurations
from pairsearch.search.errors import StudyError
from pairsearch.search.evaluation import evaluating
from pairsearch.search.evaluation.evaluating import TableRow
from pairsearch.search.evaluation.rounds import missing_rounds
from pairsearch.search.ledger.outcome import Outcome, RunResult
from pairsearch.search.ledger.rows import read_configuration, read_outcome
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.redaction import conceal
from pairsearch.search.results.evaluations import Round, rounds_within
from pairsearch.search.results.progress import read_progress
from pairsearch.search.results.published_columns import Columns, Layout, layout
from pairsearch.search.results.study_table import mean_curve

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Work:
    """The training of a configuration or of one round; times are seconds since 1970, UTC."""

    worker: str
    started: float | None
    """None for a round, whose start is not stored."""
    finished: float
    seconds: float
    origin: dict[str, str]
    """Its provenance (`search.provenance`)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that is published of a database."""

    studies: tuple[StoredStudy, ...]
    table_1: tuple[TableRow, ...]
    layout: Layout
    folds: Rows = field(default_factory=list)
    curves: Rows = field(default_factory=list)
    rounds: Rows = field(default_factory=list)
    work: list[Work] = field(default_factory=list)


def final_figures(run: RunResult, columns: Columns) -> dict[str, Any]:
    """Return the cells with the figures of a fold or round after its last epoch; None for one that is not finite."""
    return columns.values(run.final) | {"diverged_epoch": run.diverged}


def fold_figures(outcome: Outcome, columns: Columns) -> Rows:
    """Return a row with the final figures for each fold, in their order."""
    return [{"fold": fold.index} | final_figures(fold, columns) for fold in outcome.folds]


def mean_curves(outcome: Outcome, columns: Columns) -> Rows:
    """Return a row with the means over folds for each epoch; None where a fold has no finite figure."""
    curves = {
        name: mean_curve([fold.curves.get(name, ()) for fold in outcome.folds]) for name in columns.figures
    }
    return [
        {"epoch": epoch + 1}
        | columns.values({name: one[epoch] if epoch < len(one) else None for name, one in curves.items()})
        for epoch in range(max(fold.epochs for fold in outcome.folds))
    ]


def read(database: Database, names: Sequence[str]) -> Reading:
    """Read complete studies, in the order of `names`, with configurations in grid order.

    Raises:
        StudyError: a study is unknown or not complete, or two studies differ in problem, version of it, or data.
    """
    studies = [get_study(database, name) for name in dict.fromkeys(names)]
    for study in studies:
        _check_one_kind(studies[0], study)
    chosen = [choice for study in studies for choice in _chosen(database, study)]
    table_1 = [
        evaluating.table_row(database, choice, one) for choice in chosen for one in choice.configurations
    ]
    with database.snapshot() as connection:
        rounds = {study.name: rounds_within(connection, study) for study in studies}
        reported = {name for of_study in rounds.values() for one in of_study for name in one.figures}
        metrics = dict.fromkeys(name for study in studies for name in study.traits.metrics)
        tables = layout(
            [study.definition for study in studies],
            [study.traits for study in studies],
            [name for name in metrics if name in reported],
        )
        reading = Reading(tuple(studies), tuple(table_1), tables)
        for study in studies:
            by = {
                choice.by: {one.key for one in choice.configurations}
                for choice in chosen
                if choice.study == study
            }
            _read_search(connection, study, reading)
            _read_rounds(rounds[study.name], study, by, reading)
    return reading


def _check_one_kind(first: StoredStudy, study: StoredStudy) -> None:
    for what, one, other in (
        ("problem", first.definition.problem, study.definition.problem),
        ("version of the problem", first.traits.version, study.traits.version),
        ("data", first.traits.fingerprint, study.traits.fingerprint),
    ):
        if one != other:
            raise StudyError(
                f"studies {first.name} and {study.name} belong to another {what} each ({one} and {other}): publish "
                "them by themselves"
            )


def _chosen(database: Database, study: StoredStudy) -> list[evaluating.Chosen]:
    """Return the configurations of Table 1.

    Raises:
        StudyError: the study is not complete, or rounds are missing.
    """
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
    columns, tables = configurations.c, reading.layout
    rows = connection.execute(select(configurations).where(columns.study_id == study.id)).all()
    points = {row.key: read_configuration(row.key, row.params) for row in rows}
    places = {one.key: place for place, one in enumerate(study.definition.grid.configurations())}
    for row in sorted(rows, key=lambda row: places[row.key]):
        outcome = read_outcome(connection, row)
        origin = dict(outcome.provenance) if outcome is not None else {}
        common = {"study": study.name, "configuration": row.key}
        about = tables.folds.point(points[row.key].params) | {
            "state": row.state,
            "seconds": row.seconds,
            "reason": None if row.reason is None else conceal(row.reason),
            "processor": origin.get("processor"),
        }
        # A failed configuration has a row for each fold too, so that missing results are visible.
        figures: Rows = [{"fold": fold} for fold in range(study.definition.folds)]
        if outcome is not None:
            figures = fold_figures(outcome, tables.folds)
            reading.curves.extend(common | one for one in mean_curves(outcome, tables.curves))
            reading.work.append(Work(row.worker, row.started_at, row.finished_at, row.seconds, origin))
        reading.folds.extend(common | about | one for one in figures)


def _read_rounds(
    rounds: Sequence[Round], study: StoredStudy, by: dict[Any, set[str]], reading: Reading
) -> None:
    order = {
        one["configuration"]: place for place, one in enumerate(reading.folds) if one["study"] == study.name
    }
    for one in sorted(rounds, key=lambda one: (order.get(one.key, -1), one.key, one.index)):
        names = [name for name, keys in by.items() if one.key in keys] or ["other"]
        reading.rounds.append(
            {"study": study.name, "configuration": one.key, "round": one.index}
            | reading.layout.rounds.values(one.figures)
            | {
                "diverged_epoch": one.diverged,
                "seconds": one.seconds,
                "processor": one.provenance.get("processor"),
            }
            | {"chosen_by": "both" if len(names) > 1 else names[0]}
        )
        reading.work.append(Work(one.worker, None, one.finished_at, one.seconds, dict(one.provenance)))
