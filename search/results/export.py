"""Exports a study's configurations and curves as CSV, Parquet or JSON, in chunks, from a snapshot of the database."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
from pyarrow import csv, parquet
from sqlalchemy import ColumnElement, Connection, Select, and_, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import configurations, curves, metadata, runs, studies
from pairsearch.search.errors import InputError
from pairsearch.search.files import made_folder, usable_folder, whole_file
from pairsearch.search.ledger.outcome import finite
from pairsearch.search.ledger.rows import read_configuration, read_curve, read_figures
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.provenance import package_version
from pairsearch.search.results.export_columns import (
    CONFIGURATIONS,
    CURVES,
    FIGURES,
    PARAMETERS,
    TABLES,
    ColumnTable,
    ExportTable,
    mixed,
    of_study,
)

# Rows in memory at a time, and rows of a Parquet row group: some ten megabytes.
CHUNK = 20_000

TYPES = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}


@dataclass(frozen=True, slots=True)
class Exported:
    """One exported file."""

    table: str
    path: Path
    rows: int


class Writer(Protocol):
    """Writes the batches of one table in their order."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write the end of the format; the file itself stays open."""


class JsonWriter:
    """Writes a JSON array with one object per line.

    A missing value is null; a float has as many digits as are needed to read the same bits back.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._between = b"[\n"

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        for row in batch.to_pylist():
            self._file.write(self._between + json.dumps(row, ensure_ascii=False, allow_nan=False).encode())
            self._between = b",\n"

    def close(self) -> None:
        """Close the array."""
        self._file.write(b"[]\n" if self._between == b"[\n" else b"\n]\n")


WRITERS: dict[str, Callable[[BinaryIO, pa.Schema], Writer]] = {
    "csv": csv.CSVWriter,
    "parquet": parquet.ParquetWriter,
    "json": JsonWriter,
}


def fields(table: ColumnTable) -> list[pa.Field]:
    """Return the Arrow fields of a table, with units and meanings as metadata."""
    return [
        pa.field(
            column.name, TYPES[column.kind], metadata={"unit": column.unit, "description": column.meaning}
        )
        for column in table.columns
    ]


def schema(table: ExportTable, study: StoredStudy) -> pa.Schema:
    """Return the Arrow schema of a table, with a description of the study as metadata."""
    facts = {
        "study": study.name,
        "row": table.row,
        "definition": study.definition.model_dump_json(),
        "problem": json.dumps(study.traits.to_json()),
        "program": f"pairsearch {package_version('pairsearch')}",
    }
    return pa.schema(fields(of_study(table, study.choices, study.traits.of_folds)), metadata=facts)


def export(database: Database, study: StoredStudy, kind: str, folder: Path) -> list[Exported]:
    """Write one file for each table, `STUDY-configurations` and `STUDY-curves`; all of them or none.

    Args:
        kind: the format, a key of `WRITERS`; also the ending of the files.
        folder: where to write; files of these names are replaced.

    Raises:
        InputError: the format is unknown, or the folder is not writable and cannot be made.
        WorkError: writing failed.
    """
    writer = WRITERS.get(kind)
    if writer is None:
        raise InputError(f"unknown format {kind!a}: expected one of {', '.join(WRITERS)}")
    usable_folder(folder)
    written = []
    with database.snapshot() as connection, ExitStack() as files:
        for table in TABLES:
            path = made_folder(folder) / f"{study.name}-{table.name}.{kind}"
            file = files.enter_context(whole_file(path))
            written.append(Exported(table.name, path, _write(connection, study, table, writer, file)))
    return written


def _write(
    connection: Connection,
    study: StoredStudy,
    table: ExportTable,
    writer: Callable[[BinaryIO, pa.Schema], Writer],
    file: BinaryIO,
) -> int:
    sink, count = writer(file, schema(table, study)), 0
    for batch in batches(connection, study, table):
        sink.write_batch(batch)
        count += batch.num_rows
    sink.close()
    return count


def read_table(database: Database, study: StoredStudy, table: ExportTable) -> pa.Table:
    """Read a table of an export into memory, from a snapshot of the database."""
    with database.snapshot() as connection:
        return pa.Table.from_batches(batches(connection, study, table), schema(table, study))


def batches(connection: Connection, study: StoredStudy, table: ExportTable) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table in their order, about `CHUNK` at a time."""
    described = schema(table, study)
    groups = (
        _configurations(connection, study) if table is CONFIGURATIONS else _curve_points(connection, study)
    )
    rows: list[Sequence[Any]] = []
    for group in groups:
        rows += group
        if len(rows) >= CHUNK:
            yield _batch(rows, described)
            rows = []
    if rows:
        yield _batch(rows, described)


def _batch(rows: Sequence[Sequence[Any]], described: pa.Schema) -> pa.RecordBatch:
    columns = zip(zip(*rows, strict=True), described, strict=True)
    return pa.record_batch([pa.array(values, field.type) for values, field in columns], schema=described)


def _stream(connection: Connection, statement: Select[Any]) -> Iterator[Any]:
    # `yield_per` opens a server-side cursor on PostgreSQL; SQLite returns rows one by one anyway.
    with connection.execute(statement, execution_options={"yield_per": CHUNK}) as streamed:
        yield from streamed


def _stored(name: str) -> ColumnElement[Any]:
    owner, _, column = name.partition(".")
    return metadata.tables[f"pairsearch_{owner}"].c[column]


def _configurations(connection: Connection, study: StoredStudy) -> Iterator[list[Sequence[Any]]]:
    columns = CONFIGURATIONS.columns
    as_json = {name: mixed(values) for name, values in study.choices.items()}
    names = list(study.traits.of_folds)
    statement = (
        select(
            *(_stored(column.stored).label(f"c{place}") for place, column in enumerate(columns)),
            configurations.c.key,
        )
        .select_from(configurations.join(studies, studies.c.id == configurations.c.study_id))
        .where(studies.c.id == study.id)
        .order_by(*map(_stored, CONFIGURATIONS.order))
    )
    for row in _stream(connection, statement):
        values: list[Any] = []
        for column, value in zip(columns, row, strict=False):
            if column is PARAMETERS:
                params = read_configuration(row.key, value).params
                values += [
                    json.dumps(params[name]) if mixed_up and name in params else params.get(name)
                    for name, mixed_up in as_json.items()
                ]
            elif column is FIGURES:
                figures = read_figures(value)
                values += [figures.get(name) for name in names]
            else:
                values.append(value)
        yield [values]


def _curve_points(connection: Connection, study: StoredStudy) -> Iterator[list[Sequence[Any]]]:
    names = list(study.traits.of_folds)
    mine = runs.join(
        configurations, and_(configurations.c.study_id == runs.c.study_id, configurations.c.key == runs.c.key)
    )
    statement = (
        select(runs.c.id, runs.c.key, runs.c.run, runs.c.epochs, curves.c.figure, curves.c.points)
        .select_from(mine.join(curves, curves.c.run_id == runs.c.id))
        .where(runs.c.study_id == study.id, runs.c.kind == "fold")
        .order_by(*map(_stored, CURVES.order), runs.c.id)
    )
    for _, rows in itertools.groupby(_stream(connection, statement), key=lambda row: row.id):
        read, first = {}, None
        for row in rows:
            first = row
            read[row.figure] = read_curve(row.id, row.points, row.epochs)
        assert first is not None, "groups are never empty"  # noqa: S101
        yield [
            [study.name, first.key, first.run, epoch + 1, *(_known(read.get(name), epoch) for name in names)]
            for epoch in range(first.epochs)
        ]


def _known(curve: Sequence[float] | None, epoch: int) -> float | None:
    return None if curve is None else finite(curve[epoch])
