"""The commands `export` and `models`, by which results and trained models go out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.progress import steps
from pairsearch.search.cli.streams import print_json, teller
from pairsearch.search.cli.terminal import console
from pairsearch.search.common.errors import ExitCode
from pairsearch.search.results.export import WhichCurves, export_folder
from pairsearch.search.results.export import export as export_short
from pairsearch.search.results.tables import FOLDER, SHORT, described
from pairsearch.search.setup.opening import open_stored
from pairsearch.search.tracking.exporting import Target
from pairsearch.search.tracking.exporting import export as export_runs
from pairsearch.search.tracking.following import keep_exporting
from pairsearch.search.workers.models import ModelFolder, write_stored
from pairsearch.search.workers.signals import stop_with_parent

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
    to: options.To = None,
    attached: Annotated[
        bool,
        typer.Option("--attached", hidden=True, help="Go on until standard input ends, as `run --to` does."),
    ] = False,
    storage: options.Storage = options.DEFAULT_STORAGE,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    if to:
        if out is not None or kind is not None or curves is not WhichCurves.ALL:
            raise typer.BadParameter("--to goes with none of --out, --format and --curves")
        export_to(to, storage, study, attached, quiet, as_json)
        return
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


def export_to(
    to: list[str], storage: str, study: list[str], attached: bool, quiet: bool, as_json: bool
) -> None:
    """Export studies to trackers: once, or until standard input ends."""
    targets = Target.all_of(to)
    database, stored = open_stored(storage, study)
    if attached:
        stopping = threading.Event()
        stop_with_parent(stopping)
        if not keep_exporting(database, stored, targets, stopping, teller(error=True)):
            raise typer.Exit(ExitCode.WORK_FAILED)
        return
    with steps(console(error=True, quiet=quiet)) as tell:
        done = [export_runs(database, one, target, tell=tell) for one in stored for target in targets]
    if as_json:
        print_json([one._asdict() for one in done])
        return
    say = teller(quiet=quiet)
    for one in done:
        say(f"{one.study}: {one.written} runs written to {one.to}, {one.there} were there")


# The docstring is shown as help. It is assembled here because it names the tables as they are defined.
export.__doc__ = (
    f"{described(FOLDER)}\n\n"
    "With --format it writes two files of each study, STUDY-configurations and STUDY-curves:\n\n"
    f"{described(SHORT)}\n\n"
    "With --to it shows studies in trackers: a run for each configuration that has ended, with its folds and rounds "
    "nested in it, each exactly once, however often and from wherever it is exported.\n\n"
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
                {"study": name, "files": [str(file) for file in files], "without": without}
                for name, (files, without) in written.items()
            ]
        )
        return
    say = teller(quiet=quiet)
    for name, (files, without) in written.items():
        rest = f"; {without} rounds have none in the database" if without else ""
        say(f"{name}: {len(files)} models in {out}{rest}")
