"""The contract of a trainer: a `TrainingJob` goes in, a `TrainingHistory` comes out.

Shape suffixes used in `models/`: K models of a job, E epochs, N pairs of a set, B pairs of a batch,
C channels, H hidden units, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pairsearch.models.nets import INPUT, Arguments, Maker
from pairsearch.models.optim import PlainOptimiser

# Raised by one whenever the figures of a job would change (arithmetic, draw order, initialisation). A study
# is bound to it, so that results of two training versions never mix; a git commit that leaves figures alone
# keeps it.
TRAINING_VERSION = 2

FloatArray = npt.NDArray[np.float64]


class Pairs(Protocol):
    """A set of N image pairs, as a trainer reads it (`data.pairs.PairSet` is one)."""

    @property
    def images(self) -> Tensor:
        """(N, 2, 14, 14) float32, the two images of each pair."""

    @property
    def target(self) -> Tensor:
        """(N,) int64: 1 where the first digit is smaller than or equal to the second, else 0."""

    @property
    def classes(self) -> Tensor:
        """(N, 2) int64, the digits 0 to 9 of the two images."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the K models of a job: its data, its random streams and its per-model rates.

    Args:
        train: the pairs trained on.
        evaluation: named sets evaluated after every epoch, for example `{"validation": pairs}`. All members of
            a job name the same sets.
        init_seed: seed of the initial weights, and of what layers draw while they train (`nets.Draws`), 0 to 2**63 - 1.
        order_seed: seed of the generator that draws one permutation of the training pairs per epoch.
        learning_rate: step size, > 0.
        weight_decay: coupled L2 penalty, as in `torch.optim.Adam`, >= 0.
        aux_loss_weight: weight w of the auxiliary digit losses, >= 0; 0 trains on the main loss alone.
    """

    train: Pairs
    evaluation: Mapping[str, Pairs]
    init_seed: int
    order_seed: int
    learning_rate: float
    weight_decay: float = 0.0
    aux_loss_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """K models of equal shapes to be trained side by side; no member's result depends on another's.

    Args:
        architecture: a registered name (`nets.ARCHITECTURES`), or what makes a module of the arguments.
        members: the models.
        batch_size: pairs of a batch, >= 1.
        epochs: >= 1.
        arguments: of the architecture, by name, such as `hidden_units`.
        optimiser: a registered name (`optim.OPTIMISERS`), or one of the plain form.

    Raises:
        ValueError: on construction, naming the field and, where there is one, the member's index.
    """

    architecture: str | Maker
    members: tuple[Member, ...]
    batch_size: int
    epochs: int
    arguments: Arguments = field(default_factory=dict)
    optimiser: str | PlainOptimiser = "adam"

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("members: a training job needs at least one model, got none")
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected an integer >= 1, got {self.batch_size}")
        if self.epochs < 1:
            raise ValueError(f"epochs: expected an integer >= 1, got {self.epochs}")
        first = self.members[0]
        for index, member in enumerate(self.members):
            if not member.learning_rate > 0:
                raise ValueError(f"member {index}: learning_rate must be > 0, got {member.learning_rate}")
            if not member.weight_decay >= 0:
                raise ValueError(f"member {index}: weight_decay must be >= 0, got {member.weight_decay}")
            if not member.aux_loss_weight >= 0:
                raise ValueError(
                    f"member {index}: aux_loss_weight must be >= 0, got {member.aux_loss_weight}"
                )
            if member.evaluation.keys() != first.evaluation.keys():
                raise ValueError(
                    f"member {index}: evaluation sets {sorted(member.evaluation)} differ from member 0's "
                    f"{sorted(first.evaluation)}"
                )
            _check_pairs(f"member {index}: train", member.train, first.train)
            for name, pairs in member.evaluation.items():
                _check_pairs(f"member {index}: {name}", pairs, first.evaluation[name])


def _check_pairs(what: str, pairs: Pairs, like: Pairs) -> None:
    count = like.images.shape[0]
    if tuple(pairs.images.shape) != (count, *INPUT) or count == 0:
        raise ValueError(
            f"{what}: expected images ({count or 'N'}, 2, 14, 14), got {tuple(pairs.images.shape)}"
        )
    if pairs.images.dtype != torch.float32:
        raise ValueError(f"{what}: expected float32 images, got {pairs.images.dtype}")
    if tuple(pairs.target.shape) != (count,) or tuple(pairs.classes.shape) != (count, 2):
        raise ValueError(
            f"{what}: expected target ({count},) and classes ({count}, 2), got {tuple(pairs.target.shape)} "
            f"and {tuple(pairs.classes.shape)}"
        )


@dataclass(frozen=True, slots=True)
class Curves:
    """What one evaluation set gave after each epoch, for every model.

    `loss` is the mean main cross entropy over the set, without the auxiliary term, (K, E) float64; `error`
    the fraction of wrong answers in [0, 1], (K, E) float64. NaN after an epoch that was not trained.
    """

    loss: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What is known after an epoch, for a callback; the arrays are (K,) float64 copies.

    Args:
        epoch: 1-based.
        train_loss: running main loss of this epoch.
        loss, error: by evaluation set.
        diverged: per model, the epoch in which it diverged, or None.
    """

    epoch: int
    train_loss: FloatArray
    loss: Mapping[str, FloatArray]
    error: Mapping[str, FloatArray]
    diverged: tuple[int | None, ...]


# Called after every epoch; returning False stops the whole job there.
EpochCallback = Callable[[EpochReport], bool]


@dataclass(frozen=True, slots=True)
class TrainingHistory:
    """What training gave.

    Args:
        train_loss: (K, E) float64, main loss averaged over the pairs of the epoch as they were visited
            (before each step); NaN where not trained.
        evaluation: curves by evaluation set.
        diverged: per model, the 1-based epoch in which a training or evaluation loss (the auxiliary term
            included) became NaN or infinite, or None. A diverged model is not trained further; its curves
            keep the non-finite value in that epoch and are NaN afterwards.
        parameters: per model, the final state dict (CPU tensors, float32 in registered architectures), loadable into
            `models.nets.build(architecture, **arguments)`.
        epochs_run: epochs trained, fewer than asked only if the callback stopped the job.
        seconds: wall-clock time of the training.
    """

    train_loss: FloatArray
    evaluation: Mapping[str, Curves]
    diverged: tuple[int | None, ...]
    parameters: tuple[Mapping[str, Tensor], ...]
    epochs_run: int
    seconds: float


class Trainer(Protocol):
    """Trains a job. Deterministic: the same job gives the same bits on one kind of processor, compiled on every one."""

    def __call__(self, job: TrainingJob, *, on_epoch: EpochCallback | None = None) -> TrainingHistory:
        """Train every member of `job` for `job.epochs` epochs, or until `on_epoch` returns False."""


def batch_order(member: Member, epochs: int) -> Tensor:
    """The order in which a member visits its N training pairs: (E, N) int64, one permutation per epoch.

    Batches are consecutive slices of `batch_size`; the last may be partial. Every trainer reads this one
    definition, so that they see the same batches.
    """
    generator = torch.Generator().manual_seed(member.order_seed)
    count = member.train.images.shape[0]
    return torch.stack([torch.randperm(count, generator=generator) for _ in range(epochs)])
