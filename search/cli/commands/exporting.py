"""The commands `export` and `models`, by which results and trained models go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.streams import print_json, teller
from pairsearch.search.results.export import WhichCurves, export_folder
from pairsearch.search.results.export import export as export_short
from pairsearch.search.results.tables import FOLDER, SHORT, described
from pairsearch.search.setup.opening import open_stored
from pairsearch.search.workers.models import ModelFolder, write_stored

TABLES = Path("pairsearch-export")


def export(
    study: options.StoredStudies,
    out: Annotated[
        Path | None,
        options.folder(
            "--out",
            help="Folder to write to; made at need.",
            default=f"{TABLES}; with --format the working directory",
        ),
    ] = None,
    curves: Annotated[
        WhichCurves,
        typer.Option(
            "--curves",
            metavar="WHICH",
            help="all, or mean: of each configuration the mean over its folds alone.",
        ),
    ] = WhichCurves.ALL,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="csv, parquet or json: two files of each study instead.",
            show_default="the folder of tables",
        ),
    ] = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    database, stored = open_stored(storage, study)
    if kind is None:
        written = export_folder(database, stored, out or TABLES, curves)
    elif curves is not WhichCurves.ALL:
        raise typer.BadParameter("--curves mean goes with the folder of tables: leave out --format")
    else:
        written = [file for one in stored for file in export_short(database, one, kind, out or Path())]
    if as_json:
        print_json([{"table": file.table, "path": str(file.path), "rows": file.rows} for file in written])
        return
    say = teller(quiet=quiet)
    for file in written:
        say(f"{file.path}: {file.rows} rows")


# The docstring is shown as help. It is assembled here because it names the tables as they are defined.
export.__doc__ = (
    f"{described(FOLDER)}\n\n"
    "With --format it writes two files of each study, STUDY-configurations and STUDY-curves:\n\n"
    f"{described(SHORT)}\n\n"
    "Files appear whole or not at all. A missing value is empty in CSV, null elsewhere. Numbers keep every bit. In "
    "Parquet the columns carry their units and meanings."
)


def models(
    study: options.StoredStudies,
    out: Annotated[
        Path, options.folder("--out", help="Folder to write to; made at need.")
    ] = options.DEFAULT_MODELS,
    storage: options.Storage = options.DEFAULT_STORAGE,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """A round has none in the database if it diverged, if its problem returned no weights, or if its model is larger
    than `evaluation.model_megabytes`: such models are in the folder that workers were given by --models.
    """
    database, stored = open_stored(storage, study)
    folder = ModelFolder(out)
    written = {one.name: write_stored(database, one, folder) for one in stored}
    if as_json:
        print_json(
            [
                {"study": name, "files": [str(file) for file in one.files], "without": one.without}
                for name, one in written.items()
            ]
        )
        return
    say = teller(quiet=quiet)
    for name, one in written.items():
        without = f"; {one.without} rounds have none in the database" if one.without else ""
        say(f"{name}: {len(one.files)} models in {out}{without}")
