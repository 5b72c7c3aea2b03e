"""The command `evaluate`, which runs the final evaluation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search import machine
from pairsearch.search.cli.terminal import (
    DEFAULT_MODELS,
    DEFAULT_STORAGE,
    LARGEST,
    AsJson,
    DataDir,
    DataKind,
    Device,
    Models,
    NoModels,
    Quiet,
    Set,
    Storage,
    Studies,
    console,
    machine_settings,
    print_json,
    teller,
)


def evaluate(
    study: Studies,
    top: Annotated[int, typer.Option(min=1, max=LARGEST, help="How many of the best of each study.")] = 1,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1, max=LARGEST, help="Rounds for each configuration.", show_default="the definition's, 10"
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option("--paper", help="The configurations that the definitions state of a paper instead."),
    ] = False,
    models: Models = None,
    no_models: NoModels = False,
    storage: Storage = DEFAULT_STORAGE,
    setting: Set = None,
    data: DataKind = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train the best configurations afresh, ten rounds each, and print a table of them; finished rounds are kept.

    The trained models are kept too, one file for each round, if the problem returns weights.
    """
    options = EvaluationOptions(
        machine_settings(setting, data, data_dir), device, models, no_models, top, rounds, paper
    )
    run_evaluation(storage, study, options, quiet=quiet, as_json=as_json)


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Options of an evaluation of several studies.

    Args:
        settings: settings of this machine for the problems.
        device: the device to train on, as PyTorch names it.
        models: the folder for models that was named, or None.
        no_models: whether to keep no models.
        top: evaluate this many of the best configurations of each study.
        rounds: the number of rounds for each configuration; None for the number in each definition.
        paper: whether to evaluate the paper's configurations instead of the best.
        both: whether to evaluate the best and then the paper's configurations.
        limit: choose only among the first `limit` configurations of each study's order.
    """

    settings: Mapping[str, str]
    device: str
    models: Path | None
    no_models: bool
    top: int = 1
    rounds: int | None = None
    paper: bool = False
    both: bool = False
    limit: int | None = None


def run_evaluation(
    storage: str, given: list[str], options: EvaluationOptions, *, quiet: bool, as_json: bool
) -> None:
    """Evaluate studies and print Table 1."""
    from pairsearch.search.cli import tables
    from pairsearch.search.cli.steps import watch_on
    from pairsearch.search.database.connection import find_database, open_database
    from pairsearch.search.evaluation import evaluating
    from pairsearch.search.evaluation.models import ModelFolder
    from pairsearch.search.ledger.studies import get_study
    from pairsearch.search.setup import opening
    from pairsearch.search.workers.signals import signals

    opening.check_device(options.device)
    say = teller(error=as_json, quiet=quiet)
    folder = model_folder(options.models, options.no_models, say)
    models = None if folder is None else ModelFolder(folder)
    if options.paper:
        for looked_up in opening.look_all_up(find_database(storage), given):
            evaluating.paper_configuration(looked_up.definition)
        opened = opening.open_to_create(storage, given, options.settings, say)
        database, loaded = opened.database, opened.loaded
        opening.create_all(database, loaded)
        names = [one.definition.name for one in loaded]
    else:
        database = open_database(storage)
        known = opening.look_stored_up(database, given)
        names = [looked_up.name for looked_up in known]
    # Everything is checked that can be before data are loaded, or even downloaded.
    stored = [get_study(database, name) for name in names]
    chosen = [
        evaluating.Chosen(
            "paper" if paper else "search",
            study,
            evaluating.configurations_to_evaluate(
                database, study, top=options.top, paper=paper, limit=options.limit
            ),
        )
        for paper in ((False, True) if options.both else (options.paper,))
        for study in stored
    ]
    if not options.paper:
        loaded = [opening.load(database, looked_up, options.settings, say) for looked_up in known]
    from pairsearch.search.setup.creation import existing

    for one in loaded:
        existing(database, one)

    stopping, screen = threading.Event(), console(error=as_json, quiet=quiet)
    with signals(stopping):
        evaluator = evaluating.Evaluator(
            device=options.device,
            threads=machine.cores(),
            stopping=stopping,
            watch=watch_on(screen),
            say=lambda line: screen.print(line, highlight=False, soft_wrap=True, markup=False),
            models=models,
            again=options.models is not None,
        )
        problems = {one.definition.name: one for one in loaded}
        rows = evaluating.evaluate_studies(database, chosen, problems, evaluator, options.rounds)
    if as_json:
        print_json(tables.table_1_json(rows))
    else:
        for table in tables.tables_1(rows):
            console().print(table)


def model_folder(given: Path | None, none: bool, say: Callable[[str], None]) -> Path | None:
    """Return the folder for models: the one that was named, else the default if it is writable.

    Raises:
        InputError: the named folder cannot be used, or both options were given.
    """
    from pairsearch.search.errors import InputError
    from pairsearch.search.files import usable_folder

    if none:
        if given is not None:
            raise InputError("--models and --no-models: give one of them")
        return None
    try:
        return usable_folder(given or DEFAULT_MODELS)
    except InputError as error:
        if given is not None:
            raise
        # The evaluation goes on without models: the working directory of a container may be read-only.
        say(f"trained models are not kept: {error}; name a folder by --models")
        return None
