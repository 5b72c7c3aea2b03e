"""The command `claims`, which decides claims about studies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Annotated, Any

import typer

from pairsearch.search.claims import sentences
from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.material import wanted_rounds
from pairsearch.search.claims.training import Sources, find_sources, train_missing
from pairsearch.search.cli import options
from pairsearch.search.cli.sheet import Sheet
from pairsearch.search.cli.streams import print_json
from pairsearch.search.cli.terminal import console, print_lines
from pairsearch.search.cli.training import Training
from pairsearch.search.database.connection import Database, find_database
from pairsearch.search.results.fields import Field
from pairsearch.search.setup import opening


def claims(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A .toml file of claims, or `paper`, those that are shipped."),
    ] = "paper",
    only: Annotated[
        int | None, options.count(help="One claim by its number, with its sentences.", default="all")
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
            database = _train(Training(storage, here, quiet=quiet, as_json=as_json), sources)
    decided = sources.decide(database)
    if as_json:
        print_json([sentences.claim_json(one) for one in decided])
    else:
        screen = console()
        for sheet in _sheets(sources.claims.title, decided):
            screen.print(sheet)
        print_lines(screen, _lines(decided, in_full=only is not None))


def _train(training: Training, sources: Sources) -> Database:
    """Create missing studies, and train missing rounds; return the database."""
    checked = training.check([given.text for given in sources.given.values()])
    checked.create()
    wanted = wanted_rounds(sources.claims, sources.material(checked.database))
    with training.evaluator() as evaluator:
        train_missing(checked.database, sources, training.loaded, wanted, evaluator)
    return checked.database


def _sheets(title: str, decided: Sequence[Decided]) -> list[Sheet[Any]]:
    """Return a table of comparisons and a table of claims."""
    claims: list[Field[Decided]] = [
        Field("claim", lambda one: str(one.number)),
        Field("statement", lambda one: one.claim.statement, right=False, prose=True),
        Field("decision", sentences.status, right=False, prose=True),
    ]
    comparisons = [
        Field("claim", itemgetter(0)),
        *(
            Field(name, itemgetter(place), right=False, prose=place == 1)
            for place, name in enumerate(sentences.HEADER, 1)
        ),
    ]
    rows = [(str(one.number), *sentences.row(finding)) for one in decided for finding in one.findings]
    return [Sheet(comparisons, rows, "evidence"), Sheet(claims, decided, title)]


def _lines(decided: Sequence[Decided], *, in_full: bool) -> Iterator[str]:
    """Yield what is missing for claims; `in_full`, after all evidence in sentences and the rules of the decisions."""
    if in_full:
        for one in decided:
            yield from sentences.lines_of(one)
        yield sentences.RULES
    missing: dict[str, list[str]] = {}
    for one in decided:
        for reason in one.missing:
            missing.setdefault(reason, []).append(str(one.number))
    for reason, numbers in missing.items():
        yield f"missing for claim {', '.join(numbers)}: {reason}"
