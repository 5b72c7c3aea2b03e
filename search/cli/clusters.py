"""What `run --on` and `evaluate --on` do: studies are checked and created here, and trained by a cluster's workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import typer
from rich.text import Text

from pairsearch.search.cli.progress import SearchProgress
from pairsearch.search.cli.streams import teller
from pairsearch.search.cli.training import Training
from pairsearch.search.common.errors import InputError
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.engines.contract import Order, engine_named
from pairsearch.search.engines.fleet import Cluster, evaluate_on, search_on
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.setup import opening
from pairsearch.search.setup.arguments import StudyArgument
from pairsearch.search.tracking.exporting import Target
from pairsearch.search.tracking.following import followed
from pairsearch.search.workers.signals import interrupted_by_signals
from pairsearch.studies.loading import Loaded


def named(
    on: str | None,
    at: str | None,
    texts: Sequence[str] | None,
    workers: int | None,
    *,
    detach: bool,
    gpus: bool,
) -> Cluster | None:
    """Return the cluster that the options of a command name, None without `--on`.

    Args:
        gpus: whether GPUs of this machine were named.

    Raises:
        InputError: there is no such engine, or it has no such option.
    """
    if on is None:
        if at is not None or texts or detach:
            raise InputError("--at, --option and --detach belong to --on ENGINE, which was not given")
        return None
    if workers is None:
        raise InputError(f"--on {on}: say how many workers it is to start, by --workers N")
    if gpus:
        raise InputError(
            f"--on {on}: --gpus and --per-gpu are for this machine; an engine places its own workers"
        )
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, _, value = text.partition("=")
        if not name or not value:
            raise typer.BadParameter(f"--option {text}: expected NAME=VALUE")
        pairs[name] = value
    also = tuple(filter(None, pairs.pop("files", "").split(",")))
    return Cluster(engine_named(on, at, pairs), workers, also, detach)


def search_there(
    training: Training, cluster: Cluster, given: list[str], limit: int | None, targets: Sequence[Target] = ()
) -> tuple[Database, list[StoredStudy]]:
    """Create the studies and have them searched on a cluster; return the database and the studies.

    Raises:
        InputError: there are trackers to follow, and nobody follows a cluster that is detached from.
    """
    if targets and cluster.detach:
        raise InputError(
            "--to and --detach: nobody exports while nobody follows: use `pairsearch export STUDY --to` later"
        )
    theirs = _leave_device(training)
    orders: list[Order] = []

    def check(database: Database, studies: list[StudyArgument], loaded: dict[str, Loaded]) -> None:
        orders.append(cluster.order(database.url, studies, loaded, theirs, limit))

    made = training.create(given, check)
    stored = [creation.study for creation in made.creations]
    shown = SearchProgress(training.console)
    complain = teller(error=True)
    following = followed(targets, made.database, stored, shown.update, complain)
    with interrupted_by_signals(), following as update, nullcontext() if cluster.detach else shown:
        search_on(
            cluster,
            orders[0],
            made.database,
            stored,
            limit=limit,
            on_progress=update,
            say=training.say,
            complain=complain,
        )
    return made.database, stored


def trained_there(
    training: Training, cluster: Cluster, database: Database, known: Sequence[StudyArgument]
) -> Callable[[], bool]:
    """Ask whether a cluster would take workers for rounds of studies, before any is asked for.

    Returns:
        What has the rounds trained there that were asked for meanwhile, and says whether it waited for them.
    """
    theirs = _leave_device(training)
    for one in known:
        if one.name not in training.loaded:
            training.loaded[one.name] = opening.load(database, one, training.machine, training.say)
    order = cluster.order(database.url, known, training.loaded, theirs, 0)

    def trained() -> bool:
        stored = [get_study(database, one.name) for one in known]
        with training.console.status(Text("")) as status:

            def show(left: int) -> None:
                status.update(Text(f"{left} rounds are left"))

            evaluate_on(cluster, order, database, stored, on_progress=show, say=training.say)
        return not cluster.detach

    return trained


def _leave_device(training: Training) -> Machine:
    """Have this process use the CPU, as the machine that submits may lack the workers' device; return theirs."""
    theirs = training.machine
    training.machine = replace(theirs, device="cpu", gpus=())
    return theirs
