"""The commands `studies`, `status` and `best`, which read a database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pairsearch.search.cli import options, tables
from pairsearch.search.cli.progress import steps
from pairsearch.search.cli.sheet import Sheet
from pairsearch.search.cli.streams import print_json, say, teller
from pairsearch.search.cli.terminal import console, print_lines
from pairsearch.search.common.errors import StorageError, StudyError
from pairsearch.search.database.connection import find_database
from pairsearch.search.engines.standing import standings
from pairsearch.search.ledger.studies import list_studies, seen_by
from pairsearch.search.results.fields import Field
from pairsearch.search.results.fold_figures import read_unjudged
from pairsearch.search.results.progress import ended_without, read_progress
from pairsearch.search.results.ranking import ranked_within
from pairsearch.search.setup import opening
from pairsearch.search.verdict import sentences
from pairsearch.search.verdict.study_verdict import verdict_on
from pairsearch.studies.definition import Definition, read, shipped

RESTORED = "Optuna's study or some of its trials had been deleted: they are restored from the ledger"


def studies(storage: options.Storage = options.DEFAULT_STORAGE, as_json: options.AsJson = False) -> None:
    known = [read(path) for path in shipped().values()]
    database = find_database(storage)
    stored = [] if database is None else [read_progress(database, study) for study in list_studies(database)]
    if as_json:
        definitions = [d.model_dump(mode="json") | {"configurations": len(d.grid)} for d in known]
        print_json({"shipped": definitions, "database": [tables.progress_json(p) for p in stored]})
        return
    fields: list[Field[Definition]] = [
        Field("study", lambda one: one.name, right=False),
        Field("title", lambda one: one.title, right=False, prose=True),
        Field("protocol", lambda one: one.protocol, right=False, prose=True),
        Field("configurations", lambda one: str(len(one.grid))),
    ]
    screen = console()
    screen.print(Sheet(fields, known, "definitions shipped with pairsearch"))
    if database is None:
        screen.print("no studies in the database yet: `pairsearch create` makes them", markup=False)
    else:
        screen.print(tables.progress_table(stored, title=f"studies in {database.label}"))


def status(
    study: options.SomeStudies = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    as_json: options.AsJson = False,
) -> None:
    database, chosen = opening.open_stored(storage, study or ())
    for stored in chosen:
        try:
            if opening.reconcile(database, [stored]):
                teller(error=True)(f"note: {stored.name}: {RESTORED}")
        except StudyError as error:
            teller(error=True)(f"note: {error}")
        except StorageError as error:
            # The database may be read-only; its progress can still be shown.
            teller(error=True)(f"note: what dead workers left is not put back: {error}")
            break
    progresses = [read_progress(database, stored) for stored in chosen]
    standing = {one.name: standings(database, [one]) for one in chosen}
    if as_json:
        print_json(
            [
                tables.progress_json(one) | {"engines": [asdict(engine) for engine in standing[one.study]]}
                for one in progresses
            ]
        )
        return
    screen = console()
    screen.print(tables.progress_table(progresses))
    for progress in progresses:
        print_lines(screen, tables.lines_below(progress))
        print_lines(screen, [f"{progress.study}: {engine}" for engine in standing[progress.study]])


def best(
    study: options.StoredStudy,
    top: Annotated[int, options.count(help="How many.")] = 10,
    trade: options.Trade = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    as_json: options.AsJson = False,
) -> None:
    # NumPy, which `status` does without.
    from pairsearch.search.results.chosen_figures import choice, read_chosen  # noqa: PLC0415
    from pairsearch.search.verdict.study_trade import trade_on  # noqa: PLC0415

    traded = None if trade is None else choice(trade)
    database, (stored,) = opening.open_stored(storage, [study])
    with steps(console(error=True)) as tell:
        tell(f"reading {stored.name}")
        with database.snapshot() as connection:
            stored = seen_by(connection, stored)
            ranked = ranked_within(connection, stored, top)
            unjudged = read_unjudged(connection, stored)
            ended = None if ranked else ended_without(connection, stored)
            chosen = None if traded is None else read_chosen(connection, stored, traded)
        judged = verdict_on(unjudged, tell=tell)
        front = None if chosen is None else trade_on(chosen, judged)
    if as_json:
        told = {
            "ranked": [tables.ranked_json(entry) for entry in ranked],
            "verdict": sentences.verdict_json(judged),
        }
        print_json(told if trade is None else told | {"trade": None if front is None else front.to_json()})
    elif ended is None:
        screen = console()
        screen.print(tables.ranked_table(stored, ranked))
        print_lines(screen, sentences.verdict_lines(judged))
        if front is not None:
            screen.print(Sheet(front.fields(), front.shown, front.title))
            print_lines(screen, front.lines())
    else:
        say(f"{stored.name}: {ended}")
