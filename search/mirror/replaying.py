"""Runs Optuna's samplers and pruners on the table of a finished study; nothing is trained or stored."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import optuna

from pairsearch.search.mirror.sampling import PROPOSALS, SAMPLERS, draw_table, make_pruner
from pairsearch.search.mirror.study import Space
from pairsearch.studies.configuration import Configuration, Params
from pairsearch.studies.definition import Definition


@dataclass(frozen=True, slots=True)
class Answer:
    """The stored result of a configuration.

    Args:
        value: the mean over folds.
        reports: intermediate values for the pruner, by step.
    """

    value: float
    reports: dict[int, float]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A trial that the search would have trained."""

    key: str
    stopped: int | None
    """The step after which it was stopped, None if it finished."""


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
    """Replay a search by one worker, and yield its trials until every configuration with an answer came once.

    A configuration that the sampler proposes again is answered from the table at once, as a worker would do. After 20
    such proposals in a row (`PROPOSALS`) the next configuration of `order` is taken. Equal arguments give equal trials.

    Args:
        definition: the study's definition.
        answers: stored results by key. Configurations that diverged or failed have none and are never trained.
        order: the keys of all answers, in the order of claims.
        sampler: a key of `search.mirror.sampling.SAMPLERS`; None to follow `order` only.
        pruner: name of Optuna's pruner in a definition.
        maximise: whether a higher value is better.
        seed: of the sampler.
        stopped_after: replaces the pruner: returns the step after which the configuration of a key is stopped, 0 if it
            is not. It is called once for each configuration, in the order of training.
    """
    choices = definition.grid.choices
    space, generator = Space(choices), random.Random(seed)  # noqa: S311 - not a secret
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
            trial = study.ask(space.of(draw_table(definition, generator)))
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
    """Start a trial of a point."""
    study.enqueue_trial(space.categories(params))
    return study.ask(space.of(params))


def _trained(
    study: optuna.Study, trial: optuna.trial.Trial, key: str, answer: Answer, after: int | None
) -> Replayed:
    for step, value in answer.reports.items():
        trial.report(value, step)
        if trial.should_prune() if after is None else step == after:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return Replayed(key, step)
    study.tell(trial, answer.value)
    return Replayed(key, None)
