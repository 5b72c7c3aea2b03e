"""Everything that a trainer reports and returns for a job, as arrays over its models and epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pairsearch.models.trainer import EpochCallback, StateDict, TrainingJob

# A trainer with its history: (job, on_epoch=...).
Trainer = Callable[..., "History"]
FloatArray = npt.NDArray[np.float64]


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
    reports: list[list[dict[str, float]]] = []
    diverged: dict[int, int] = {}

    def keep(epoch: int, figures: list[dict[str, float]], ended: list[int]) -> None:
        reports.append(figures)
        diverged.update(dict.fromkeys(ended, epoch))
        if on_epoch is not None:
            on_epoch(epoch, figures, ended)

    def curve(name: str) -> FloatArray:
        return np.array([[of_model[name] for of_model in figures] for figures in reports]).T

    parameters = train(job, on_epoch=keep, **options)
    return History(
        train_loss=curve(job.running),
        evaluation={
            name: Curves(curve(f"{name}_loss"), curve(f"{name}_error")) for name in job.members[0].evaluation
        },
        diverged=tuple(diverged.get(model) for model in range(len(job.members))),
        parameters=parameters,
    )
