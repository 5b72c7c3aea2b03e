"""Optuna's samplers and pruners on a finished study, which answers from its table: nothing is trained or stored."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import optuna

from pairsearch.search.mirror.sampling import PROPOSALS, SAMPLERS, a_table, make_pruner
from pairsearch.search.mirror.study import Space
from pairsearch.studies.configuration import Configuration, Params
from pairsearch.studies.definition import Definition


@dataclass(frozen=True, slots=True)
class Answer:
    """What a configuration gave.

    Args:
        value: the mean over folds.
        reports: by step, what a pruner is told.
    """

    value: float
    reports: dict[int, float]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A trial that would have been trained, by the last step that it reached; `pruned` there, or finished."""

    key: str
    step: int
    pruned: bool


def replay(
    definition: Definition,
    answers: dict[str, Answer],
    order: list[str],
    *,
    sampler: str | None,
    pruner: str = "none",
    maximise: bool = False,
    seed: int = 0,
    stopped_after: Callable[[str], int] | None = None,
) -> Iterator[Replayed]:
    """A search by one worker, trial by trial, until every configuration that there is an answer for came once.

    What a sampler proposes a second time is answered at once, as a worker does, and after 20 such proposals in a row
    comes the next one of `order`. Equal arguments give equal trials.

    Args:
        answers: by the configuration's key. What diverged or failed has none, and is not proposed to anybody.
        order: all their keys, in the order of claims.
        sampler: one of `search.mirror.sampling.SAMPLERS`; None for the order alone.
        pruner: of Optuna's, as a definition has it.
        stopped_after: instead of one: the step after which a configuration, by its key, is stopped, 0 for none; asked
            about each in turn.
    """
    choices = definition.grid.choices
    space, chance = Space(choices), random.Random(seed)  # noqa: S311 - not a secret
    last_step = max((max(answer.reports, default=1) for answer in answers.values()), default=1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            study_name=definition.name,
            direction="maximize" if maximise else "minimize",
            sampler=None if sampler is None else SAMPLERS[sampler](seed),
            pruner=make_pruner(pruner, last_step),
        )
    points = {one.key: one.params for one in definition.grid.configurations()}
    left = dict.fromkeys(order)
    while left:
        trial: Any = None
        for _ in range(0 if sampler is None else PROPOSALS):
            trial = study.ask(space.of(a_table(definition, chance)))
            key = Configuration(space.values(trial.params)).key
            if key in left:
                break
            if key in answers:
                study.tell(trial, answers[key].value)
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            trial = None
        if trial is None:
            key = next(iter(left))
            trial = _of(study, space, points[key])
        del left[key]
        after = None if stopped_after is None else stopped_after(key)
        yield _trained(study, trial, key, answers[key], after)


def _of(study: optuna.Study, space: Space, params: Params) -> optuna.trial.Trial:
    """A running trial of a point."""
    study.enqueue_trial(space.categories(params))
    return study.ask(space.of(params))


def _trained(
    study: optuna.Study, trial: optuna.trial.Trial, key: str, answer: Answer, after: int | None
) -> Replayed:
    for step, value in answer.reports.items():
        trial.report(value, step)
        if trial.should_prune() if after is None else step == after:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return Replayed(key, step, pruned=True)
    study.tell(trial, answer.value)
    return Replayed(key, max(answer.reports, default=1), pruned=False)
