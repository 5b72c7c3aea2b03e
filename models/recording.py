"""Trains a job epoch by epoch for every trainer: ends models that diverge, and calls the callback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pairsearch.models.trainer import EpochCallback, EpochReport, StateDict, TrainingJob


@dataclass(slots=True)
class SetResult:
    """A model's means over a set: main loss, total loss (with the auxiliary term), error in [0, 1]."""

    main: float
    total: float
    error: float


EpochResult = tuple[tuple[float, float], Mapping[str, SetResult]]
"""The running means of a model's main and total loss over an epoch, and its means over each evaluation set after it."""


def record(
    job: TrainingJob,
    on_epoch: EpochCallback | None,
    train_epoch: Callable[[int, Sequence[int]], Iterable[EpochResult]],
    parameters: Callable[[int], StateDict],
) -> list[StateDict]:
    """Train a job and return the final state dict of each model.

    Args:
        train_epoch: trains an epoch, counted from 0, of the models with the given numbers, and returns a result for
            each of them. Models that diverged are not among them.
        parameters: returns the state dict of a model; of one that diverged it is taken at the end of that epoch.
    """
    count, names = len(job.members), job.members[0].evaluation
    final: dict[int, StateDict] = {}
    for epoch in range(job.epochs):
        alive = [model for model in range(count) if model not in final]
        train_loss = np.full(count, np.nan)
        loss, error = ({name: np.full(count, np.nan) for name in names} for _ in range(2))
        for model, (running, evaluated) in zip(alive, train_epoch(epoch, alive), strict=True):
            train_loss[model] = running[0]
            losses = [*running]
            for name, result in evaluated.items():
                loss[name][model], error[name][model] = result.main, result.error
                losses += [result.main, result.total]
            if not np.isfinite(losses).all():
                final[model] = parameters(model)
        if on_epoch is not None:
            diverged = tuple(model for model in alive if model in final)
            on_epoch(EpochReport(epoch + 1, train_loss, loss, error, diverged))
    return [final[k] if k in final else parameters(k) for k in range(count)]
