"""Simulates early stopping on a finished study, for any order of its configurations and folds.

The rules of Optuna's pruners stand here again, for tables: a report and `pairsearch replay` try each rule in some
hundred orders. For one order of the 960 configurations of `wsal`, Optuna's own pruners take 0.5 s (median), 1.2 s
(hyperband) and 2.5 s (Wilcoxon) on an in-memory study, these rules 2, 6 and 20 ms. `search.sampling.table_search` runs
Optuna's where Optuna's samplers search, and tests hold the two against each other. Configurations come one at a time,
and the finished ones before it decide whether a configuration is stopped.
"""

from __future__ import annotations

import binascii
import math
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pairsearch.search.replay.searches import IntArray, Searches
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies import racing
from pairsearch.studies.intervals import FloatArray


@dataclass(frozen=True, slots=True)
class Reports:
    """The figures that rules decide by; lower is better.

    Args:
        name: of the study; Optuna's hyperband derives brackets from it.
        folds: (configurations, folds) the study's metric in each fold.
        epochs: the epochs that are reported.
        curves: (configurations, epochs) mean of the metric over folds after each of these epochs, NaN if not reported.
        overlap: validation over training examples of a fold if folds share one sample, else 0.
    """

    name: str
    folds: FloatArray
    epochs: Sequence[int]
    curves: FloatArray
    overlap: float = 0.0

    def steps(self, by_fold: bool) -> Sequence[int]:
        """Return the numbers of folds, or the epochs, after which a pruner is asked."""
        return range(1, self.folds.shape[1] + 1) if by_fold else self.epochs

    def by_step(self, by_fold: bool) -> list[dict[int, float]]:
        """Return for each configuration what is reported after each of `steps`, without what is not reported."""
        rows = (self.folds if by_fold else self.curves).tolist()
        return [
            {
                step: value
                for step, value in zip(self.steps(by_fold), row, strict=True)
                if not math.isnan(value)
            }
            for row in rows
        ]


def reports_of(table: StudyTable) -> Reports:
    sign, metric = table.metric.sign, table.definition.metric
    epochs = table.definition.reported_epochs
    return Reports(
        table.name,
        sign * table.values[metric],
        epochs,
        sign * table.curves[metric][:, [epoch - 1 for epoch in epochs]],
        table.traits.overlap,
    )


Rule = Callable[[Reports, IntArray, Any], IntArray]
"""Simulates one search, given the order (trials,) of configurations and the setting of the rule: returns the step after
which it stopped each, 0 where it did not: (trials,)."""

STARTUP = 5
"""Finished configurations before `median` stops any, as in Optuna."""


def median(reports: Reports, order_T: IntArray, percentile: float) -> IntArray:
    """Stop a configuration whose best report is worse than a percentile of finished ones at the same epoch.

    This is Optuna's `MedianPruner`.
    """
    known: dict[int, list[float]] = {epoch: [] for epoch in reports.epochs}
    curves, finished = reports.by_step(by_fold=False), 0
    after_T = np.zeros(len(order_T), dtype=np.intp)
    for trial, configuration in enumerate(order_T):
        curve, best = curves[configuration], math.inf
        for epoch, value in curve.items():
            best = min(best, value)
            if finished >= STARTUP and known[epoch] and best > _quantile(known[epoch], percentile):
                after_T[trial] = epoch
                break
        else:
            finished += 1
            for epoch, value in curve.items():
                insort(known[epoch], value)
    return after_T


def _quantile(ordered: Sequence[float], percentile: float) -> float:
    """Interpolate as `numpy.percentile` does."""
    place = percentile / 100.0 * (len(ordered) - 1)
    below = int(place)
    low, high, part = ordered[below], ordered[min(below + 1, len(ordered) - 1)], place - below
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1.0 - part)


def hyperband(reports: Reports, order_T: IntArray, factor: int) -> IntArray:
    """Let one in `factor` of each rung go on, in brackets that differ in when they begin to stop.

    This is Optuna's `HyperbandPruner`.
    """
    count = math.floor(math.log(reports.epochs[-1], factor)) + 1
    sizes = [math.ceil(count * factor ** (count - 1 - one) / (count - one)) for one in range(count)]
    ends = np.cumsum(sizes)
    rungs: dict[tuple[int, int], list[float]] = {}

    def stopped_after(trial: int, curve: Mapping[int, float]) -> int:
        drawn = binascii.crc32(f"{reports.name}_{trial}".encode()) % ends[-1]
        bracket, rung = int(np.searchsorted(ends, drawn, side="right")), 0
        for epoch, value in curve.items():
            while epoch >= factor ** (bracket + rung):
                reached = rungs.setdefault((bracket, rung), [])
                insort(reached, value)
                if value > reached[max(len(reached) // factor - 1, 0)]:
                    return epoch
                rung += 1
        return 0

    curves = reports.by_step(by_fold=False)
    after = [stopped_after(trial, curves[configuration]) for trial, configuration in enumerate(order_T)]
    return np.array(after, dtype=np.intp)


def wilcoxon(reports: Reports, order_T: IntArray, threshold: float) -> IntArray:
    """Stop a configuration after a fold if the best finished one is better by a signed-rank test.

    This is Optuna's `WilcoxonPruner`.
    """
    mean_C, best = reports.folds.mean(axis=1), -1
    after_T, stopped_C = np.zeros(len(order_T), dtype=np.intp), np.zeros(len(mean_C), dtype=np.intp)
    for trial, configuration in enumerate(order_T):
        after_T[trial] = stopped_C[configuration]
        if not after_T[trial] and (best < 0 or mean_C[configuration] < mean_C[best]):
            best = int(configuration)
            left = order_T[trial + 1 :]
            stopped_C[:] = 0
            stopped_C[left] = _stopped_by(reports.folds[left], reports.folds[best], threshold)
    return after_T


def _stopped_by(folds_CK: FloatArray, best_K: FloatArray, threshold: float) -> IntArray:
    """Return after how many folds the best configuration stops each other one, 0 if it does not: (configurations,)."""
    after_C = np.zeros(len(folds_CK), dtype=np.intp)
    differences_CK, mean = folds_CK - best_K, best_K.mean()
    for count in range(2, folds_CK.shape[1] + 1):
        # Optuna, too, compares with the best's mean over all folds.
        left = np.flatnonzero((after_C == 0) & (folds_CK[:, :count].mean(axis=1) > mean))
        after_C[left[signed_rank_p(differences_CK[left, :count]) < threshold]] = count
    return after_C


def signed_rank_p(differences_CK: FloatArray) -> FloatArray:
    """Return the p-values of Wilcoxon's signed-rank test that differences are above 0: (configurations,).

    They are exact with ties and zeros too. Half of the ranks of zeros counts as above 0 (`zsplit`). They agree with
    `scipy.stats.wilcoxon`, except that SciPy uses a normal approximation if more than 13 differences have ties.

    Args:
        differences_CK: (configurations, folds).
    """
    sizes_CK = np.abs(differences_CK)
    others_KC1 = sizes_CK.T[:, :, None]
    # Ties share the mean of their ranks. It may end in a half, so ranks are doubled.
    ranks_CK = (others_KC1 < sizes_CK).sum(axis=0) + (others_KC1 <= sizes_CK).sum(axis=0) + 1
    above_C = (ranks_CK * (differences_CK > 0)).sum(axis=1)
    ranks_CK[differences_CK == 0] = 0
    # Rows without ties share the ranks 1 to n, and so the probabilities of each sum.
    plain_K = 2 * np.arange(1, ranks_CK.shape[1] + 1)
    tied_C = (np.sort(ranks_CK, axis=1) != plain_K).any(axis=1)
    kinds_GK = np.vstack([plain_K, ranks_CK[tied_C]])
    kind_C = np.where(tied_C, tied_C.cumsum(), 0)
    sums = np.arange(plain_K.sum() + 1)
    chance_GR = np.zeros((len(kinds_GK), len(sums)))
    chance_GR[:, 0] = 1.0
    for rank_G in kinds_GK.T:
        from_GR = sums - rank_G[:, None]
        moved_GR = np.take_along_axis(chance_GR, np.maximum(from_GR, 0), axis=1)
        chance_GR = (chance_GR + np.where(from_GR >= 0, moved_GR, 0.0)) / 2
    at_least_GR = chance_GR[:, ::-1].cumsum(axis=1)[:, ::-1]
    p_C: FloatArray = at_least_GR[kind_C, above_C]
    return p_C


AHEAD = 8
"""Configurations that a race tests together: until one of them is finished, all are compared with the same others."""


def race(reports: Reports, order_T: IntArray, alpha: float) -> IntArray:
    """Stop configurations by `studies.racing`."""
    folds = reports.folds.shape[1]
    after_T = np.zeros(len(order_T), dtype=np.intp)
    if not racing.looks(folds):
        return after_T
    running = racing.Race(folds, alpha, reports.overlap)
    trial = 0
    while trial < len(order_T):
        stopped_C = running.stopped_after(reports.folds[order_T[trial : trial + AHEAD]])
        whole = np.flatnonzero(stopped_C == 0)
        count = int(whole[0]) if len(whole) else len(stopped_C)
        after_T[trial : trial + count] = stopped_C[:count]
        trial += count
        if len(whole):
            running.add(reports.folds[order_T[trial]])
            trial += 1
    return after_T


@dataclass(frozen=True, slots=True)
class Known:
    """The rule of a pruner, and its settings.

    Args:
        what: name of the setting.
        settings: some settings, from strict to lenient.
        setting: the setting that searches use by default.
        by_fold: whether the rule looks at folds one after the other; otherwise at mean curves by epoch.
    """

    rule: Rule
    what: str
    settings: Sequence[float]
    setting: float
    by_fold: bool = False

    def can_stop(self, table: StudyTable) -> bool:
        """Whether a study has enough folds or epochs for the rule to stop anything."""
        if self.by_fold:
            return bool(racing.looks(table.definition.folds))
        return len(table.definition.reported_epochs) > 1


RULES = {
    "median": Known(median, "percentile", (25.0, 50.0, 75.0), 50.0),
    "hyperband": Known(hyperband, "reduction factor", (4, 3, 2), 3),
    "wilcoxon": Known(wilcoxon, "p below", (0.2, 0.1, 0.05, 0.01), 0.1, by_fold=True),
    "race": Known(race, "error rate", (0.2, 0.1, 0.05, 0.01), racing.ALPHA, by_fold=True),
}
"""Rules by the name of the pruner."""


def searched(
    reports: Reports,
    known: Known,
    orders_ST: IntArray,
    setting: float | None = None,
    fold_orders_SK: IntArray | None = None,
) -> Searches:
    """Simulate searches by a rule.

    Args:
        orders_ST: (searches, trials) the order of configurations in each search.
        setting: the setting of the rule; None for its default.
        fold_orders_SK: (searches, folds) the order of folds in each search; None for their own.
    """
    chosen = known.setting if setting is None else setting
    each = [reports] * len(orders_ST)
    if fold_orders_SK is not None:
        each = [replace(reports, folds=reports.folds[:, folds_K]) for folds_K in fold_orders_SK]
    after_ST = np.array(
        [known.rule(one, order_T, chosen) for one, order_T in zip(each, orders_ST, strict=True)]
    )
    return Searches.stopped(orders_ST, after_ST, reports.steps(known.by_fold)[-1])
