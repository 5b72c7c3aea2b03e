"""Command that asks before anything is spent: check."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pairsearch.search import machine
from pairsearch.search.cli.terminal import (
    DEFAULT_STORAGE,
    LARGEST,
    AsJson,
    DataDir,
    DataKind,
    Device,
    Storage,
    Workers,
    console,
    print_json,
)
from pairsearch.search.errors import ExitCode


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
    from pairsearch.search.workers.rehearsal import Finding, Rehearsal

    check_device(device)
    database = find_database(storage)
    (definition,) = definitions_of(database, [study])
    source, kind = load_source(database, [definition], DataChoice(data, data_dir))
    check_trainable(definition, source)
    rehearsed = Rehearsal(definition, source, points, device)
    if measure:
        print_json(asdict(rehearsed.measure()))
        return
    grid = definition.grid.configurations()
    held = f"{len(grid):,} configurations, {definition.folds} folds, {definition.epochs} epochs, data {source.name}"
    findings = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            mark = {None: "    ", True: "ok  ", False: "WARN"}[finding.good]
            console().print(
                f"{mark} {finding.name}: {finding.text}", markup=False, highlight=False, soft_wrap=True
            )

    tell(Finding("definition", good=True, text=held))
    elsewhere = rehearsal.measure_elsewhere(study, kind, data_dir, points, device)
    tell(
        Finding(
            "training", good=True, text=f"{len(elsewhere.seconds)} points, {rehearsed.epochs} epochs each"
        )
    )
    for finding in rehearsed.findings(elsewhere, workers or machine.cores()):
        tell(finding)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.good is False for finding in findings):
        raise typer.Exit(ExitCode.WORK_FAILED)
