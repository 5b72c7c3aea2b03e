"""The command `evaluate`, which runs the final evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.evaluation import evaluator_on, table_1_json, tables_1
from pairsearch.search.cli.forked import zygote
from pairsearch.search.cli.messages import print_json, teller
from pairsearch.search.cli.terminal import console
from pairsearch.search.common.errors import InputError
from pairsearch.search.common.files import shared_folder, usable_folder
from pairsearch.search.common.gpus import variables
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import find_database, open_database
from pairsearch.search.results.evaluations import By
from pairsearch.search.setup import opening
from pairsearch.search.workers import evaluating
from pairsearch.search.workers.models import ModelFolder
from pairsearch.studies.loading import Loaded


def evaluate(
    study: options.Studies,
    top: Annotated[
        int, typer.Option(min=1, max=options.LARGEST, help="How many of the best of each study.")
    ] = 1,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=options.LARGEST,
            help="Rounds for each configuration.",
            show_default="the definition's, 10",
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option("--paper", help="The configurations that the definitions state of a paper instead."),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait", help="Leave the rounds to workers that run elsewhere, and train none here."
        ),
    ] = False,
    workers: options.RoundWorkers = None,
    models: options.Models = None,
    no_models: options.NoModels = False,
    storage: options.Storage = options.DEFAULT_STORAGE,
    setting: options.Set = None,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    device: options.Device = "cpu",
    gpus: options.Gpus = None,
    per_gpu: options.PerGpu = None,
    checkpoints: options.Checkpoints = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """The trained models are kept too, one file for each round, if the problem returns weights."""
    by: tuple[By, ...] = ("paper",) if paper else ("search",)
    here = options.machine(
        setting,
        data,
        data_dir,
        device=device,
        checkpoints=checkpoints,
        gpus=gpus,
        per_gpu=per_gpu,
    )
    run_evaluation(
        storage,
        study,
        here,
        models,
        no_models,
        quiet=quiet,
        as_json=as_json,
        by=by,
        wait=not no_wait,
        workers=workers,
        top=top,
        rounds=rounds,
    )


def run_evaluation(
    storage: str,
    given: list[str],
    machine: Machine,
    named: Path | None,
    no_models: bool,
    *,
    quiet: bool,
    as_json: bool,
    by: Sequence[By],
    wait: bool = True,
    workers: int | None = None,
    **choice: Any,
) -> None:
    """Evaluate studies and print Table 1, or leave the rounds to other workers.

    Args:
        named: the folder for models that was named, or None.
        by: who chooses the configurations; studies that the paper's alone are evaluated of are created.
        **choice: `top`, `limit` and `rounds` of `evaluating.evaluate`.
    """
    say = teller(error=as_json, quiet=quiet)
    if machine.gpus:
        # This process trains as well, on the first of them; CUDA looks when it starts.
        os.environ.update(variables(machine.gpus[0]))
    folder = model_folder(named, no_models, say)
    loaded: dict[str, Loaded] = {}
    forking = zygote(loaded, machine.device)
    if "search" in by:
        database = open_database(storage)
        known = opening.look_stored_up(database, given)
    else:
        for looked_up in opening.look_all_up(find_database(storage), given):
            evaluating.paper_configuration(looked_up.definition)
        made = opening.create(storage, given, machine, say)
        database, known = made.database, made.given
        loaded.update(made.loaded)
    models = None if folder is None else ModelFolder(folder)
    machine = replace(machine, models=shared_folder(folder))
    keep = {"models": models, "again": named is not None, "wait": wait}
    train = {"workers": workers, "zygote": forking}
    with evaluator_on(machine, console(error=as_json, quiet=quiet), **keep, **train) as evaluator:
        rows = evaluating.evaluate(database, known, evaluator, by=by, loaded=loaded, say=say, **choice)
    if as_json:
        print_json(table_1_json(rows))
    elif wait:
        for table in tables_1(rows):
            console().print(table)


def model_folder(given: Path | None, none: bool, say: Callable[[str], None]) -> Path | None:
    """Return the folder for models: the one that was named, else the default if it is writable.

    Raises:
        InputError: the named folder cannot be used, or both options were given.
    """
    if none:
        if given is not None:
            raise InputError("--models and --no-models: give one of them")
        return None
    try:
        return usable_folder(given or options.DEFAULT_MODELS)
    except InputError as error:
        if given is not None:
            raise
        # The evaluation goes on without models: the working directory of a container may be read-only.
        say(f"trained models are not kept: {error}; name a folder by --models")
        return None
