"""Searches a finished study again with each sampler and pruner, and measures what early stopping loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import numpy as np

from pairsearch.search.common.errors import StudyError
from pairsearch.search.replay.searches import Course, Searches, course, grid_order, losses, random_orders
from pairsearch.search.replay.stopping import RULES, Reports, reports_of, searched
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies import racing
from pairsearch.studies.intervals import FloatArray, share_interval

Tell = Callable[[str], None]


class Sampler(StrEnum):
    """What proposes the next configuration."""

    GRID = "grid"
    RANDOM = "random"
    TPE = "tpe"
    GP = "gp"


class Pruner(StrEnum):
    """What stops a configuration early: nothing, or one of `RULES`."""

    NONE = "none"
    MEDIAN = "median"
    HYPERBAND = "hyperband"
    WILCOXON = "wilcoxon"
    RACE = "race"


SAMPLERS: Mapping[str, tuple[int, int | None]] = {
    Sampler.GRID: (1, None),
    Sampler.RANDOM: (1000, None),
    Sampler.TPE: (20, 100),
    Sampler.GP: (3, 40),
}
"""Default numbers of searches, and of trials in each (None for all configurations), by sampler."""
LEAST = 2
"""The smallest number of finished configurations that can be searched."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Simulated searches with one sampler and one pruner."""

    sampler: str
    pruner: str
    course: Course

    @property
    def searches(self) -> int:
        return len(self.course.regret)

    @property
    def trials(self) -> int:
        return int(self.course.regret.shape[1])


def check_searchable(table: StudyTable) -> None:
    """Raise StudyError where a table has too few finished configurations to be searched."""
    if len(table.configurations) < LEAST:
        raise StudyError(
            f"study {table.name} has {len(table.configurations)} finished configurations: expected at least {LEAST} "
            f"to search again: `pairsearch run {table.name}` trains them"
        )


def replay(
    table: StudyTable,
    sampler: str,
    pruner: str = "none",
    searches: int | None = None,
    trials: int | None = None,
    tell: Tell = lambda _: None,
) -> Replay:
    """Search a table again. Equal arguments give equal results.

    Args:
        sampler: the value of a `Sampler`; `grid` has only one order, so one search.
        pruner: the value of a `Pruner`.
        searches: the number of searches; None for that in `SAMPLERS`.
        trials: the number of trials in each, at most that of configurations; None for that in `SAMPLERS`.
    """
    usual_searches, usual_trials = SAMPLERS[sampler]
    count = 1 if sampler == "grid" else searches or usual_searches
    every = len(table.configurations)
    # At most half of a small grid: beyond that, a sampler proposes hardly anything new.
    usual = every if usual_trials is None else min(usual_trials, max(every // 2, 1))
    most = min(trials or usual, every)
    if sampler in ("grid", "random"):
        tell(f"{table.name}: {count} searches in {sampler} order")
        orders = grid_order(table)[:, :most] if sampler == "grid" else random_orders(table, count, most)
        if pruner == "none":
            simulated = Searches.stopped(orders, np.zeros_like(orders), 1)
        else:
            simulated = searched(reports_of(table), RULES[pruner], orders)
    else:
        simulated = _asked(table, sampler, pruner, count, most, tell)
    return Replay(sampler, pruner, course(losses(table), simulated))


def _asked(table: StudyTable, sampler: str, pruner: str, searches: int, trials: int, tell: Tell) -> Searches:
    """Simulate searches whose configurations are proposed by one of Optuna's samplers."""
    # Optuna takes a second to import.
    from pairsearch.search.sampling.table_search import search_table  # noqa: PLC0415

    reports, keys = reports_of(table), [one.key for one in table.configurations]
    places = {key: place for place, key in enumerate(keys)}
    known = RULES.get(pruner)
    by_key = {} if known is None else dict(zip(keys, reports.by_step(known.by_fold), strict=True))
    values = dict(zip(keys, reports.folds.mean(axis=1).tolist(), strict=True))
    order = [keys[place] for place in grid_order(table)[0]]

    def search(seed: int) -> list[tuple[int, int]]:
        tell(f"{table.name}: {sampler}, search {seed + 1} of {searches}")
        found = search_table(
            table.definition,
            values,
            by_key,
            order,
            sampler=sampler,
            pruner=pruner,
            seed=seed,
            stopped_after=_race(reports, places) if pruner == "race" else None,
        )
        return [(places[key], stopped or 0) for key, stopped in islice(found, trials)]

    rows = np.array([search(seed) for seed in range(searches)])
    last = 1 if known is None else reports.steps(known.by_fold)[-1]
    return Searches.stopped(rows[..., 0], rows[..., 1], last)


def _race(reports: Reports, places: Mapping[str, int]) -> Callable[[str], int] | None:
    """Return what a race answers for the key of each configuration; None with too few folds for one."""
    folds = reports.folds.shape[1]
    if not racing.looks(folds):
        return None
    race = racing.Race(folds, overlap=reports.overlap)
    return lambda key: race(reports.folds[places[key]])


@dataclass(frozen=True, slots=True)
class Stopping:
    """What early stopping by one rule did in searches of the whole grid, in random orders of configurations and folds.

    Args:
        pruner: a key of `RULES`.
        setting: the setting of the rule (`Known.what`).
        usual: whether searches use this setting by default.
        saved: mean share of the training time that was saved.
        lost: share of searches that stopped the best configuration of the table.
        regret: (searches,) regret of the final choice.
    """

    pruner: str
    setting: float
    usual: bool
    searches: int
    saved: float
    lost: float
    regret: FloatArray

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share that lost the best (Clopper & Pearson)."""
        exact = share_interval(round(self.lost * self.searches), self.searches)
        assert exact is not None, "there are searches"  # noqa: S101
        return exact.low, exact.high


def measure_stopping(
    table: StudyTable, searches: int, *, every: bool = True, tell: Tell = lambda _: None
) -> Iterator[Stopping]:
    """Measure what each rule would have saved and lost, with every setting or its default alone.

    Rules that cannot stop anything in this study are left out.
    """
    known_losses, of_table = losses(table), reports_of(table)
    random = np.random.default_rng(0)
    orders = random_orders(table, searches)
    fold_orders = np.array([random.permutation(table.definition.folds) for _ in range(searches)])
    for pruner, known in RULES.items():
        if not known.can_stop(table):
            continue
        for setting in known.settings if every else (known.setting,):
            tell(f"{table.name}: {searches} searches with {pruner} pruning")
            simulated = searched(of_table, known, orders, setting, fold_orders)
            of_each = course(known_losses, simulated)
            yield Stopping(
                pruner,
                setting,
                setting == known.setting,
                searches,
                1.0 - float(of_each.seconds[:, -1].mean() / known_losses.seconds.sum()),
                float((simulated.order[~simulated.finished] == known_losses.best).sum() / searches),
                of_each.regret[:, -1],
            )
