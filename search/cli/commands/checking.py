"""The command `check`, which tests a definition before it is searched."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.streams import print_json
from pairsearch.search.cli.terminal import show_checks
from pairsearch.search.database.connection import find_database
from pairsearch.search.workers.rehearsal import measure_here, rehearse


def check(
    study: options.Study,
    points: Annotated[int, options.count(help="How many points are trained.")] = 8,
    workers: options.Workers = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    setting: options.Set = None,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    device: options.Device = "cpu",
    as_json: options.AsJson = False,
    measure: Annotated[
        bool, typer.Option("--measure", hidden=True, help="Run as the new process that is measured.")
    ] = False,
) -> None:
    """Nothing is stored. Exits 1 if something is wrong."""
    here, database = options.machine(setting, data, data_dir, device=device), find_database(storage)
    if measure:
        print_json(asdict(measure_here(database, study, here, points)))
    else:
        show_checks(rehearse(database, study, here, points, workers), as_json=as_json, wrong="WARN")
