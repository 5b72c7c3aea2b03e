"""Runs Optuna's samplers and pruners on the table of a finished study; nothing is trained or stored."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna

from pairsearch.search.sampling.in_memory import PROPOSALS, SAMPLERS, draw_table, make_pruner
from pairsearch.search.sampling.space import Space
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition


def search_table(
    definition: Definition,
    values: Mapping[str, float],
    reports: Mapping[str, Mapping[int, float]],
    order: Sequence[str],
    *,
    sampler: str | None,
    pruner: str = "none",
    seed: int = 0,
    stopped_after: Callable[[str], int] | None = None,
) -> Iterator[tuple[str, int | None]]:
    """Search as one worker would, until every configuration with a value came once.

    A configuration that the sampler proposes again is answered from the table at once, as a worker would do. After 20
    such proposals in a row (`PROPOSALS`) the next configuration of `order` is taken. Equal arguments give equal trials.

    Args:
        values: means over folds by key; lower is better. Configurations that diverged or failed have none and are never
            trained.
        reports: intermediate values for the pruner, by key and step; a key may have none.
        order: the keys of all values, in the order of claims.
        sampler: a key of `search.sampling.in_memory.SAMPLERS`; None to follow `order` only.
        pruner: name of Optuna's pruner in a definition.
        stopped_after: replaces the pruner: returns the step after which the configuration of a key is stopped, 0 if it
            is not. It is called once for each configuration, in the order of training.

    Yields:
        The key of each trial that would have been trained, and the step after which it was stopped, None if it was not.
    """
    choices = definition.grid.choices
    space, generator = Space(choices), random.Random(seed)  # noqa: S311 - not a secret
    last_step = max((step for steps in reports.values() for step in steps), default=1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=definition.name,
        sampler=None if sampler is None else SAMPLERS[sampler](seed),
        pruner=make_pruner(pruner, last_step),
    )
    points = {one.key: one.params for one in definition.grid.configurations()}
    left = dict.fromkeys(order)
    while left:
        trial: Any = None
        for _ in range(0 if sampler is None else PROPOSALS):
            trial = study.ask(space.of(draw_table(definition, generator)))
            key = Configuration(space.values(trial.params)).key
            if key in left:
                break
            if key in values:
                study.tell(trial, values[key])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            trial = None
        if trial is None:
            key = next(iter(left))
            study.enqueue_trial(space.categories(points[key]))
            trial = study.ask(space.of(points[key]))
        del left[key]
        after = None if stopped_after is None else stopped_after(key)
        stopped = _stopped(trial, reports.get(key, {}), after)
        if stopped is None:
            study.tell(trial, values[key])
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        yield key, stopped


def _stopped(trial: optuna.trial.Trial, reports: Mapping[int, float], after: int | None) -> int | None:
    """Report until the pruner, or the step `after` instead of it, stops the trial; return that step."""
    for step, value in reports.items():
        trial.report(value, step)
        if trial.should_prune() if after is None else step == after:
            return step
    return None
