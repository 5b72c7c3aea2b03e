"""The command `export`, which writes results for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search.cli.terminal import DEFAULT_STORAGE, AsJson, Quiet, Storage, print_json, teller
from pairsearch.search.results.export_columns import described


def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study in the database.")],
    kind: Annotated[str, typer.Option("--format", metavar="FORMAT", help="csv, parquet or json.")] = "csv",
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Folder to write to; made at need.",
            show_default="the working directory",
        ),
    ] = Path(),
    storage: Storage = DEFAULT_STORAGE,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    from pairsearch.search.database.connection import open_database
    from pairsearch.search.ledger.studies import stored_study
    from pairsearch.search.results.export import export as write

    database = open_database(storage)
    written = write(database, stored_study(database, study), kind, out)
    if as_json:
        print_json([{"table": file.table, "path": str(file.path), "rows": file.rows} for file in written])
        return
    say = teller(quiet=quiet)
    for file in written:
        say(f"{file.path}: {file.rows} rows")


# Typer shows the docstring as help. It is assembled here because it lists the columns from their definitions.
export.__doc__ = (
    "Write a study's configurations and curves as CSV, Parquet or JSON: two files, whole or not at all.\n\n"
    "A missing value is empty in CSV, null elsewhere. Numbers keep every bit. In Parquet the columns carry their "
    f"units.\n\n{described()}"
)
