"""Exports studies, in chunks, from a snapshot of the database: a folder of Parquet tables, or two files of a study."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import csv, parquet
from sqlalchemy import Connection, select

from pairsearch.search.common.errors import InputError
from pairsearch.search.common.files import made_folder, usable_folder, whole_file
from pairsearch.search.common.provenance import package_version
from pairsearch.search.common.redaction import conceal
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, provenances, runs, studies
from pairsearch.search.ledger.incoming import LOADED
from pairsearch.search.ledger.outcome import finite
from pairsearch.search.ledger.rows import MEAN, read_configuration, read_figures
from pairsearch.search.ledger.studies import StoredStudy, merge_choices, seen_by
from pairsearch.search.results.fold_figures import CHUNK, stream
from pairsearch.search.results.study_table import IN_ORDER, OF_RUNS, Curves, mean_curves, read_curves
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
from pairsearch.studies.problem import Metric

TYPES = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}

Row = dict[str, Any]
"""The cells of a row by column; cells that are left out are empty."""


class Exported(NamedTuple):
    """A table that was written."""

    table: str
    path: Path
    rows: int


class JsonWriter:
    """Writes a JSON array with one object per line.

    A missing value is null; a float has as many digits as are needed to read the same bits back.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._between = b"[\n"

    def write_batch(self, batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            self._file.write(self._between + json.dumps(row, ensure_ascii=False, allow_nan=False).encode())
            self._between = b",\n"

    def close(self) -> None:
        self._file.write(b"[]\n" if self._between == b"[\n" else b"\n]\n")


WRITERS: dict[str, Callable[[BinaryIO, pa.Schema], Any]] = {
    "csv": csv.CSVWriter,
    "parquet": partial(
        parquet.ParquetWriter, compression="zstd", compression_level=9, write_statistics=False
    ),
    "json": JsonWriter,
}


def schema(columns: Columns, **facts: str) -> pa.Schema:
    """Return the Arrow schema of a table, with units and meanings of its columns, and facts about it, as metadata."""
    table = columns.table
    fields = [
        pa.field(
            column.name, TYPES[column.kind], metadata={"unit": column.unit, "description": column.meaning}
        )
        for column in table.columns
    ]
    program = f"pairsearch {package_version('pairsearch')}"
    return pa.schema(fields, metadata={"row": table.row, "program": program} | facts)


def write(
    files: ExitStack, path: Path, table: Table, rows: Iterable[Row], described: pa.Schema, kind: str
) -> Exported:
    """Write the rows of a table into a file, which is whole when `files` closes."""
    # Writers are closed also where an error ends the block, while their files are still open.
    writer = files.enter_context(closing(WRITERS[kind](files.enter_context(whole_file(path)), described)))
    count = 0
    for batch in batches(rows, described):
        writer.write_batch(batch)
        count += batch.num_rows
    return Exported(table.name, path, count)


def batches(rows: Iterable[Row], described: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield rows as batches of `CHUNK` rows, some ten megabytes; each becomes a row group of Parquet's."""
    left = iter(rows)
    while chunk := list(itertools.islice(left, CHUNK)):
        yield pa.RecordBatch.from_pylist(chunk, schema=described)


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
        return _stored(connection, study, columns), described
    return _curve_points(read_curves(connection, study, ("fold",)), study, columns), described


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
    if name == ALL_CURVES.name:
        if which == WhichCurves.ALL:
            return _curve_points(read_curves(connection, study, ("fold", "round", MEAN)), study, columns)
        return _curve_points(mean_curves(read_curves(connection, study, ("fold", MEAN))), study, columns)
    if name == STUDIES.name:
        row = connection.execute(select(studies).where(studies.c.id == study.id)).one()
        texts = {column: getattr(row, column) for column in ("definition", "choices", "problem")}
        return [{"study": study.name} | texts | {table: of[study.name] for table, of in counts.items()}]
    return _stored(connection, study, columns, origins)


NAMED = {"configuration": "key", "position": "rank", "fold": "run", "round": "run"}
"""Columns that are called otherwise in the database."""


def _stored(
    connection: Connection, study: StoredStudy, columns: Columns, origins: dict[str, int] | None = None
) -> Iterator[Row]:
    """Yield the rows of a table of configurations or of runs.

    Provenances are numbered in `origins` for a folder, which also has no configuration that a worker holds.
    """
    c, p, of_runs = configurations.c, provenances.c, columns.table.name != CONFIGURATIONS.name
    there = runs.c if of_runs else c
    source: sa.FromClause = OF_RUNS if of_runs else configurations
    order: Sequence[Any] = IN_ORDER if of_runs else (c.rank, c.id)
    names = {column.name: NAMED.get(column.name, column.name) for column in columns.table.columns}
    copied = {name: there[of] for name, of in names.items() if of in there}
    if "provenance" in names:
        copied["provenance"] = p.facts
    statement = (
        select(*copied.values(), c.params, there.figures)
        .select_from(source.join(provenances, p.id == there.provenance_id, isouter=True))
        .where(there.study_id == study.id)
        .order_by(*order)
    )
    if of_runs:
        statement = statement.where(runs.c.kind == columns.table.name.removesuffix("s"))
    for row in stream(connection, statement):
        *cells, params, figures = row
        found: Row = {"study": study.name} | dict(zip(copied, cells, strict=True))
        if found.get("reason") is not None:
            found["reason"] = conceal(found["reason"])
        if origins is not None and "provenance" in found:
            found["provenance"] = _origin(found["provenance"], origins)
            if found.get("state") == State.RUNNING:
                found |= {"state": State.PENDING.value, "worker": None, "started_at": None}
        if not of_runs:
            found |= columns.point(read_configuration(found["configuration"], params).params)
        yield found | columns.values(read_figures(figures))


def _curve_points(of_runs: Iterable[Curves], study: StoredStudy, columns: Columns) -> Iterator[Row]:
    for key, kind, run, read in of_runs:
        # Cells that a table has no column for are left out.
        about: Row = {"study": study.name, "configuration": key, "kind": kind, "run": run, "fold": run}
        for epoch in range(max(map(len, read.values()))):
            points = {name: finite(curve[epoch]) for name, curve in read.items() if epoch < len(curve)}
            yield about | {"epoch": epoch + 1} | columns.values(points)
