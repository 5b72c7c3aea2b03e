"""The commands `create`, `worker`, `run`, `retry` and `reproduce`, which search."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pairsearch.search.cli.commands.evaluating import EvaluationOptions, run_evaluation
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
    machine_settings,
    print_json,
    say,
    teller,
)
from pairsearch.search.errors import DatabaseAwayError, ExitCode

if TYPE_CHECKING:
    from pairsearch.search.database.connection import Database
    from pairsearch.search.ledger.studies import StoredStudy


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
    opened = opening.open_to_create(storage, study, machine_settings(setting, data, data_dir), say)
    creations = opening.create_all(opened.database, opened.loaded)
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
    lease: Lease = 60.0,
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
    from pairsearch.search.database.retry import PATIENCE_SECONDS, patiently
    from pairsearch.search.setup import opening
    from pairsearch.search.workers import working
    from pairsearch.search.workers.signals import signals, stop_with_parent
    from pairsearch.search.workers.tally import Tally

    opening.check_device(device)
    settings = machine_settings(setting, data, data_dir)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # psycopg warns about each lost connection, which we report ourselves.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    say = teller(quiet=quiet)
    stopping = threading.Event()
    # At the start, a database that does not answer may be a mistyped URL: a worker retries only if --patience is given.
    seconds = PATIENCE_SECONDS if patience is None else patience
    begin = partial(patiently, seconds=seconds, stopping=stopping, stopping_seconds=0.0)
    tally = Tally()
    with signals(stopping) as caught:
        if attached:
            stop_with_parent(stopping)
        try:
            database = begin(lambda: open_database(storage, waiting=bool(patience)))
            queue = begin(lambda: opening.open_to_work(database, study, settings, say))
        except DatabaseAwayError:
            # After a signal to stop this is no error: the worker has claimed nothing yet.
            if not stopping.is_set():
                raise
        else:
            options = working.WorkerOptions(limit, max_trials, device, lease, seconds)
            tally = working.work(database, queue, options, stopping, say)
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
    lease: Lease = 60.0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Create studies, run worker processes over them with live progress, and print the best."""
    from pairsearch.search.cli import tables
    from pairsearch.search.results.progress import ended_without, progress_within
    from pairsearch.search.results.ranking import ranked_within

    options = SearchOptions(workers, machine_settings(setting, data, data_dir), limit, device, lease)
    database, studies = run_search(storage, study, options, quiet=quiet, as_json=as_json)
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
    options = SearchOptions(workers, machine_settings(None, data, data_dir), limit, device)
    run_search(storage, names, options, quiet=quiet, as_json=as_json)
    if quick:
        tell = teller(error=as_json, quiet=quiet)
        tell(f"searched a slice: {QUICK_LIMIT} configurations of each study, the paper's own among them")
    # `data` is left out, because the studies are bound to their data by now.
    evaluation = EvaluationOptions(
        machine_settings(None, None, data_dir), device, models, no_models, both=True, limit=limit
    )
    run_evaluation(storage, names, evaluation, quiet=quiet, as_json=as_json)


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of a search by worker processes on this machine.

    Args:
        workers: the number of workers; None for one per core.
        settings: settings of this machine for the problems.
        limit: search only the first `limit` configurations of each study's order.
        device: the device to train on, as PyTorch names it.
        lease: seconds without a heartbeat after which a worker's configuration is free again.
    """

    workers: int | None
    settings: Mapping[str, str]
    limit: int | None
    device: str
    lease: float = 60.0


def run_search(
    storage: str, given: list[str], options: SearchOptions, *, quiet: bool, as_json: bool
) -> tuple[Database, list[StoredStudy]]:
    """Create the studies and run workers over them; return the database and the studies."""
    from pairsearch.search.cli.progress import SearchProgress
    from pairsearch.search.setup import opening
    from pairsearch.search.workers.searching import WorkerArguments, search
    from pairsearch.search.workers.signals import interrupted_by_signals

    opening.check_device(options.device)
    say = teller(error=as_json, quiet=quiet)
    opened = opening.open_to_create(storage, given, options.settings, say)
    database = opened.database
    stored = [made.study for made in opening.create_all(database, opened.loaded)]
    arguments = WorkerArguments(
        opened.studies, options.settings, options.limit, options.device, options.lease
    )
    shown = SearchProgress(console(error=as_json, quiet=quiet))
    with interrupted_by_signals(), shown:
        search(
            database,
            stored,
            arguments,
            options.workers,
            on_progress=shown.update,
            complain=teller(error=True),
        )
    return database, stored
