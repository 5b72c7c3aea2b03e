"""The command `claims`, which decides claims about studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pairsearch.search.cli.terminal import (
    DEFAULT_STORAGE,
    LARGEST,
    AsJson,
    DataDir,
    DataKind,
    Device,
    Quiet,
    Set,
    Storage,
    console,
    machine,
    print_json,
    print_lines,
    teller,
)

if TYPE_CHECKING:
    from pairsearch.search.claims.training import Sources
    from pairsearch.search.database.connection import Database
    from pairsearch.search.machine import Machine


def claims(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A .toml file of claims, or `paper`, those that are shipped."),
    ] = "paper",
    only: Annotated[
        int | None,
        typer.Option(
            min=1, max=LARGEST, help="One claim by its number, with its sentences.", show_default="all"
        ),
    ] = None,
    stored: Annotated[
        bool,
        typer.Option("--stored", help="Train nothing: decide by what is there, and say what is missing."),
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
    setting: Set = None,
    data: DataKind = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Decide claims about studies: each holds, does not hold, or is undecided, by the interval of its effect.

    Missing rounds that the claims compare are trained; finished rounds are kept.
    """
    from pairsearch.search.claims.sentences import claim_json
    from pairsearch.search.claims.training import find_sources
    from pairsearch.search.database.connection import find_database
    from pairsearch.search.setup.opening import check_device

    check_device(device)
    database = find_database(storage)
    sources = find_sources(file, database, only)
    if not stored:
        sources.check_complete(database)
        here = machine(setting, data, data_dir, device=device)
        if sources.missing(database):
            database = _train(storage, sources, here, quiet=quiet, as_json=as_json)
    decided = sources.decide(database)
    if as_json:
        print_json([claim_json(one) for one in decided])
    else:
        from pairsearch.search.cli import claim_tables

        screen = console()
        for sheet in claim_tables.sheets(sources.claims.title, decided):
            screen.print(sheet)
        print_lines(screen, claim_tables.lines(decided, in_full=only is not None))


def _train(storage: str, sources: Sources, machine: Machine, *, quiet: bool, as_json: bool) -> Database:
    """Create missing studies, and train missing rounds; return the database."""
    from pairsearch.search.claims.material import wanted_rounds
    from pairsearch.search.claims.training import train_missing
    from pairsearch.search.cli.steps import evaluator_on
    from pairsearch.search.setup import opening

    say = teller(error=as_json, quiet=quiet)
    texts = [given.text for given in sources.given.values()]
    made = opening.create(storage, texts, machine, say)
    wanted = wanted_rounds(sources.claims, sources.material(made.database))
    with evaluator_on(machine, console(error=as_json, quiet=quiet)) as evaluator:
        train_missing(made.database, sources, made.loaded, wanted, evaluator)
    return made.database
