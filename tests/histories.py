"""Everything that a trainer reports and returns for a job, as arrays over its models and epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairsearch.models.trainer import EpochCallback, EpochReport, FloatArray, StateDict, TrainingJob

# A trainer with its history: (job, on_epoch=...).
Trainer = Callable[..., "History"]


@dataclass(frozen=True, slots=True)
class Curves:
    """Loss and error of an evaluation set after each epoch, both (K, E) float64."""

    loss: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True)
class History:
    """What became of a job.

    Args:
        train_loss: (K, E) float64, running mean of the main loss.
        evaluation: curves by evaluation set.
        diverged: for each model the epoch in which it diverged, from 1, or None.
        parameters: for each model the final state dict.
    """

    train_loss: FloatArray
    evaluation: Mapping[str, Curves]
    diverged: tuple[int | None, ...]
    parameters: Sequence[StateDict]


def history_of(
    train: Callable[..., list[StateDict]],
    job: TrainingJob,
    *,
    on_epoch: EpochCallback | None = None,
    **options: Any,
) -> History:
    """Train a job by a trainer of `models/`, and keep its history."""
    reports: list[EpochReport] = []

    def keep(report: EpochReport) -> None:
        reports.append(report)
        if on_epoch is not None:
            on_epoch(report)

    parameters = train(job, on_epoch=keep, **options)
    diverged = {model: report.epoch for report in reports for model in report.diverged}
    return History(
        train_loss=np.stack([report.train_loss for report in reports], axis=1),
        evaluation={
            name: Curves(
                np.stack([report.loss[name] for report in reports], axis=1),
                np.stack([report.error[name] for report in reports], axis=1),
            )
            for name in job.members[0].evaluation
        },
        diverged=tuple(diverged.get(model) for model in range(len(job.members))),
        parameters=parameters,
    )
