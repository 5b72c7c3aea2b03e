"""The command `load`, by which results come in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.progress import steps
from pairsearch.search.cli.streams import print_json, teller
from pairsearch.search.cli.terminal import console
from pairsearch.search.common.redaction import conceal
from pairsearch.search.results.foreign import Told
from pairsearch.search.setup.load import load as read_in


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
    storage: options.Storage = options.DEFAULT_STORAGE,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """All studies of the source are loaded, or none. A study that is there gets the results that it lacks, if it has
    the same definition and data; other results are refused. Results of another program become a study that is judged
    like any other and cannot be trained: scikit-learn's cv_results_, a table with a column for each parameter and each
    fold (fold0, fold1, ...; seconds if they are known), or an Optuna study with one intermediate value per fold.
    """
    names = [*(study or []), *([] if of_optuna is None else [of_optuna])]
    with steps(console(error=True, quiet=quiet)) as tell:
        tell(f"loading {conceal(source)}")
        loaded = read_in(storage, source, names, Told(name, metric, minimise, folds))
    if as_json:
        print_json([asdict(one) for one in loaded])
        return
    say = teller(quiet=quiet)
    for one in loaded:
        what = "created" if one.created else "was there"
        say(f"{one.study}: {what}, {one.results} results and {one.rounds} rounds loaded")
