"""Command that asks before anything is spent: check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from pairsearch.search.checks import Check
from pairsearch.search.cli.terminal import (
    DEFAULT_STORAGE,
    LARGEST,
    AsJson,
    DataDir,
    DataKind,
    Device,
    Storage,
    Workers,
    print_json,
    show_checks,
)


def check(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A shipped study, one in the database, or a .toml file."),
    ],
    points: Annotated[int, typer.Option(min=1, max=LARGEST, help="How many are trained.")] = 8,
    workers: Workers = None,
    storage: Storage = DEFAULT_STORAGE,
    data: DataKind = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    as_json: AsJson = False,
    measure: Annotated[
        bool, typer.Option("--measure", hidden=True, help="Be the fresh process that is measured.")
    ] = False,
) -> None:
    """Train a few points for two epochs: do they give the same bits wherever they train, what does the whole grid cost?

    Nothing is stored. Exits 1 if something is wrong.
    """
    from pairsearch.search.database.connection import find_database
    from pairsearch.search.setup.creation import check_trainable
    from pairsearch.search.setup.opening import DataChoice, check_device, definitions_of, load_source
    from pairsearch.search.workers import rehearsal
    from pairsearch.search.workers.rehearsal import Rehearsal
    from pairsearch.search.workers.searching import usual_workers

    check_device(device)
    database = find_database(storage)
    (definition,) = definitions_of(database, [study])
    source, kind = load_source(database, [definition], DataChoice(data, data_dir))
    check_trainable(definition, source)
    rehearsed = Rehearsal(definition, source, points, device)
    if measure:
        print_json(asdict(rehearsed.measure()))
        return

    def checks() -> Iterator[Check]:
        grid = definition.grid.configurations()
        yield Check(
            "definition",
            good=True,
            finding=f"{len(grid):,} configurations, {definition.folds} folds, {definition.epochs} epochs, "
            f"data {source.name}",
        )
        elsewhere = rehearsal.measure_elsewhere(study, kind, data_dir, points, device)
        yield Check(
            "training", good=True, finding=f"{len(elsewhere.seconds)} points, {rehearsed.epochs} epochs each"
        )
        yield from rehearsed.checks(elsewhere, workers or usual_workers(device))

    show_checks(checks(), as_json=as_json, wrong="WARN")
