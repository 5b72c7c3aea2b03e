"""Searches a finished study again by each sampler and pruner, and measures what stopping early loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy import stats

from pairsearch.search.errors import StudyError
from pairsearch.search.replay.searches import (
    Course,
    IntArray,
    Searches,
    course,
    grid_order,
    losses,
    random_orders,
)
from pairsearch.search.replay.stopping import RULES, Reports, Rule, reports_of, searched
from pairsearch.search.results.study_table import FloatArray, StudyTable
from pairsearch.search.workers import racing

Tell = Callable[[str], None]

SAMPLERS: Mapping[str, tuple[int, int | None]] = {
    "grid": (1, None),
    "random": (1000, None),
    "tpe": (20, 100),
    "gp": (3, 40),
}
"""By sampler, how many searches of how many trials (None for all configurations) unless somebody says."""
PRUNERS = ("none", *RULES)
LEAST = 2
"""Configurations of which there must be so many."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What one sampler with one pruner would have found."""

    sampler: str
    pruner: str
    course: Course

    @property
    def searches(self) -> int:
        """How many."""
        return len(self.course.regret)

    @property
    def trials(self) -> int:
        """Of each search."""
        return int(self.course.regret.shape[1])


def check_searchable(table: StudyTable) -> None:
    """Refuse a table that there is nothing to search in.

    Raises:
        StudyError: fewer than two configurations are finished.
    """
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
    """Search a table again; equal arguments give equal results.

    Args:
        sampler: a key of `SAMPLERS`; `grid` has one order.
        pruner: one of `PRUNERS`.
        searches, trials: None for those of `SAMPLERS`; trials are at most as many as configurations.
        tell: is told what is being done.
    """
    usual_searches, usual_trials = SAMPLERS[sampler]
    count = 1 if sampler == "grid" else searches or usual_searches
    every = len(table.configurations)
    # Half of a small grid: past it, nearly all that a sampler proposes was seen before.
    usual = every if usual_trials is None else min(usual_trials, max(every // 2, 1))
    most = min(trials or usual, every)
    if sampler in ("grid", "random"):
        tell(f"{table.name}: {count} searches in {sampler} order")
        orders = grid_order(table)[:, :most] if sampler == "grid" else random_orders(table, count, most)
        rule = None if pruner == "none" else RULES[pruner].usual
        found = Searches.whole(orders) if rule is None else searched(reports_of(table), rule, orders)
    else:
        found = _asked(table, sampler, pruner, count, most, tell)
    return Replay(sampler, pruner, course(losses(table), found))


def _asked(table: StudyTable, sampler: str, pruner: str, searches: int, trials: int, tell: Tell) -> Searches:
    """Searches whose configurations one of Optuna's samplers proposes."""
    # Optuna takes a second to import.
    from pairsearch.search.mirror import replaying  # noqa: PLC0415

    reports, keys = reports_of(table), [one.key for one in table.configurations]
    places = {key: place for place, key in enumerate(keys)}
    by_fold = pruner != "none" and RULES[pruner].by_fold
    steps = range(1, table.definition.folds + 1) if by_fold else reports.epochs
    values_CT = reports.folds if by_fold else reports.curves
    answers = {
        key: replaying.Answer(
            float(reports.folds[place].mean()),
            {}
            if pruner == "none"
            else {
                step: float(value)
                for step, value in zip(steps, values_CT[place], strict=True)
                if not np.isnan(value)
            },
        )
        for key, place in places.items()
    }
    order = [keys[place] for place in grid_order(table)[0]]
    rows = []
    for seed in range(searches):
        tell(f"{table.name}: {sampler}, search {seed + 1} of {searches}")
        race = None
        if pruner == "race" and racing.looks(table.definition.folds):
            race = racing.Race(table.definition.folds, overlap=reports.overlap)
        rows.append(
            list(
                islice(
                    replaying.replay(
                        table.definition,
                        answers,
                        order,
                        sampler=sampler,
                        pruner="none" if pruner == "race" else pruner,
                        seed=seed,
                        stopped_after=None
                        if race is None
                        else lambda key, race=race: race(reports.folds[places[key]]),  # type: ignore[misc]
                    ),
                    trials,
                )
            )
        )
    return Searches(
        np.array([[places[one.key] for one in row] for row in rows]),
        np.array([[1.0 if pruner == "none" else one.step / steps[-1] for one in row] for row in rows]),
        np.array([[not one.pruned for one in row] for row in rows]),
    )


@dataclass(frozen=True, slots=True)
class Stopping:
    """What a rule that stops early did over searches of the whole grid, in random orders of configurations and folds.

    Args:
        pruner: a key of `RULES`.
        setting: of what `RULES` says that it can be set in.
        usual: whether a search uses this setting.
        searches: how many.
        saved: mean share of the seconds of training that was not spent.
        lost: share of searches that stopped the best of the table.
        regret: (searches,) of the final choice.
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
        found = stats.binomtest(round(self.lost * self.searches), self.searches).proportion_ci()
        return float(found.low), float(found.high)


def stopping(
    table: StudyTable,
    searches: int,
    *,
    every: bool = True,
    tell: Tell = lambda _: None,
    seed: int = 0,
) -> Iterator[Stopping]:
    """What each rule would have saved and lost, without those that have too few folds or epochs to save any.

    Args:
        every: with every setting, else with the usual ones.
    """
    given, of_table = losses(table), reports_of(table)
    random = np.random.default_rng(seed)
    orders = random_orders(table, searches, seed=seed)
    fold_orders = [random.permutation(table.definition.folds) for _ in range(searches)]
    for pruner, known in RULES.items():
        if not known.can_stop(table):
            continue
        for setting in known.settings if every else (known.setting,):
            tell(f"{table.name}: {searches} searches with {pruner} pruning")
            found = _in_orders(of_table, known.rule(setting), orders, fold_orders)
            of_each = course(given, found)
            yield Stopping(
                pruner,
                setting,
                setting == known.setting,
                searches,
                1.0 - float(of_each.seconds[:, -1].mean() / given.seconds.sum()),
                float((found.order[~found.finished] == given.best).sum() / searches),
                of_each.regret[:, -1],
            )


def _in_orders(reports: Reports, rule: Rule, orders: IntArray, fold_orders: list[IntArray]) -> Searches:
    each = []
    for order, folds in zip(orders, fold_orders, strict=True):
        shuffled = Reports(
            reports.name, reports.folds[:, folds], reports.epochs, reports.curves, reports.overlap
        )
        each.append(rule(shuffled, order))
    return Searches.joined(each)
