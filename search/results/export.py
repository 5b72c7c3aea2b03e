"""Exports studies, in chunks, from a snapshot of the database: a folder of Parquet tables, or two files of a study."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import Connection, Select, and_, case, func, select

from pairsearch.search.common.errors import InputError
from pairsearch.search.common.files import made_folder, usable_folder
from pairsearch.search.common.redaction import conceal
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, curves, provenances, runs, studies
from pairsearch.search.ledger.incoming import LOADED
from pairsearch.search.ledger.outcome import finite
from pairsearch.search.ledger.rows import MEAN, read_configuration, read_curve, read_figures, read_points
from pairsearch.search.ledger.studies import StoredStudy, merge_choices, seen_by
from pairsearch.search.results.study_table import mean_curve
from pairsearch.search.results.tables import (
    ALL_CURVES,
    CONFIGURATIONS,
    FOLDER,
    FORMAT,
    PROVENANCE,
    ROUNDS,
    SHORT,
    STUDIES,
    Choices,
    Columns,
    Table,
)
from pairsearch.search.results.writers import CHUNK, WRITERS, Exported, Row, batches, schema, write
from pairsearch.studies.definition import LARGEST
from pairsearch.studies.problem import Metric


class WhichCurves(StrEnum):
    """The curves of an export."""

    ALL = "all"
    MEAN = "mean"
    """Of each configuration the mean over its folds alone."""


def layout(table: Table, of: Iterable[StoredStudy]) -> Columns:
    """Return a table with the columns of some studies; a name that several have is described as in the first."""
    choices: Choices = {}
    metrics: dict[str, Metric] = {}
    for study in of:
        choices = merge_choices(choices, study.choices)
        of_study = study.traits.metrics if table in (ROUNDS, ALL_CURVES) else study.traits.of_folds
        metrics |= {name: metric for name, metric in of_study.items() if name not in metrics}
    return Columns.of(table, choices, metrics)


def export(database: Database, study: StoredStudy, kind: str, folder: Path) -> list[Exported]:
    """Write a study in short, `STUDY-configurations` and `STUDY-curves`; both files or none.

    Args:
        kind: the format, a key of `WRITERS`; also the ending of the files.
        folder: made at need; files of these names in it are replaced.
    """
    if kind not in WRITERS:
        raise InputError(f"unknown format {kind!a}: expected one of {', '.join(WRITERS)}")
    usable_folder(folder)
    with database.snapshot() as connection, ExitStack() as files:
        paths = {table: made_folder(folder) / f"{study.name}-{table.name}.{kind}" for table in SHORT}
        return [
            write(files, path, table, *_short(connection, study, table), kind)
            for table, path in paths.items()
        ]


def read_table(database: Database, study: StoredStudy, table: Table) -> pa.Table:
    """Read a table of the short form into memory, from a snapshot of the database."""
    with database.snapshot() as connection:
        rows, described = _short(connection, study, table)
        return pa.Table.from_batches(batches(rows, described), described)


def _short(connection: Connection, study: StoredStudy, table: Table) -> tuple[Iterator[Row], pa.Schema]:
    columns = layout(table, [study])
    described = schema(
        columns,
        study=study.name,
        definition=study.definition.model_dump_json(),
        problem=json.dumps(study.traits.to_json()),
    )
    if table is CONFIGURATIONS:
        return _configurations(connection, study, columns), described
    return _curve_points(_curves(connection, study, ("fold",)), study, columns), described


def export_folder(
    database: Database, given: Sequence[StoredStudy], folder: Path, which: WhichCurves = WhichCurves.ALL
) -> list[Exported]:
    """Write studies as a folder of Parquet tables, from which `load` makes them again; all files or none.

    The same results give the same bytes with the same version of Arrow. A configuration that is being trained is
    pending there.

    Args:
        folder: made at need; tables in it are replaced.
    """
    usable_folder(folder)
    written = []
    counts = {table.name: Counter[str]() for table in FOLDER}
    origins: dict[str, int] = {}
    with database.snapshot() as connection, ExitStack() as files:
        of = [seen_by(connection, study) for study in given]
        for table in FOLDER:
            columns = layout(table, of)
            rows: Iterable[Row]
            if table is PROVENANCE:
                rows = ({"provenance": number, "facts": text} for text, number in origins.items())
            else:
                rows = itertools.chain.from_iterable(
                    _folder_rows(connection, study, columns, origins, which, counts) for study in of
                )
            path, counted = made_folder(folder) / f"{table.name}.parquet", _counted(rows, counts[table.name])
            described = schema(columns, format=FORMAT)
            written.append(write(files, path, table, counted, described, "parquet"))
    return written


def _counted(rows: Iterable[Row], counts: Counter[str]) -> Iterator[Row]:
    """Count the rows of each study as they go by."""
    for row in rows:
        counts[row.get("study", "")] += 1
        yield row


def _origin(text: str | None, numbers: dict[str, int]) -> int | None:
    """Return the number of a provenance, None for none; the texts are numbered in the order in which they come.

    Where a result was loaded from says something about this database, and nothing about the result.
    """
    if text is None:
        return None
    facts = {name: value for name, value in json.loads(text).items() if name != LOADED}
    return numbers.setdefault(json.dumps(facts), len(numbers))


def _folder_rows(
    connection: Connection,
    study: StoredStudy,
    columns: Columns,
    origins: dict[str, int],
    which: WhichCurves,
    counts: Mapping[str, Counter[str]],
) -> Iterable[Row]:
    name = columns.table.name
    if name == CONFIGURATIONS.name:
        return _settled(_configurations(connection, study, columns), origins)
    if name == ALL_CURVES.name:
        if which == WhichCurves.ALL:
            return _curve_points(_curves(connection, study, ("fold", "round", MEAN)), study, columns)
        return _curve_points(_mean_curves(_curves(connection, study, ("fold", MEAN))), study, columns)
    if name == STUDIES.name:
        row = connection.execute(select(studies).where(studies.c.id == study.id)).one()
        texts = {column: getattr(row, column) for column in ("definition", "choices", "problem")}
        return [{"study": study.name} | texts | {table: of[study.name] for table, of in counts.items()}]
    return _runs(connection, study, columns, origins)


def _stream(connection: Connection, statement: Select[Any]) -> Iterator[Any]:
    # `yield_per` opens a server-side cursor on PostgreSQL; SQLite returns rows one by one anyway.
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        yield from streamed


NAMED = {"configuration": "key", "position": "rank", "fold": "run", "round": "run"}
"""Columns that are called otherwise in the database."""


def _copied(table: Table, there: sa.Table) -> dict[str, sa.Column[Any]]:
    """Return the columns of a table of the database, with its provenance, by the columns that are copied from them."""
    names = {column.name: NAMED.get(column.name, column.name) for column in table.columns}
    found = {name: there.c[of] for name, of in names.items() if of in there.c}
    return found | ({"provenance": provenances.c.facts} if "provenance" in names else {})


def _configurations(connection: Connection, study: StoredStudy, columns: Columns) -> Iterator[Row]:
    stored = _copied(CONFIGURATIONS, configurations)
    statement = (
        select(*stored.values(), configurations.c.params, configurations.c.figures)
        .join(provenances, provenances.c.id == configurations.c.provenance_id, isouter=True)
        .where(configurations.c.study_id == study.id)
        .order_by(configurations.c.rank, configurations.c.id)
    )
    for row in _stream(connection, statement):
        *cells, params, figures = row
        found = dict(zip(stored, cells, strict=True))
        if found["reason"] is not None:
            found["reason"] = conceal(found["reason"])
        params = read_configuration(found["configuration"], params).params
        yield {"study": study.name} | found | columns.point(params) | columns.values(read_figures(figures))


def _settled(rows: Iterable[Row], origins: dict[str, int]) -> Iterator[Row]:
    """Give back what workers hold, which says something about this moment only; number the provenance."""
    for row in rows:
        held = row["state"] == State.RUNNING
        free = {"state": State.PENDING.value, "worker": None, "started_at": None} if held else {}
        yield row | free | {"provenance": _origin(row["provenance"], origins)}


# Rounds may be of configurations beyond the grid, which come last, as they came into the database.
_OF_RUNS = runs.join(
    configurations,
    and_(configurations.c.study_id == runs.c.study_id, configurations.c.key == runs.c.key),
    isouter=True,
)
_ORDER = (
    func.coalesce(configurations.c.rank, LARGEST),
    case((configurations.c.id.is_(None), runs.c.id), else_=configurations.c.id),
    runs.c.kind,
    runs.c.run,
)


def _runs(
    connection: Connection, study: StoredStudy, columns: Columns, origins: dict[str, int]
) -> Iterator[Row]:
    stored = _copied(columns.table, runs)
    statement = (
        select(*stored.values(), runs.c.figures)
        .select_from(_OF_RUNS.join(provenances, provenances.c.id == runs.c.provenance_id, isouter=True))
        .where(runs.c.study_id == study.id, runs.c.kind == columns.table.name.removesuffix("s"))
        .order_by(*_ORDER)
    )
    for row in _stream(connection, statement):
        *cells, figures = row
        found = {"study": study.name} | dict(zip(stored, cells, strict=True))
        if "provenance" in found:
            found["provenance"] = _origin(found["provenance"], origins)
        yield found | columns.values(read_figures(figures))


Curves = tuple[str, str, int, Mapping[str, Sequence[float]]]
"""Key of a configuration, kind and number of a run, and its figures by epoch, by name; NaN where one was not finite."""


def _curves(connection: Connection, study: StoredStudy, kinds: Sequence[str]) -> Iterator[Curves]:
    c = runs.c
    statement = (
        select(c.id, c.key, c.kind, c.run, c.epochs, curves.c.figure, curves.c.points)
        .select_from(_OF_RUNS.join(curves, curves.c.run_id == c.id))
        .where(c.study_id == study.id, c.kind.in_(kinds))
        .order_by(*_ORDER, c.id)
    )
    for _, rows in itertools.groupby(_stream(connection, statement), key=lambda row: row.id):
        of_run = list(rows)
        read = {row.figure: read_curve(row.id, row.points, row.epochs) for row in of_run}
        yield of_run[0].key, of_run[0].kind, of_run[0].run, read


def _mean_curves(of_runs: Iterable[Curves]) -> Iterator[Curves]:
    """Reduce the curves of folds to their means; those that are means already stay as they are."""
    for key, group in itertools.groupby(of_runs, key=lambda one: one[0]):
        several = list(group)
        if stored := [one for one in several if one[1] == MEAN]:
            yield stored[0]
            continue
        of_folds = [read for *_, read in several]
        names = dict.fromkeys(name for read in of_folds for name in read)
        means = {name: read_points(mean_curve([read.get(name, ()) for read in of_folds])) for name in names}
        yield key, MEAN, 0, means


def _curve_points(of_runs: Iterable[Curves], study: StoredStudy, columns: Columns) -> Iterator[Row]:
    for key, kind, run, read in of_runs:
        # Cells that a table has no column for are left out.
        about: Row = {"study": study.name, "configuration": key, "kind": kind, "run": run, "fold": run}
        for epoch in range(max(map(len, read.values()))):
            points = {name: finite(curve[epoch]) for name, curve in read.items() if epoch < len(curve)}
            yield about | {"epoch": epoch + 1} | columns.values(points)
