"""Trains a job epoch by epoch for every trainer: keeps the curves, ends models that diverge, and calls the callback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pairsearch.models.trainer import Curves, EpochCallback, EpochReport, TrainingHistory, TrainingJob


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
    parameters: Callable[[int], Mapping[str, Tensor]],
) -> TrainingHistory:
    """Train a job and return its history.

    Args:
        train_epoch: trains an epoch, counted from 0, of the models with the given numbers, and returns a result for
            each of them. Models that diverged are not among them.
        parameters: returns the state dict of a model; of one that diverged it is taken at the end of that epoch.
    """
    count = len(job.members)
    shape = (count, job.epochs)
    train_loss = np.full(shape, np.nan)
    evaluation = {
        name: Curves(np.full(shape, np.nan), np.full(shape, np.nan)) for name in job.members[0].evaluation
    }
    diverged: list[int | None] = [None] * count
    final: dict[int, Mapping[str, Tensor]] = {}
    started = time.perf_counter()
    for epoch in range(job.epochs):
        alive = [model for model in range(count) if diverged[model] is None]
        for model, (running, evaluated) in zip(alive, train_epoch(epoch, alive), strict=True):
            train_loss[model, epoch] = running[0]
            losses = [*running]
            for name, result in evaluated.items():
                evaluation[name].loss[model, epoch] = result.main
                evaluation[name].error[model, epoch] = result.error
                losses += [result.main, result.total]
            if not np.isfinite(losses).all():
                diverged[model] = epoch + 1
                final[model] = parameters(model)
        if on_epoch is not None and not on_epoch(
            EpochReport(
                epoch=epoch + 1,
                train_loss=train_loss[:, epoch].copy(),
                loss={name: curves.loss[:, epoch].copy() for name, curves in evaluation.items()},
                error={name: curves.error[:, epoch].copy() for name, curves in evaluation.items()},
                diverged=tuple(diverged),
            )
        ):
            break
    return TrainingHistory(
        train_loss=train_loss,
        evaluation=evaluation,
        diverged=tuple(diverged),
        parameters=tuple(final[k] if k in final else parameters(k) for k in range(count)),
        epochs_run=epoch + 1,
        seconds=time.perf_counter() - started,
    )
