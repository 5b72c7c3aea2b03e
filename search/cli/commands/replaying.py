"""The command `replay`, which searches a finished study again from its table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.progress import steps
from pairsearch.search.cli.sheet import Sheet
from pairsearch.search.cli.streams import print_json
from pairsearch.search.cli.terminal import console
from pairsearch.search.common.errors import StudyError
from pairsearch.search.replay import targets
from pairsearch.search.replay.searches import losses, quantiles, test_figure
from pairsearch.search.replay.simulation import (
    Pruner,
    Replay,
    Sampler,
    Stopping,
    check_searchable,
    measure_stopping,
)
from pairsearch.search.replay.simulation import replay as search
from pairsearch.search.replay.stopping import RULES
from pairsearch.search.replay.targets import SHARES, Needed, needed
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import DASH, duration, figure, headed
from pairsearch.search.results.progress import read_progress
from pairsearch.search.results.study_table import StudyTable, read_table
from pairsearch.search.setup.opening import open_stored
from pairsearch.studies.intervals import FloatArray

BY: tuple[Field[Any], ...] = (
    Field("sampler", lambda one: one.replay.sampler, right=False),
    Field("pruner", lambda one: one.replay.pruner, right=False, constant_below=True),
)
"""Columns that say what searched."""
# More would not fit into memory on large grids.
MOST_SEARCHES = 100_000


def all_finite(values: list[float] | None) -> list[float] | None:
    """Refuse NaN and infinity (Typer's callback)."""
    if values and not all(map(math.isfinite, values)):
        raise typer.BadParameter("expected finite numbers")
    return values


def replay(
    study: options.StoredStudy,
    sampler: Annotated[
        list[Sampler] | None,
        typer.Option(
            metavar="|".join(Sampler),
            help="What proposes configurations. Repeat it for several.",
            show_default="all",
        ),
    ] = None,
    pruner: Annotated[
        list[Pruner] | None,
        typer.Option(
            metavar="|".join(Pruner),
            help="What stops configurations early. Repeat it for several.",
            show_default="none",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        options.count(
            help="Searches by each sampler, each with a seed of its own.",
            default="1000 random, 20 tpe, 3 gp",
            most=MOST_SEARCHES,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        options.count(
            help="Trials of each search.", default="all; of tpe 100 and of gp 40, or half of the grid"
        ),
    ] = None,
    regret: Annotated[
        list[float] | None,
        typer.Option(
            metavar="NUMBER",
            min=0,
            callback=all_finite,
            help="How close to the best the choice has to be. Repeat it for several.",
            show_default="0, a half and one standard error of the best",
        ),
    ] = None,
    orders: Annotated[
        int,
        options.count(
            help="Random orders in which early stopping is tried; 0 for none.", least=0, most=MOST_SEARCHES
        ),
    ] = 100,
    storage: options.Storage = options.DEFAULT_STORAGE,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Configurations come in the order of each sampler, each at most once, with their results from the study's table.
    Those that diverged, failed or were pruned are left out. Equal arguments give equal results.
    """
    with steps(console(error=True, quiet=quiet)) as tell:
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
    screen.print(needed_table(table, replays, regrets))
    screen.print(after_table(table, replays))
    if stopped:
        screen.print(stopping_table(table, stopped))


def _table(study: str, storage: str) -> StudyTable:
    database, (found,) = open_stored(storage, [study])
    if left := read_progress(database, found).open:
        raise StudyError(
            f"study {found.name} is not complete: {left} configurations are still to be trained: "
            f"`pairsearch run {found.name}` trains them"
        )
    return read_table(database, found)


def _reached(number: float, shown: Callable[[float], str]) -> str:
    return shown(number) if math.isfinite(number) else DASH


def _regret(table: StudyTable, regret: float) -> str:
    return _reached(regret, partial(figure, table.metric))


def _trials(one: Needed, place: int) -> str:
    trials = one.trials[place]
    return f"{trials:.0f}" if math.isfinite(trials) else f"> {one.replay.trials}"


def needed_table(table: StudyTable, replays: Sequence[Replay], regrets: Sequence[float]) -> Sheet[Needed]:
    """Return a table of the trials and the time that searches needed to reach regrets."""
    every, by = len(table.configurations), headed(table.definition.metric, table.metric)
    return Sheet(
        [
            *BY,
            Field("searches", lambda one: str(one.replay.searches)),
            Field("regret at most", lambda one: _regret(table, one.regret)),
            Field("trials, half of the searches", lambda one: _trials(one, 1)),
            Field("trials, 95 % of them", lambda one: _trials(one, 2)),
            Field(
                "half: % of the grid",
                lambda one: _reached(one.trials[1], lambda trials: f"{100 * trials / every:.1f}"),
            ),
            Field("training, half", lambda one: _reached(one.seconds[1], duration)),
            Field("training, 95 %", lambda one: _reached(one.seconds[2], duration)),
        ],
        needed(replays, regrets),
        f"{table.name}: trials until the choice is so close to the best of {every} configurations, by {by}",
        f"{DASH}: not reached, > N: not within the N trials of a search. Training is one core's time, as stored.",
    )


class _After(NamedTuple):
    """The choices of searches after some of their trials."""

    replay: Replay
    trials: int
    regret: FloatArray
    """(3,) quantiles over searches."""
    known: FloatArray
    """(searches that chose an evaluated configuration,) regret on the final figure."""


def _after(table: StudyTable, replays: Sequence[Replay]) -> Iterator[_After]:
    for replay in replays:
        for trials in dict.fromkeys(max(1, round(share * len(table.configurations))) for share in SHARES):
            if trials <= replay.trials:
                test = replay.course.test[:, trials - 1]
                regret = quantiles(replay.course.regret[:, trials - 1])
                yield _After(replay, trials, regret, test[np.isfinite(test)])


def after_table(table: StudyTable, replays: Sequence[Replay]) -> Sheet[_After]:
    """Return a table of the regrets after some of the trials, on the folds and on the final figure."""
    name, caption = test_figure(table), None
    fields: list[Field[_After]] = [
        *BY,
        Field("after trials", lambda one: str(one.trials)),
        Field("regret, median", lambda one: _regret(table, one.regret[1])),
        Field(
            "regret, 90 % band",
            lambda one: f"{_regret(table, one.regret[0])} to {_regret(table, one.regret[2])}",
        ),
    ]
    if name is not None:
        test = table.traits.metrics[name]
        fields += [
            Field(
                f"{headed(name, test)}: regret, median",
                lambda one: figure(test, quantiles(one.known)[1]) if len(one.known) else DASH,
            ),
            Field(
                "known for % of the choices", lambda one: f"{100 * len(one.known) / one.replay.searches:.0f}"
            ),
        ]
        caption = (
            f"Rounds of the final evaluation exist for {losses(table).evaluated} configurations; the regret there is "
            "over the lowest of these."
        )
    by = headed(table.definition.metric, table.metric)
    title = f"{table.name}: how much worse than the best the choice is, by {by}"
    return Sheet(fields, _after(table, replays), title, caption)


def stopping_table(table: StudyTable, stoppings: Sequence[Stopping]) -> Sheet[Stopping]:
    """Return a table of what early stopping saves and loses, for at least one rule."""
    return Sheet(
        [
            Field("pruner", lambda one: one.pruner, right=False),
            Field("setting", lambda one: f"{RULES[one.pruner].what} {one.setting:g}", right=False),
            Field("training saved, %", lambda one: f"{100 * one.saved:.1f}"),
            Field("best lost, %", lambda one: f"{100 * one.lost:.1f}"),
            Field("its 95 % interval", lambda one: " to ".join(f"{100 * end:.1f}" for end in one.interval)),
            Field("regret, median", lambda one: _regret(table, quantiles(one.regret)[1])),
            Field("regret, 95 %", lambda one: _regret(table, quantiles(one.regret)[2])),
        ],
        stoppings,
        f"{table.name}: the whole grid with early stopping, {stoppings[0].searches} random orders of configurations "
        "and folds",
        "Best lost: share of the searches that stopped the best of the table.",
    )
