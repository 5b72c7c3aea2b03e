"""The command `evaluate`, which runs the final evaluation."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pairsearch.search.cli import options
from pairsearch.search.cli.streams import print_json
from pairsearch.search.cli.tables import table_1_json, tables_1
from pairsearch.search.cli.terminal import console
from pairsearch.search.cli.training import Training, cluster_named
from pairsearch.search.common.errors import InputError
from pairsearch.search.common.files import shared_folder
from pairsearch.search.common.gpus import take_first
from pairsearch.search.database.connection import find_database, open_database
from pairsearch.search.engines.fleet import evaluate_on
from pairsearch.search.engines.orders import order_for
from pairsearch.search.results.evaluations import By, TableRow
from pairsearch.search.setup.arguments import look_all_up, look_stored_up
from pairsearch.search.workers import evaluating
from pairsearch.search.workers.models import ModelFolder


def evaluate(
    study: options.Studies,
    top: Annotated[int, options.count(help="How many of the best of each study.")] = 1,
    rounds: Annotated[
        int | None, options.count(help="Rounds for each configuration.", default="the definition's, 10")
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
    on: options.On = None,
    at: options.At = None,
    option: options.EngineOption = None,
    detach: options.Detach = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """The trained models are kept too, one file for each round, if the problem returns weights."""
    here = options.machine(
        setting,
        data,
        data_dir,
        device=device,
        checkpoints=checkpoints,
        gpus=gpus,
        per_gpu=per_gpu,
    )
    cluster = cluster_named(on, at, option, workers, detach=detach, gpus=bool(gpus or per_gpu))
    if no_wait and cluster is not None:
        raise InputError(
            "--no-wait leaves rounds to workers that run, and --on submits some: give one of them"
        )
    training = Training(storage, here, cluster, quiet=quiet, as_json=as_json)
    by: By = "paper" if paper else "search"
    run_evaluation(
        training, study, [by], workers, models, no_models, wait=not no_wait, rounds=rounds, top=top
    )


def run_evaluation(
    training: Training,
    given: list[str],
    by: Sequence[By],
    workers: int | None,
    models: Path | None,
    no_models: bool,
    *,
    wait: bool = True,
    rounds: int | None = None,
    **choice: Any,
) -> None:
    """Evaluate studies and print Table 1, or leave the rounds to other workers; `choice` is for `evaluating.choose`.

    Studies of which only the paper's configurations are evaluated are created.
    """
    take_first(training.machine.gpus)
    keep = model_folder(models, no_models, training.say)
    if "search" in by:
        database = open_database(training.storage)
        known = look_stored_up(database, given)
    else:
        for looked_up in look_all_up(find_database(training.storage), given):
            evaluating.paper_configuration(looked_up.definition)
        checked = training.check(given)
        checked.create()
        database, known = checked.database, checked.given
    training.machine = replace(training.machine, models=None if keep is None else keep.absolute)
    cluster, loaded, say = training.cluster, training.loaded, training.say
    rows: list[TableRow] = []
    with training.evaluator(models=keep, again=models is not None, workers=workers) as evaluator:
        chosen = evaluating.choose(database, known, training.machine, loaded, by=by, say=say, **choice)
        if cluster is not None:
            # Workers elsewhere may not see the default folder.
            theirs = replace(training.theirs, models=shared_folder(models))
            order = order_for(cluster, database.url, known, loaded, theirs, 0)
            evaluating.ask(database, chosen, rounds)
            with training.console.status(Text("")) as status:

                def show(left: int) -> None:
                    status.update(Text(f"{left} rounds are left"))

                studies = [choice.study for choice in chosen]
                evaluate_on(cluster, order, database, studies, on_progress=show, say=say)
            if not cluster.detach:
                # Nobody else has to train here.
                there = replace(evaluator, stored="all stored")
                rows = evaluating.complete(database, chosen, (), loaded, there, rounds)
        elif wait:
            rows = evaluating.evaluate(database, chosen, known, loaded, evaluator, rounds)
        elif evaluating.ask(database, chosen, rounds, leave=say):
            # As they were given here: a problem of one's own needs the file of its study.
            say(f"`pairsearch worker {shlex.join(one.text for one in known)}` trains them")
    if training.as_json:
        print_json(table_1_json(rows))
        return
    for table in tables_1(rows):
        console().print(table)


def model_folder(given: Path | None, none: bool, say: Callable[[str], None]) -> ModelFolder | None:
    """Return the folder for models: the one that was named, else the default if it is writable."""
    if none:
        if given is not None:
            raise InputError("--models and --no-models: give one of them")
        return None
    try:
        return ModelFolder(given or options.DEFAULT_MODELS)
    except InputError as error:
        if given is not None:
            raise
        # The evaluation goes on without models: the working directory of a container may be read-only.
        say(f"trained models are not kept: {error}; name a folder by --models")
        return None
