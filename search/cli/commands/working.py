"""The command `worker`, which is one worker."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.streams import teller
from pairsearch.search.common.errors import DatabaseAwayError, ExitCode
from pairsearch.search.common.machine import LEASE_SECONDS
from pairsearch.search.database.connection import open_database
from pairsearch.search.database.retry import patiently
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.setup import opening
from pairsearch.search.workers import working
from pairsearch.search.workers.signals import signals, stop_with_parent
from pairsearch.search.workers.tally import Tally


def worker(
    study: options.Studies,
    storage: options.Storage = options.DEFAULT_STORAGE,
    setting: options.Set = None,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    max_trials: Annotated[
        int | None, options.count(help="End after N configurations.", default="no end")
    ] = None,
    limit: options.Limit = None,
    rounds: Annotated[bool, typer.Option("--rounds", help="Only rounds that `evaluate` asked for.")] = False,
    device: options.Device = "cpu",
    checkpoints: options.Checkpoints = None,
    models: options.LargeModels = None,
    lease: options.Lease = LEASE_SECONDS,
    patience: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            callback=options.a_number,
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
    submitted: Annotated[
        bool,
        typer.Option(
            "--submitted",
            hidden=True,
            help="End where the study was stopped, as the workers of `run --on` do.",
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    here = options.machine(
        setting, data, data_dir, device=device, lease=lease, threads=1, checkpoints=checkpoints, models=models
    )
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
            if not (attached or submitted):
                for stored, _ in queue:
                    begin(Ledger(database, stored).go_on)
            first = 0 if rounds else limit
            tally = working.work(database, queue, here, stopping, say, limit=first, max_trials=max_trials)
    say(
        f"worker ends: {tally.finished} finished, {tally.handed_back} handed back, {tally.superseded} superseded, "
        f"{tally.failed} failed" + (f", {tally.rounds} rounds" if tally.rounds else "")
    )
    if signal.SIGINT in caught:
        raise typer.Exit(ExitCode.INTERRUPTED)
    # `run` reads from the database what failed.
    if tally.failed and not attached:
        raise typer.Exit(ExitCode.WORK_FAILED)
