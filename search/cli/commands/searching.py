"""The commands `create`, `run`, `stop`, `retry` and `reproduce`, which search."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from pairsearch.search.cli import options, tables
from pairsearch.search.cli.commands.evaluating import run_evaluation
from pairsearch.search.cli.progress import SearchProgress
from pairsearch.search.cli.streams import print_json, say, teller
from pairsearch.search.cli.terminal import console
from pairsearch.search.cli.training import Training, cluster_named
from pairsearch.search.common.errors import InputError
from pairsearch.search.common.machine import LEASE_SECONDS
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import JobState
from pairsearch.search.engines.fleet import search_on
from pairsearch.search.engines.orders import order_for
from pairsearch.search.engines.standing import stop_all
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.progress import ended_without, progress_within
from pairsearch.search.results.ranking import ranked_within
from pairsearch.search.setup import opening
from pairsearch.search.tracking.exporting import Target
from pairsearch.search.tracking.following import followed
from pairsearch.search.workers.searching import search
from pairsearch.search.workers.signals import interrupted_by_signals
from pairsearch.studies import reproduction as main_job


def create(
    study: options.Studies,
    storage: options.Storage = options.DEFAULT_STORAGE,
    setting: options.Set = None,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    say = teller(error=as_json, quiet=quiet)
    creations = opening.check(storage, study, options.machine(setting, data, data_dir), say).create()
    for creation in creations:
        what = "created" if creation.created else "was there"
        restored = f", {creation.restored} trials of Optuna's restored" if creation.restored else ""
        say(f"{creation.study.name}: {what}, {creation.inserted} configurations inserted{restored}")
    if as_json:
        print_json(
            [
                {"study": made.study.name} | tables.picked(made, "created", "inserted", "restored")
                for made in creations
            ]
        )


def run(
    study: options.Studies,
    workers: options.Workers = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    setting: options.Set = None,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    limit: options.Limit = None,
    device: options.Device = "cpu",
    gpus: options.Gpus = None,
    per_gpu: options.PerGpu = None,
    checkpoints: options.Checkpoints = None,
    models: options.LargeModels = None,
    lease: options.Lease = LEASE_SECONDS,
    to: options.To = None,
    on: options.On = None,
    at: options.At = None,
    option: options.EngineOption = None,
    detach: options.Detach = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    cluster = cluster_named(on, at, option, workers, detach=detach, gpus=bool(gpus or per_gpu))
    here = options.machine(
        setting,
        data,
        data_dir,
        device=device,
        lease=lease,
        checkpoints=checkpoints,
        models=models,
        gpus=gpus,
        per_gpu=per_gpu,
    )
    training = Training(storage, here, cluster, quiet=quiet, as_json=as_json)
    database, studies = run_search(training, study, workers, limit, Target.all_of(to or []))
    if training.detached and not as_json:
        return
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


def stop(
    study: options.Studies,
    storage: options.Storage = options.DEFAULT_STORAGE,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget", help="Count workers as ended that their cluster cannot end: it is gone for good."
        ),
    ] = False,
) -> None:
    """A worker reads it when it renews a lease, four times in its length, and ends when its problem reports next. It
    works where signals do not. Workers that `--on` submitted are then ended by their engine too, and the command waits
    until they have. `run`, `worker` and `evaluate` begin again.
    """
    database, stored = opening.open_stored(storage, study)
    for found in stored:
        ledger = Ledger(database, found)
        ledger.stop()
        say(f"{found.name}: told to stop; {ledger.jobs_left(JobState.RUNNING)} jobs are in hand")
    stop_all(database, stored, say, forget=forget)


def retry(study: options.Studies, storage: options.Storage = options.DEFAULT_STORAGE) -> None:
    database, stored = opening.open_stored(storage, study)
    for found in stored:
        keys = Ledger(database, found).retry()
        say(f"{found.name}: {len(keys)} failed configurations to be tried again")


def reproduce(
    quick: Annotated[
        bool, typer.Option("--quick", help="A slice of each grid, with the paper's configuration in it.")
    ] = False,
    workers: options.Workers = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    data: options.DataKind = None,
    data_dir: options.DataDir = None,
    device: options.Device = "cpu",
    models: options.Models = None,
    no_models: options.NoModels = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    limit = main_job.QUICK_LIMIT if quick else None
    names = main_job.study_names()
    here = options.machine(None, data, data_dir, device=device)
    training = Training(storage, here, quiet=quiet, as_json=as_json)
    database, _ = run_search(training, names, workers, limit)
    database.close()  # workers of the evaluation are forked too
    if quick:
        training.say(
            f"searched a slice: {main_job.QUICK_LIMIT} configurations of each study, the paper's own among them"
        )
    # `data` is left out, because the studies are bound to their data by now.
    here = options.machine(None, None, data_dir, device=device)
    training = Training(storage, here, quiet=quiet, as_json=as_json)
    run_evaluation(training, names, ("search", "paper"), workers, models, no_models, limit=limit)


def run_search(
    training: Training,
    given: list[str],
    workers: int | None,
    limit: int | None,
    targets: Sequence[Target] = (),
) -> tuple[Database, list[StoredStudy]]:
    """Create the studies and have workers search them, exporting to trackers; return the database and the studies.

    Raises:
        InputError: there are trackers to follow, and nobody follows a cluster that is detached from.
    """
    cluster, order = training.cluster, None
    if targets and training.detached:
        raise InputError(
            "--to and --detach: nobody exports while nobody follows: use `pairsearch export STUDY --to` later"
        )
    checked = training.check(given)
    database = checked.database
    if cluster is not None:
        order = order_for(cluster, database.url, checked.given, checked.loaded, training.theirs, limit)
    stored = [creation.study for creation in checked.create()]
    shown, complain = SearchProgress(training.console), teller(error=True)
    following = followed(targets, database, stored, shown.update, complain)
    with interrupted_by_signals(), following as update, nullcontext() if training.detached else shown:
        told: dict[str, Any] = {"limit": limit, "on_progress": update, "complain": complain}
        if cluster is not None and order is not None:
            search_on(cluster, order, database, stored, say=training.say, **told)
        else:
            zygote = training.zygote
            search(database, stored, checked.given, training.machine, workers, zygote=zygote, **told)
    return database, stored
