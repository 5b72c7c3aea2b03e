"""The command `replay`, which searches a finished study again from its table."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from pairsearch.search.cli import options, replay_tables
from pairsearch.search.cli.messages import print_json
from pairsearch.search.cli.steps import Steps
from pairsearch.search.cli.terminal import console
from pairsearch.search.common.errors import StudyError
from pairsearch.search.replay import targets
from pairsearch.search.replay.simulation import Pruner, Sampler, check_searchable, measure_stopping
from pairsearch.search.replay.simulation import replay as search
from pairsearch.search.results.progress import read_progress
from pairsearch.search.results.study_table import StudyTable, read_table
from pairsearch.search.setup.opening import open_stored

# More would not fit into memory on large grids.
MOST_SEARCHES = 100_000


def all_finite(values: list[float] | None) -> list[float] | None:
    """Refuse NaN and infinity (Typer's callback)."""
    if values and not all(map(math.isfinite, values)):
        raise typer.BadParameter("expected finite numbers")
    return values


def replay(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study in the database.")],
    sampler: Annotated[
        list[Sampler] | None,
        typer.Option(help="What proposes configurations. Repeat it for several.", show_default="all"),
    ] = None,
    pruner: Annotated[
        list[Pruner] | None,
        typer.Option(help="What stops configurations early. Repeat it for several.", show_default="none"),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_SEARCHES,
            help="Searches by each sampler, each with a seed of its own.",
            show_default="1000 random, 20 tpe, 3 gp",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Trials of each search.",
            show_default="all; of tpe 100 and of gp 40, or half of the grid",
        ),
    ] = None,
    regret: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            callback=all_finite,
            help="How close to the best the choice has to be. Repeat it for several.",
            show_default="0, a half and one standard error of the best",
        ),
    ] = None,
    orders: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_SEARCHES, help="Random orders in which early stopping is tried; 0 for none."
        ),
    ] = 100,
    storage: options.Storage = options.DEFAULT_STORAGE,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Configurations come in the order of each sampler, each at most once, with their results from the study's table.
    Those that diverged, failed or were pruned are left out. Equal arguments give equal results.
    """
    with Steps(console(error=True, quiet=quiet)) as tell:
        tell(f"reading {study}")
        table = _table(study, storage)
        check_searchable(table)
        regrets = regret or targets.usual_regrets(table)
        chosen, rules = dict.fromkeys(sampler or Sampler), dict.fromkeys(pruner or [Pruner.NONE])
        pairs = [(name, rule) for name in chosen for rule in rules]
        replays = [search(table, name, rule, seeds, trials, tell) for name, rule in pairs]
        stopped = list(measure_stopping(table, orders, every=as_json, tell=tell)) if orders else []
    if as_json:
        print_json(
            {
                "study": table.name,
                "metric": table.definition.metric,
                "configurations": len(table.configurations),
                "excluded": table.excluded,
                "replays": [targets.replay_json(table, one, regrets) for one in replays],
                "stopping": [targets.stopping_json(one) for one in stopped],
            }
        )
        return
    screen = console()
    screen.print(replay_tables.needed_table(table, replays, regrets))
    screen.print(replay_tables.after_table(table, replays))
    if stopped:
        screen.print(replay_tables.stopping_table(table, stopped))


def _table(study: str, storage: str) -> StudyTable:
    database, (found,) = open_stored(storage, [study])
    if left := read_progress(database, found).open:
        raise StudyError(
            f"study {found.name} is not complete: {left} configurations are still to be trained: "
            f"`pairsearch run {found.name}` trains them"
        )
    return read_table(database, found)
