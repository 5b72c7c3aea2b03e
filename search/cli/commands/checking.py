"""The command `check`, which tests a definition before it is searched."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pairsearch.search.cli.terminal import (
    DEFAULT_STORAGE,
    LARGEST,
    AsJson,
    DataDir,
    DataKind,
    Device,
    Set,
    Storage,
    Workers,
    machine,
    print_json,
    show_checks,
)


def check(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A shipped study, one in the database, or a .toml file."),
    ],
    points: Annotated[int, typer.Option(min=1, max=LARGEST, help="How many points are trained.")] = 8,
    workers: Workers = None,
    storage: Storage = DEFAULT_STORAGE,
    setting: Set = None,
    data: DataKind = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    as_json: AsJson = False,
    measure: Annotated[
        bool, typer.Option("--measure", hidden=True, help="Run as the new process that is measured.")
    ] = False,
) -> None:
    """Train a few points for two epochs: do they give the same bits wherever they train, what does the whole grid cost?

    Nothing is stored. Exits 1 if something is wrong.
    """
    from pairsearch.search.database.connection import find_database
    from pairsearch.search.workers.rehearsal import measure_here, rehearse

    here, database = machine(setting, data, data_dir, device=device), find_database(storage)
    if measure:
        print_json(asdict(measure_here(database, study, here, points)))
    else:
        show_checks(rehearse(database, study, here, points, workers), as_json=as_json, wrong="WARN")
