"""Keeps the curves of a job while it trains, finds models that diverged and calls the callback, for every trainer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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


class JobRecorder:
    """The figures of a job, epoch by epoch.

    In each epoch a trainer calls `record_training` and `record_evaluation` for every model that is `alive`, and then
    `end_epoch`.
    """

    def __init__(self, job: TrainingJob, on_epoch: EpochCallback | None) -> None:
        shape = (len(job.members), job.epochs)
        self._train_loss = np.full(shape, np.nan)
        self._curves = {
            name: Curves(np.full(shape, np.nan), np.full(shape, np.nan)) for name in job.members[0].evaluation
        }
        self._diverged: list[int | None] = [None] * len(job.members)
        self._on_epoch = on_epoch
        self._epochs_run = 0
        self._started = time.perf_counter()

    def alive(self, model: int) -> bool:
        """Whether a model is still trained, because it did not diverge in an earlier epoch."""
        return self._diverged[model] is None or self._diverged[model] == self._epochs_run + 1

    def diverged(self, model: int) -> bool:
        """Whether a model has diverged, in this epoch or before."""
        return self._diverged[model] is not None

    def record_training(self, model: int, main: float, total: float) -> None:
        """Record the running mean losses of the current epoch, without and with the auxiliary term."""
        self._train_loss[model, self._epochs_run] = main
        self._check(model, main, total)

    def record_evaluation(self, model: int, name: str, result: SetResult) -> None:
        """Record the means over an evaluation set after the current epoch."""
        self._curves[name].loss[model, self._epochs_run] = result.main
        self._curves[name].error[model, self._epochs_run] = result.error
        self._check(model, result.main, result.total)

    def _check(self, model: int, *losses: float) -> None:
        if not np.isfinite(losses).all():
            self._diverged[model] = self._epochs_run + 1

    def end_epoch(self) -> bool:
        """Close the current epoch and call the callback; returns False if the job has to end."""
        epoch = self._epochs_run
        self._epochs_run += 1
        if self._on_epoch is None:
            return True
        return self._on_epoch(
            EpochReport(
                epoch=epoch + 1,
                train_loss=self._train_loss[:, epoch].copy(),
                loss={name: curves.loss[:, epoch].copy() for name, curves in self._curves.items()},
                error={name: curves.error[:, epoch].copy() for name, curves in self._curves.items()},
                diverged=tuple(self._diverged),
            )
        )

    def history(self, parameters: Sequence[Mapping[str, Tensor]]) -> TrainingHistory:
        """Return the history of the job, with the final state dict of every model."""
        return TrainingHistory(
            train_loss=self._train_loss,
            evaluation=self._curves,
            diverged=tuple(self._diverged),
            parameters=tuple(parameters),
            epochs_run=self._epochs_run,
            seconds=time.perf_counter() - self._started,
        )
