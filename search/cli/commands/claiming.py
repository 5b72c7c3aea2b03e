"""The command `claims`, which decides claims about studies."""

from __future__ import annotations

from typing import Annotated

import typer

from pairsearch.search.claims.material import wanted_rounds
from pairsearch.search.claims.sentences import claim_json
from pairsearch.search.claims.training import Sources, find_sources, train_missing
from pairsearch.search.cli import claim_tables, options
from pairsearch.search.cli.evaluation import evaluator_on
from pairsearch.search.cli.forked import zygote
from pairsearch.search.cli.messages import print_json, teller
from pairsearch.search.cli.terminal import console, print_lines
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database, find_database
from pairsearch.search.setup import opening
from pairsearch.studies.loading import Loaded


def claims(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A .toml file of claims, or `paper`, those that are shipped."),
    ] = "paper",
    only: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=options.LARGEST,
            help="One claim by its number, with its sentences.",
            show_default="all",
        ),
    ] = None,
    stored: Annotated[
        bool,
        typer.Option("--stored", help="Train nothing: decide by what is there, and say what is missing."),
    ] = False,
    storage: options.Storage = options.DEFAULT_STORAGE,
    setting: options.Set = None,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Missing rounds that the claims compare are trained; finished rounds are kept."""
    opening.check_device(device)
    database = find_database(storage)
    sources = find_sources(file, database, only)
    if not stored:
        sources.check_complete(database)
        here = options.machine(setting, data, data_dir, device=device)
        if sources.missing(database):
            database = _train(storage, sources, here, quiet=quiet, as_json=as_json)
    decided = sources.decide(database)
    if as_json:
        print_json([claim_json(one) for one in decided])
    else:
        screen = console()
        for sheet in claim_tables.sheets(sources.claims.title, decided):
            screen.print(sheet)
        print_lines(screen, claim_tables.lines(decided, in_full=only is not None))


def _train(storage: str, sources: Sources, machine: Machine, *, quiet: bool, as_json: bool) -> Database:
    """Create missing studies, and train missing rounds; return the database."""
    say = teller(error=as_json, quiet=quiet)
    texts = [given.text for given in sources.given.values()]
    loaded: dict[str, Loaded] = {}
    forking = zygote(loaded, machine.device)
    made = opening.create(storage, texts, machine, say)
    loaded.update(made.loaded)
    wanted = wanted_rounds(sources.claims, sources.material(made.database))
    with evaluator_on(machine, console(error=as_json, quiet=quiet), zygote=forking) as evaluator:
        train_missing(made.database, sources, loaded, wanted, evaluator)
    return made.database
