"""Writes the rows of tables as CSV, Parquet or JSON, some thousands at a time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
from pyarrow import csv, parquet

from pairsearch.search.common.files import whole_file
from pairsearch.search.common.provenance import package_version
from pairsearch.search.results.tables import Columns, Table

# Rows in memory at a time, and rows of a Parquet row group: some ten megabytes.
CHUNK = 20_000

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
    """Yield rows as batches of a table, about `CHUNK` rows each."""
    left = iter(rows)
    while chunk := list(itertools.islice(left, CHUNK)):
        yield pa.RecordBatch.from_pylist(chunk, schema=described)
