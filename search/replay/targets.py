"""Summarises simulated searches as plain numbers: how many trials and seconds they needed to reach some regrets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pairsearch.search.replay.replaying import Replay, Stopping
from pairsearch.search.replay.searches import HIGH, LOW, MIDDLE, bands, losses, quantiles, test_figure
from pairsearch.search.replay.stopping import RULES
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies.intervals import FloatArray

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the grid after which tables show the regret."""


def usual_regrets(table: StudyTable) -> list[float]:
    """Return the regrets in tables: zero, half a standard error and one standard error of the best mean over folds."""
    folds = table.values[table.definition.metric]
    best = folds[losses(table).best]
    error = float(best.std(ddof=1)) / math.sqrt(len(best)) if len(best) > 1 else 0.0
    return sorted({0.0, error / 2, error})


def replay_json(table: StudyTable, found: Replay, regrets: Sequence[float]) -> dict[str, Any]:
    """Summarise a sampler with a pruner; bands are the 5 % quantile, the median and the 95 % quantile over searches.

    Missing numbers are null: a regret that was not reached, a test figure of a choice without rounds.
    """
    course = found.course
    trials = np.arange(1, found.trials + 1)
    budgets = np.linspace(0.0, float(course.seconds.max()), 101)[1:]
    return {
        "sampler": found.sampler,
        "pruner": found.pruner,
        "searches": found.searches,
        "trials": found.trials,
        "seconds": float(course.seconds[:, -1].mean()),
        "needed": [_needed_json(found, regret) for regret in regrets],
        "by_trials": {"trials": trials.tolist(), "regret": _rows(bands(course.regret))},
        "by_seconds": {"seconds": budgets.tolist(), "regret": _rows(bands(course.at_seconds(budgets)))},
        "test": _test_json(table, found),
    }


def _needed_json(found: Replay, regret: float) -> dict[str, Any]:
    trials, seconds = found.course.needed(regret)
    return {
        "regret": regret,
        "reached": float(np.isfinite(trials).mean()),
        "trials": [_finite(one) for one in quantiles(trials)],
        "seconds": [_finite(one) for one in quantiles(seconds)],
    }


def _test_json(table: StudyTable, found: Replay) -> dict[str, Any] | None:
    figure = test_figure(table)
    if figure is None:
        return None
    known = np.isfinite(found.course.test)
    return {
        "figure": figure,
        "evaluated": losses(table).evaluated,
        "known": known.mean(axis=0).tolist(),
        "regret": [
            [_finite(one) for one in quantiles(column[has])] if has.any() else [None] * 3
            for column, has in zip(found.course.test.T, known.T, strict=True)
        ],
    }


def stopping_json(found: Stopping) -> dict[str, Any]:
    """Summarise early stopping by one rule over the whole grid."""
    return {
        "pruner": found.pruner,
        "setting": {RULES[found.pruner].what: found.setting},
        "usual": found.usual,
        "searches": found.searches,
        "saved": found.saved,
        "lost": found.lost,
        "lost_interval": found.interval,
        "regret": dict(zip(map(str, (LOW, MIDDLE, HIGH)), quantiles(found.regret), strict=True)),
    }


def _rows(bands_QB: FloatArray) -> list[list[float | None]]:
    return [[_finite(one) for one in row] for row in bands_QB.tolist()]


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
