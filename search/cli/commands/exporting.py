"""The commands `export` and `load`, by which results go out and come in."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search.cli.terminal import (
    DEFAULT_STORAGE,
    AsJson,
    Quiet,
    Storage,
    console,
    print_json,
    teller,
)
from pairsearch.search.redaction import conceal
from pairsearch.search.results.tables import FOLDER, SHORT, described

TABLES = Path("pairsearch-export")


class WhichCurves(StrEnum):
    """The curves of an export."""

    ALL = "all"
    MEAN = "mean"


def export(
    study: Annotated[list[str], typer.Argument(metavar="STUDY", help="Studies in the database.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Folder to write to; made at need.",
            show_default=f"{TABLES}; with --format the working directory",
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
    storage: Storage = DEFAULT_STORAGE,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    from pairsearch.search.database.connection import open_database
    from pairsearch.search.ledger.studies import stored_study
    from pairsearch.search.results.export import export as write
    from pairsearch.search.results.export import export_folder

    database = open_database(storage)
    stored = [stored_study(database, name) for name in dict.fromkeys(study)]
    if kind is None:
        written = export_folder(database, stored, out or TABLES, curves.value)
    elif curves is not WhichCurves.ALL:
        raise typer.BadParameter("--curves mean goes with the folder of tables: leave out --format")
    else:
        written = [file for one in stored for file in write(database, one, kind, out or Path())]
    if as_json:
        print_json([{"table": file.table, "path": str(file.path), "rows": file.rows} for file in written])
        return
    say = teller(quiet=quiet)
    for file in written:
        say(f"{file.path}: {file.rows} rows")


# Typer shows the docstring as help. It is assembled here because it names the tables as they are defined.
export.__doc__ = (
    "Write studies as a folder of Parquet tables, from which `pairsearch load` makes them again.\n\n"
    f"{described(FOLDER)}\n\n"
    "With --format it writes two files of each study, STUDY-configurations and STUDY-curves:\n\n"
    f"{described(SHORT)}\n\n"
    "Files appear whole or not at all. A missing value is empty in CSV, null elsewhere. Numbers keep every bit. In "
    "Parquet the columns carry their units and meanings."
)


def load(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder that `pairsearch export` wrote, or `paper`, the results that are shipped; or, of another "
            "program, a .csv or .parquet table or the URL of Optuna's database.",
        ),
    ],
    study: Annotated[
        list[str] | None,
        typer.Argument(metavar="STUDY", help="Studies to load.", show_default="all of the source"),
    ] = None,
    of_optuna: Annotated[
        str | None,
        typer.Option("--study", metavar="NAME", help="The study of Optuna's.", show_default="the only one"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name for the study of another program.",
            show_default="that of the file without its ending, or Optuna's",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The score of another program by which configurations are compared.",
            show_default="the only one there is, score",
        ),
    ] = None,
    minimise: Annotated[
        bool,
        typer.Option("--minimise", help="A lower score of a table is better; scikit-learn's are maximised."),
    ] = False,
    folds: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="Columns of a plain table that are folds, * for the number; the others are parameters.",
        ),
    ] = "fold*",
    storage: Storage = DEFAULT_STORAGE,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Load results into the database, each exactly once; run again, it changes nothing more.

    All studies of the source are loaded, or none. A study that is there gets the results that it lacks, if it has the
    same definition and data; other results are refused. Results of another program become a study that is judged like
    any other and cannot be trained: scikit-learn's cv_results_, a table with a column for each parameter and each fold
    (fold0, fold1, ...; seconds if they are known), or an Optuna study with one intermediate value per fold.
    """
    from pairsearch.search.cli.steps import Steps
    from pairsearch.search.results.foreign import Told
    from pairsearch.search.setup.load import load as read_in

    names = [*(study or []), *([] if of_optuna is None else [of_optuna])]
    with Steps(console(error=True, quiet=quiet)) as tell:
        tell(f"loading {conceal(source)}")
        loaded = read_in(storage, source, names, Told(name, metric, minimise, folds))
    if as_json:
        print_json([asdict(one) for one in loaded])
        return
    say = teller(quiet=quiet)
    for one in loaded:
        what = "created" if one.created else "was there"
        say(f"{one.study}: {what}, {one.results} results and {one.rounds} rounds loaded")
