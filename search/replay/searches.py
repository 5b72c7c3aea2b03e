"""Simulated searches of a finished study: the order of their configurations, and the regret of their choice.

A simulated search takes the configurations of a `StudyTable` one after the other, each at most once, with results from
the table. After each trial it chooses the finished configuration with the best mean over folds so far, the first of
several. Its *regret* is how much worse that mean is than the best of the table. The approach follows Syne Tune's
simulated back end (Salinas et al., AutoML 2022) and the tabular benchmarks LCBench and JAHS-Bench-201.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies.intervals import FloatArray
from pairsearch.studies.seeds import layout_order

IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

LOW, MIDDLE, HIGH = 0.05, 0.5, 0.95
"""Quantiles over searches: the bounds of a band that contains 90 % of them, and the median."""


@dataclass(frozen=True, slots=True)
class Searches:
    """Simulated searches with the same number of trials.

    Args:
        order: (searches, trials) indices of configurations in the table; each search has an index at most once.
        share: (searches, trials) share of the training that was done, above 0 and at most 1.
        finished: (searches, trials) whether the configuration was trained to its end and may be chosen.
    """

    order: IntArray
    share: FloatArray
    finished: BoolArray

    @classmethod
    def stopped(cls, order_ST: IntArray, after_ST: IntArray, last: int) -> Searches:
        """Make searches from the step, of `last`, after which each trial was stopped, 0 where it was not."""
        return cls(order_ST, np.where(after_ST > 0, after_ST / last, 1.0), after_ST == 0)


@dataclass(frozen=True)
class Losses:
    """The results of a table as searches compare them; lower is better.

    Args:
        mean: (configurations,) mean of the study's metric over folds, negative if it is maximised.
        test: (configurations,) mean of `test_figure` over rounds, negative if it is maximised; NaN without rounds.
        seconds: (configurations,) training time.
    """

    mean: FloatArray
    test: FloatArray
    seconds: FloatArray

    @cached_property
    def best(self) -> int:
        """The index of the best configuration, the first of several."""
        return int(self.mean.argmin())

    @property
    def evaluated(self) -> int:
        return int(np.isfinite(self.test).sum())


def test_figure(table: StudyTable) -> str | None:
    """Return the name of the most important figure of rounds (the last of `studies.problem.Problem.evaluated`).

    It is None if no round reported a figure.
    """
    reported = {name for of in table.rounds.values() for figures in of.values() for name in figures}
    metric = table.definition.metric
    wanted = table.traits.evaluated or [*(name for name in table.traits.metrics if name != metric), metric]
    return next((name for name in reversed(wanted) if name in reported), None)


def losses(table: StudyTable) -> Losses:
    name, test = test_figure(table), np.full(len(table.configurations), np.nan)
    if name is not None:
        for place, one in enumerate(table.configurations):
            of_rounds = [figures.get(name) for figures in table.rounds.get(one.key, {}).values()]
            if known := [value for value in of_rounds if value is not None]:
                test[place] = table.traits.metrics[name].sign * float(np.mean(known))
    mean = table.metric.sign * table.values[table.definition.metric].mean(axis=1)
    return Losses(mean, test, table.seconds)


def random_orders(table: StudyTable, searches: int, trials: int | None = None) -> IntArray:
    """Draw random orders of configurations, none twice in one: (searches, trials), all of them for None."""
    count = len(table.configurations)
    every = np.random.default_rng(0).permuted(np.tile(np.arange(count), (searches, 1)), axis=1)
    return every[:, :trials]


def grid_order(table: StudyTable) -> IntArray:
    """Return the order in which workers claim configurations: (1, configurations)."""
    places = {one.key: place for place, one in enumerate(table.configurations)}
    return np.array([[places[one.key] for one in layout_order(table.definition) if one.key in places]])


@dataclass(frozen=True, slots=True)
class Course:
    """The regret of each search after each of its trials.

    Args:
        regret: (searches, trials) regret on the folds; infinite before there is a choice.
        test: (searches, trials) regret on `test_figure`, against the best evaluated configuration; NaN before there is
            a choice, and if the choice was not evaluated.
        seconds: (searches, trials) training time up to the end of the trial.
    """

    regret: FloatArray
    test: FloatArray
    seconds: FloatArray

    def needed(self, regret: float) -> tuple[FloatArray, FloatArray]:
        """Return trials and seconds until the regret was at most `regret`: (searches,) each, infinite if never."""
        # The last bits of a mean depend on the order of summation.
        reached_ST = self.regret <= regret + 1e-12
        first_S, rows = reached_ST.argmax(axis=1), np.arange(len(reached_ST))
        ever_S = reached_ST[rows, first_S]
        return (
            np.where(ever_S, first_S + 1.0, np.inf),
            np.where(ever_S, self.seconds[rows, first_S], np.inf),
        )

    def at_seconds(self, budgets_B: FloatArray) -> FloatArray:
        """Return the regret after budgets of training time in seconds: (searches, budgets)."""
        ended_SB = np.array([np.searchsorted(row, budgets_B, side="right") for row in self.seconds])
        padded = np.column_stack([np.full(len(self.regret), np.inf), self.regret])
        return np.take_along_axis(padded, ended_SB, axis=1)


def course(table: Losses, searches: Searches) -> Course:
    order_ST = searches.order
    loss_ST = np.where(searches.finished, table.mean[order_ST], np.inf)
    lowest_ST = np.minimum.accumulate(loss_ST, axis=1)
    before_ST = np.column_stack([np.full(len(order_ST), np.inf), lowest_ST[:, :-1]])
    trial_T = np.arange(order_ST.shape[1])
    record_ST = np.maximum.accumulate(np.where(loss_ST < before_ST, trial_T, -1), axis=1)
    chosen_ST = np.take_along_axis(order_ST, np.maximum(record_ST, 0), axis=1)
    some_ST = record_ST >= 0
    lowest_test = np.nanmin(table.test) if table.evaluated else np.nan
    return Course(
        regret=np.where(some_ST, lowest_ST - table.mean[table.best], np.inf),
        test=np.where(some_ST, table.test[chosen_ST] - lowest_test, np.nan),
        seconds=np.cumsum(table.seconds[order_ST] * searches.share, axis=1),
    )


def quantiles(values_S: FloatArray) -> FloatArray:
    """Return the 5 % quantile, the median and the 95 % quantile over searches, the first axis: (3, ...).

    Each is the value of one search, so that infinite values stay infinite.
    """
    found: FloatArray = np.quantile(values_S, (LOW, MIDDLE, HIGH), axis=0, method="inverted_cdf")
    return found
