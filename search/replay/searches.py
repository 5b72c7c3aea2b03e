"""Simulated searches of a finished study: in which order its configurations came, and how far off the choice was.

A simulated search takes the configurations of a `StudyTable` one after the other, each at most once, and answers from
the table. After each trial it would choose the finished configuration with the best mean over folds, the first of
several. Its *regret* is how much worse that mean is than the best of the table. The models are Syne Tune's simulated
back end (Salinas et al., AutoML 2022) and the tabular benchmarks LCBench and JAHS-Bench-201.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pairsearch.search.ledger.studies import layout_order
from pairsearch.search.results.study_table import FloatArray, StudyTable

IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

LOW, MIDDLE, HIGH = 0.05, 0.5, 0.95
"""Quantiles over searches: a band that 90 % of them lie in, and the median."""


@dataclass(frozen=True, slots=True)
class Searches:
    """Simulated searches, all of as many trials.

    Args:
        order: (searches, trials) places of configurations in the table; none comes twice in a row.
        share: (searches, trials) of the training that was done, above 0 and at most 1.
        finished: (searches, trials) whether the configuration was trained to its end and may be chosen.
    """

    order: IntArray
    share: FloatArray
    finished: BoolArray

    @classmethod
    def whole(cls, order_ST: IntArray) -> Searches:
        """Searches that stop nothing early."""
        return cls(order_ST, np.ones(order_ST.shape), np.ones(order_ST.shape, dtype=np.bool_))

    @classmethod
    def joined(cls, each: Sequence[Searches]) -> Searches:
        """Searches of the same number of trials as one."""
        return cls(
            np.concatenate([one.order for one in each]),
            np.concatenate([one.share for one in each]),
            np.concatenate([one.finished for one in each]),
        )


@dataclass(frozen=True)
class Losses:
    """A table as a search sees it: lower is better.

    Args:
        mean: (configurations,) of the study's metric over the folds; of a figure that is maximised, the negative.
        test: (configurations,) mean over rounds of the figure that counts last, NaN for a configuration without.
        seconds: (configurations,) of training.
    """

    mean: FloatArray
    test: FloatArray
    seconds: FloatArray

    @cached_property
    def best(self) -> int:
        """The place of the best, the first of several."""
        return int(self.mean.argmin())

    @property
    def evaluated(self) -> int:
        """How many configurations have rounds."""
        return int(np.isfinite(self.test).sum())


def losses(table: StudyTable) -> Losses:
    """The losses of a table with at least one configuration."""
    return Losses(
        table.metric.sign * table.values[table.definition.metric].mean(axis=1), _test(table), table.seconds
    )


def test_figure(table: StudyTable) -> str | None:
    """The figure of rounds that counts last (`studies.problem.Problem.evaluated`); None where none was reported."""
    reported = {name for of in table.rounds.values() for figures in of.values() for name in figures}
    metric = table.definition.metric
    wanted = [
        *(table.traits.evaluated or [name for name in table.traits.metrics if name != metric] + [metric])
    ]
    return next((name for name in reversed(wanted) if name in reported), None)


def _test(table: StudyTable) -> FloatArray:
    figure = test_figure(table)
    found = np.full(len(table.configurations), np.nan)
    if figure is not None:
        sign = table.traits.metrics[figure].sign
        for place, one in enumerate(table.configurations):
            of_rounds = [figures.get(figure) for figures in table.rounds.get(one.key, {}).values()]
            known = [value for value in of_rounds if value is not None]
            if known:
                found[place] = sign * float(np.mean(known))
    return found


def random_orders(table: StudyTable, searches: int, trials: int | None = None, seed: int = 0) -> IntArray:
    """(searches, trials) configurations by chance, none twice; all of them unless `trials` says how many."""
    count = len(table.configurations)
    every = np.random.default_rng(seed).permuted(np.tile(np.arange(count), (searches, 1)), axis=1)
    return every[:, :trials]


def grid_order(table: StudyTable) -> IntArray:
    """(1, configurations) in the order in which workers claim them."""
    places = {one.key: place for place, one in enumerate(table.configurations)}
    return np.array([[places[one.key] for one in layout_order(table.definition) if one.key in places]])


@dataclass(frozen=True, slots=True)
class Course:
    """How far off the choice of each search was after each trial; infinite, and the test's NaN, before there is one.

    Args:
        regret: (searches, trials) on the folds.
        test: the same on the final figure, above the lowest of all that were evaluated; NaN where the choice was not.
        seconds: the same, of training, from the beginning to the end of the trial.
    """

    regret: FloatArray
    test: FloatArray
    seconds: FloatArray

    def after(self, share: float) -> tuple[FloatArray, FloatArray]:
        """(searches,) both regrets after so large a share of the trials, one at least."""
        last = max(1, round(share * self.regret.shape[1])) - 1
        return self.regret[:, last], self.test[:, last]

    def needed(self, regret: float) -> tuple[FloatArray, FloatArray]:
        """(searches,) trials and seconds until the regret was at most so high; infinite where it never was."""
        # The last bits of a mean depend on how it was added up.
        reached_ST = self.regret <= regret + 1e-12
        first_S, rows = reached_ST.argmax(axis=1), np.arange(len(reached_ST))
        ever_S = reached_ST[rows, first_S]
        return (
            np.where(ever_S, first_S + 1.0, np.inf),
            np.where(ever_S, self.seconds[rows, first_S], np.inf),
        )

    def at_seconds(self, budgets_B: FloatArray) -> FloatArray:
        """(searches, budgets) regret by the trials that have ended by then."""
        ended_SB = np.array([np.searchsorted(row, budgets_B, side="right") for row in self.seconds])
        padded = np.column_stack([np.full(len(self.regret), np.inf), self.regret])
        return np.take_along_axis(padded, ended_SB, axis=1)


def course(table: Losses, searches: Searches) -> Course:
    """What searches would have chosen."""
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


def quantiles(values_S: FloatArray, levels: Sequence[float] = (LOW, MIDDLE, HIGH)) -> list[float]:
    """Quantiles over searches, each a value that one of them has, so that infinite ones stay what they are."""
    return [float(one) for one in np.quantile(values_S, levels, axis=0, method="inverted_cdf")]


def bands(values_SB: FloatArray) -> FloatArray:
    """(3, points) quantiles of each point."""
    found: FloatArray = np.quantile(values_SB, (LOW, MIDDLE, HIGH), axis=0, method="inverted_cdf")
    return found
