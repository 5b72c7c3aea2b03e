"""The commands `create`, `worker`, `run`, `retry` and `reproduce`, which search."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pairsearch.search.cli.commands.evaluating import run_evaluation
from pairsearch.search.cli.terminal import (
    DEFAULT_STORAGE,
    LARGEST,
    AsJson,
    DataDir,
    DataKind,
    Device,
    Lease,
    Limit,
    Models,
    NoModels,
    Quiet,
    Set,
    Storage,
    Studies,
    Workers,
    a_number,
    console,
    machine,
    print_json,
    say,
    teller,
)
from pairsearch.search.errors import DatabaseAwayError, ExitCode
from pairsearch.search.machine import LEASE_SECONDS

if TYPE_CHECKING:
    from pairsearch.search.database.connection import Database
    from pairsearch.search.evaluation.evaluating import By
    from pairsearch.search.ledger.studies import StoredStudy
    from pairsearch.search.machine import Machine


def create(
    study: Studies,
    storage: Storage = DEFAULT_STORAGE,
    setting: Set = None,
    data: DataKind = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Create studies and insert their grids; run again, it changes nothing more."""
    from pairsearch.search.setup import opening

    say = teller(error=as_json, quiet=quiet)
    creations = opening.create(storage, study, machine(setting, data, data_dir), say).creations
    for creation in creations:
        what = "created" if creation.created else "was there"
        restored = f", {creation.restored} trials of Optuna's restored" if creation.restored else ""
        say(f"{creation.study.name}: {what}, {creation.inserted} configurations inserted{restored}")
    if as_json:
        print_json(
            [
                {
                    "study": made.study.name,
                    "created": made.created,
                    "inserted": made.inserted,
                    "restored": made.restored,
                }
                for made in creations
            ]
        )


def worker(
    study: Studies,
    storage: Storage = DEFAULT_STORAGE,
    setting: Set = None,
    data: DataKind = None,
    data_dir: DataDir = None,
    max_trials: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST, help="End after N configurations.", show_default="no end"),
    ] = None,
    limit: Limit = None,
    device: Device = "cpu",
    lease: Lease = LEASE_SECONDS,
    patience: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            callback=a_number,
            help="Seconds to wait while the database is unavailable; if given, also at the start.",
            show_default="300, none at the start",
        ),
    ] = None,
    attached: Annotated[
        bool,
        typer.Option(
            "--attached", hidden=True, help="End when standard input does, as the workers of `run` do."
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Be one worker: claim configurations until none is left. SIGTERM hands the current one back and exits 0."""
    from pairsearch.search.database.connection import open_database
    from pairsearch.search.database.retry import patiently
    from pairsearch.search.setup import opening
    from pairsearch.search.workers import working
    from pairsearch.search.workers.signals import signals, stop_with_parent
    from pairsearch.search.workers.tally import Tally

    here = machine(setting, data, data_dir, device=device, lease=lease)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # psycopg warns about each lost connection, which we report ourselves.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    say = teller(quiet=quiet)
    stopping = threading.Event()
    # At the start, a database that does not answer may be a mistyped URL: a worker retries only if --patience is given.
    if patience is not None:
        here = replace(here, patience=patience)
    begin = partial(patiently, seconds=here.patience, stopping=stopping, stopping_seconds=0.0)
    tally = Tally()
    with signals(stopping) as caught:
        if attached:
            stop_with_parent(stopping)
        try:
            database = begin(lambda: open_database(storage, waiting=bool(patience)))
            queue = begin(lambda: opening.open_to_work(database, study, here, say))
        except DatabaseAwayError:
            # After a signal to stop this is no error: the worker has claimed nothing yet.
            if not stopping.is_set():
                raise
        else:
            tally = working.work(database, queue, here, stopping, say, limit=limit, max_trials=max_trials)
    say(
        f"worker ends: {tally.finished} finished, {tally.handed_back} handed back, {tally.superseded} superseded, "
        f"{tally.failed} failed"
    )
    if signal.SIGINT in caught:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if tally.failed:
        raise typer.Exit(ExitCode.WORK_FAILED)


def run(
    study: Studies,
    workers: Workers = None,
    storage: Storage = DEFAULT_STORAGE,
    setting: Set = None,
    data: DataKind = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    device: Device = "cpu",
    lease: Lease = LEASE_SECONDS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Create studies, run worker processes over them with live progress, and print the best."""
    from pairsearch.search.cli import tables
    from pairsearch.search.results.progress import ended_without, progress_within
    from pairsearch.search.results.ranking import ranked_within

    here = machine(setting, data, data_dir, device=device, lease=lease)
    database, studies = run_search(storage, study, here, workers, limit, quiet=quiet, as_json=as_json)
    screen = console()
    summaries = []
    for stored in studies:
        with database.snapshot() as connection:
            ranked = ranked_within(connection, stored, 5, limit)
            ended = ended_without(connection, stored, limit)
            progress = progress_within(connection, stored, limit)
        top = [tables.ranked_json(entry) for entry in ranked]
        summaries.append(tables.progress_json(progress) | {"top": top})
        if as_json:
            continue
        if ranked:
            screen.print(tables.ranked_table(stored, ranked))
        else:
            say(f"{stored.name}: {ended}")
    if as_json:
        print_json(summaries)


def retry(study: Studies, storage: Storage = DEFAULT_STORAGE) -> None:
    """Try failed configurations again, as if for the first time."""
    from pairsearch.search.database.connection import open_database
    from pairsearch.search.ledger.configurations import Ledger
    from pairsearch.search.ledger.studies import stored_study

    database = open_database(storage)
    for found in [stored_study(database, name) for name in study]:
        keys = Ledger(database, found.id).retry()
        say(f"{found.name}: {len(keys)} failed configurations to be tried again")


def reproduce(
    quick: Annotated[
        bool, typer.Option("--quick", help="A slice of each grid, with the paper's configuration in it.")
    ] = False,
    workers: Workers = None,
    storage: Storage = DEFAULT_STORAGE,
    data: DataKind = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    models: Models = None,
    no_models: NoModels = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The main job: search the paper's four studies, evaluate the best of each and the paper's own, print Table 1."""
    from pairsearch.search.cli.reproduce import QUICK_LIMIT, study_names

    limit = QUICK_LIMIT if quick else None
    names = study_names()
    here = machine(None, data, data_dir, device=device)
    run_search(storage, names, here, workers, limit, quiet=quiet, as_json=as_json)
    if quick:
        tell = teller(error=as_json, quiet=quiet)
        tell(f"searched a slice: {QUICK_LIMIT} configurations of each study, the paper's own among them")
    # `data` is left out, because the studies are bound to their data by now.
    here = machine(None, None, data_dir, device=device)
    by: tuple[By, ...] = ("search", "paper")
    run_evaluation(storage, names, here, models, no_models, quiet=quiet, as_json=as_json, by=by, limit=limit)


def run_search(
    storage: str,
    given: list[str],
    machine: Machine,
    workers: int | None,
    limit: int | None,
    *,
    quiet: bool,
    as_json: bool,
) -> tuple[Database, list[StoredStudy]]:
    """Create the studies and run workers over them; return the database and the studies."""
    from pairsearch.search.cli.progress import SearchProgress
    from pairsearch.search.setup import opening
    from pairsearch.search.workers.searching import search
    from pairsearch.search.workers.signals import interrupted_by_signals

    made = opening.create(storage, given, machine, teller(error=as_json, quiet=quiet))
    stored = [creation.study for creation in made.creations]
    shown = SearchProgress(console(error=as_json, quiet=quiet))
    with interrupted_by_signals(), shown:
        search(
            made.database,
            stored,
            made.given,
            machine,
            workers,
            limit=limit,
            on_progress=shown.update,
            complain=teller(error=True),
        )
    return made.database, stored
