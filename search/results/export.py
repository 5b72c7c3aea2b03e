"""Writes a study's configurations and curves as CSV, Parquet or JSON, in chunks, from one moment of the database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
from pyarrow import csv, parquet
from sqlalchemy import ColumnElement, Connection, Select, select

from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import configurations, curves, metadata, studies
from pairsearch.search.errors import InputError
from pairsearch.search.files import made_folder, usable_folder, whole_file
from pairsearch.search.ledger.rows import read_configuration
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.provenance import package_version
from pairsearch.search.results.export_columns import (
    KEY,
    PARAMETERS,
    TABLES,
    ColumnTable,
    ExportTable,
    of_study,
)

# Rows held at a time, and rows of a Parquet row group: some ten megabytes.
CHUNK = 20_000

TYPES = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}


@dataclass(frozen=True, slots=True)
class Exported:
    """One file that was written."""

    table: str
    path: Path
    rows: int


class Writer(Protocol):
    """Takes the batches of one table in their order."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what the format ends in; the file itself stays open."""


class JsonWriter:
    """An array of objects, one on a line; a missing value is null, a float the shortest text that reads back."""

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
    """Names and types, with each its unit and meaning."""
    return [
        pa.field(
            column.name, TYPES[column.kind], metadata={"unit": column.unit, "description": column.meaning}
        )
        for column in table.columns
    ]


def schema(table: ExportTable, study: StoredStudy) -> pa.Schema:
    """The fields, and with the whole what the study is."""
    facts = {
        "study": study.name,
        "row": table.row,
        "definition": study.definition.model_dump_json(),
        "data": f"{study.source_name} {study.source_fingerprint}",
        "training_version": str(study.training_version),
        "program": f"pairsearch {package_version('pairsearch')}",
    }
    return pa.schema(fields(of_study(table, study.choices)), metadata=facts)


def statement(table: ExportTable, study: StoredStudy) -> Select[Any]:
    """All rows of a study, in their order, as the columns."""

    def stored(name: str) -> ColumnElement[Any]:
        owner, _, column = name.partition(".")
        return metadata.tables[f"pairsearch_{owner}"].c[column]

    rows = configurations.join(studies, studies.c.id == configurations.c.study_id)
    if any(column.stored.startswith("curves.") for column in table.columns):
        rows = rows.join(curves, curves.c.configuration_id == configurations.c.id)
    return (
        select(*(stored(column.stored).label(column.name) for column in table.columns))
        .select_from(rows)
        .where(studies.c.id == study.id)
        .order_by(*map(stored, table.order))
    )


def export(database: Database, study: StoredStudy, kind: str, folder: Path) -> list[Exported]:
    """Write one file for each table, `STUDY-configurations` and `STUDY-curves`, all of them or none.

    Args:
        kind: a key of `WRITERS`; also the files' ending.
        folder: where to; files of these names are replaced.

    Raises:
        InputError: an unknown format, or a folder that is not writable and cannot be made.
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
    """A table of an export in memory, as the database holds it at one moment."""
    with database.snapshot() as connection:
        return pa.Table.from_batches(batches(connection, study, table), schema(table, study))


def batches(connection: Connection, study: StoredStudy, table: ExportTable) -> Iterator[pa.RecordBatch]:
    """The rows of a table in their order, at most `CHUNK` at a time."""
    described, expand = schema(table, study), _expand(table, study)
    # A cursor of the server on PostgreSQL; SQLite hands out rows one by one anyway.
    with connection.execute(statement(table, study), execution_options={"yield_per": CHUNK}) as streamed:
        for rows in streamed.partitions():
            columns = zip(zip(*map(expand, rows), strict=True), described, strict=True)
            arrays = [pa.array(values, field.type) for values, field in columns]
            yield pa.record_batch(arrays, schema=described)


def _expand(table: ExportTable, study: StoredStudy) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What puts the values of its parameters into a row in the place of their JSON."""
    if PARAMETERS not in table.columns:
        return lambda row: row
    key, place = table.columns.index(KEY), table.columns.index(PARAMETERS)

    def expand(row: Sequence[Any]) -> Sequence[Any]:
        params = read_configuration(row[key], row[place]).params
        return [*row[:place], *(params.get(name) for name in study.choices), *row[place + 1 :]]

    return expand
