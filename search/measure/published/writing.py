"""Writes a complete database as Parquet files with their README; all files or none."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from pairsearch.search.files import made_folder, usable_folder, whole_file
from pairsearch.search.measure.published.about import facts, readme
from pairsearch.search.measure.published.reading import Reading, Rows
from pairsearch.search.results.export import fields
from pairsearch.search.results.export_columns import ColumnTable


def write(reading: Reading, folder: Path) -> list[Path]:
    """Write the three tables and their README, and return the files; existing files are replaced.

    The same reading gives the same bytes with the same version of Arrow.

    Raises:
        InputError: the folder is not writable or cannot be created.
        WorkError: writing failed.
    """
    usable_folder(folder)
    made_folder(folder)
    about = facts(reading)
    rows_of = (reading.folds, reading.curves, reading.rounds)
    tables = list(zip(reading.layout.tables, rows_of, strict=True))
    written = []
    with ExitStack() as files:
        for table, rows in tables:
            path = folder / f"{table.name}.parquet"
            file: Any = files.enter_context(whole_file(path))
            parquet.write_table(_arrow(table, rows, about), file, compression="zstd", compression_level=9)
            written.append(path)
        path = folder / "README.md"
        counts = {table.name: len(rows) for table, rows in tables}
        files.enter_context(whole_file(path)).write(readme(reading, counts).encode())
        written.append(path)
    return written


def _arrow(table: ColumnTable, rows: Rows, about: dict[str, str]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema(fields(table), metadata={"row": table.row} | about))
