"""Tables for terminals about a study that was searched again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pairsearch.search.cli.sheet import Field, Sheet
from pairsearch.search.replay.searches import losses, quantiles, test_figure
from pairsearch.search.replay.simulation import Replay, Stopping
from pairsearch.search.replay.stopping import RULES
from pairsearch.search.replay.targets import SHARES
from pairsearch.search.results.formatting import DASH, duration, figure, headed
from pairsearch.search.results.study_table import StudyTable


def _regret(table: StudyTable, regret: float) -> str:
    return figure(table.metric, regret) if math.isfinite(regret) else DASH


def _title(table: StudyTable) -> str:
    return headed(table.definition.metric, table.metric)


def needed_table(table: StudyTable, replays: Sequence[Replay], regrets: Sequence[float]) -> Sheet:
    """Return a table of the trials and the time that searches needed to reach regrets."""
    rows = []
    for replay in replays:
        for regret in regrets:
            trials, seconds = replay.course.needed(regret)
            half, most = quantiles(trials)[1:]
            half_time, most_time = quantiles(seconds)[1:]
            rows.append(
                [
                    replay.sampler,
                    replay.pruner,
                    str(replay.searches),
                    _regret(table, regret),
                    _trials(half, replay),
                    _trials(most, replay),
                    _share(half, len(table.configurations)),
                    duration(half_time) if math.isfinite(half_time) else DASH,
                    duration(most_time) if math.isfinite(most_time) else DASH,
                ]
            )
    return Sheet(
        [
            Field("sampler", right=False),
            Field("pruner", right=False, constant_below=True),
            Field("searches"),
            Field("regret at most"),
            Field("trials, half of the searches"),
            Field("trials, 95 % of them"),
            Field("half: % of the grid"),
            Field("training, half"),
            Field("training, 95 %"),
        ],
        rows,
        f"{table.name}: trials until the choice is so close to the best of {len(table.configurations)} "
        f"configurations, by {_title(table)}",
        f"{DASH}: not reached, > N: not within the N trials of a search. Training is one core's time, as stored.",
    )


def _trials(count: float, replay: Replay) -> str:
    return f"{count:.0f}" if math.isfinite(count) else f"> {replay.trials}"


def _share(count: float, of: int) -> str:
    return f"{100 * count / of:.1f}" if math.isfinite(count) else DASH


def after_table(table: StudyTable, replays: Sequence[Replay]) -> Sheet:
    """Return a table of the regrets after some of the trials, on the folds and on the final figure."""
    name = test_figure(table)
    test = None if name is None else table.traits.metrics[name]
    fields = [
        Field("sampler", right=False),
        Field("pruner", right=False, constant_below=True),
        Field("after trials"),
        Field("regret, median"),
        Field("regret, 90 % band"),
    ]
    if test is not None:
        fields += [Field(f"{headed(name or '', test)}: regret, median"), Field("known for % of the choices")]
    rows = []
    for replay in replays:
        for trials in dict.fromkeys(max(1, round(share * len(table.configurations))) for share in SHARES):
            if trials > replay.trials:
                break
            low, middle, high = quantiles(replay.course.regret[:, trials - 1])
            row = [
                replay.sampler,
                replay.pruner,
                str(trials),
                _regret(table, middle),
                f"{_regret(table, low)} to {_regret(table, high)}",
            ]
            if test is not None:
                chosen = replay.course.test[:, trials - 1]
                known = chosen[np.isfinite(chosen)]
                row += [
                    figure(test, quantiles(known)[1]) if len(known) else DASH,
                    f"{100 * len(known) / len(chosen):.0f}",
                ]
            rows.append(row)
    return Sheet(
        fields,
        rows,
        f"{table.name}: how much worse than the best the choice is, by {_title(table)}",
        None
        if test is None
        else f"Rounds of the final evaluation exist for {losses(table).evaluated} configurations; the regret there is "
        "over the lowest of these.",
    )


def stopping_table(table: StudyTable, stoppings: Sequence[Stopping]) -> Sheet:
    """Return a table of what early stopping saves and loses."""
    rows = []
    for one in stoppings:
        middle, high = quantiles(one.regret)[1:]
        rows.append(
            [
                one.pruner,
                f"{RULES[one.pruner].what} {one.setting:g}",
                f"{100 * one.saved:.1f}",
                f"{100 * one.lost:.1f}",
                " to ".join(f"{100 * end:.1f}" for end in one.interval),
                _regret(table, middle),
                _regret(table, high),
            ]
        )
    count = stoppings[0].searches if stoppings else 0
    return Sheet(
        [
            Field("pruner", right=False),
            Field("setting", right=False),
            Field("training saved, %"),
            Field("best lost, %"),
            Field("its 95 % interval"),
            Field("regret, median"),
            Field("regret, 95 %"),
        ],
        rows,
        f"{table.name}: the whole grid with early stopping, {count} random orders of configurations and folds",
        "Best lost: share of the searches that stopped the best of the table.",
    )
