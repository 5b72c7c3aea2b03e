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

# Raise this by one whenever the figures of a job would change (arithmetic, order of draws, initialisation). A study
# is bound to it, so that results of two training versions never mix. A commit that changes no figures keeps it.
TRAINING_VERSION = 2

# Pairs of a model that PyTorch evaluates at once, to bound memory. It changes no mean: sums are in float64.
EVALUATION_BATCH = 500

FloatArray = npt.NDArray[np.float64]


class Pairs(Protocol):
    """A set of N pairs of images in the form that trainers read, such as `data.pairs.PairSet`."""

    @property
    def images(self) -> Tensor:
        """The two images of each pair, (N, 2, 14, 14) float32."""

    @property
    def target(self) -> Tensor:
        """1 where the first digit is smaller than or equal to the second, else 0; (N,) int64."""

    @property
    def classes(self) -> Tensor:
        """The digits 0 to 9 of the two images, (N, 2) int64."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the K models of a job: its data, its random streams and its per-model rates.

    Args:
        train: the pairs that the model is trained on.
        evaluation: the sets that are evaluated after every epoch, by name, for example `{"validation": pairs}`. All
            members of a job have the same names.
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
    """K models of equal shapes that are trained side by side; no model's result depends on another.

    Args:
        architecture: a registered name (`nets.ARCHITECTURES`), or a class or function that makes a module.
        batch_size: pairs of a batch, >= 1.
        epochs: number of epochs, >= 1.
        arguments: arguments of the architecture by name, such as `hidden_units`.
        optimiser: a registered name (`optim.OPTIMISERS`), or an optimiser in the plain form.

    Raises:
        ValueError: on construction, naming the field and, for a field of a member, the member's index.
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
    """The figures of an evaluation set after each epoch, for every model.

    `loss` is the mean main cross entropy over the set, without the auxiliary term; `error` is the fraction of wrong
    answers in [0, 1]. Both are (K, E) float64, and NaN for an epoch that was not trained.
    """

    loss: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True)
class EpochReport:
    """The figures of an epoch, for a callback; all arrays are (K,) float64 copies.

    Args:
        epoch: number of the epoch, from 1.
        train_loss: running main loss of the epoch.
        loss: main loss by evaluation set.
        error: error by evaluation set.
        diverged: for each model the epoch in which it diverged, from 1, or None.
    """

    epoch: int
    train_loss: FloatArray
    loss: Mapping[str, FloatArray]
    error: Mapping[str, FloatArray]
    diverged: tuple[int | None, ...]


# Called after every epoch; if it returns False, the whole job ends there.
EpochCallback = Callable[[EpochReport], bool]


@dataclass(frozen=True, slots=True)
class TrainingHistory:
    """The result of training a job.

    Args:
        train_loss: (K, E) float64, running mean of the main loss: each pair counts with its loss before the step of its
            batch. NaN for an epoch that was not trained.
        evaluation: curves by evaluation set.
        diverged: for each model the epoch, from 1, in which a training or evaluation loss (with the auxiliary term)
            became NaN or infinite, or None. A diverged model is not trained further; its curves keep the non-finite
            value in that epoch and are NaN afterwards.
        parameters: for each model the final state dict (CPU tensors, float32 in registered architectures), which
            `models.nets.build(architecture, **arguments)` can load.
        epochs_run: number of epochs, fewer than the job's only if the callback ended it.
        seconds: wall-clock time of the training.
    """

    train_loss: FloatArray
    evaluation: Mapping[str, Curves]
    diverged: tuple[int | None, ...]
    parameters: tuple[Mapping[str, Tensor], ...]
    epochs_run: int
    seconds: float


class Trainer(Protocol):
    """A function that trains a job.

    The same job gives the same bits on one kind of processor. The compiled kernels give the same bits on all x86-64
    processors with AVX2 and FMA.
    """

    def __call__(self, job: TrainingJob, *, on_epoch: EpochCallback | None = None) -> TrainingHistory:
        """Train every member of `job` for `job.epochs` epochs, or until `on_epoch` returns False.

        Raises:
            ValueError: unknown architecture or optimiser, or arguments that do not fit the architecture.
        """


def batch_order(member: Member, epochs: int) -> Tensor:
    """Draw the order in which a member visits its N training pairs: (E, N) int64, one permutation for each epoch.

    Batches are consecutive slices of `batch_size`; the last may be smaller. All trainers use this function, so they see
    the same batches.
    """
    generator = torch.Generator().manual_seed(member.order_seed)
    count = member.train.images.shape[0]
    return torch.stack([torch.randperm(count, generator=generator) for _ in range(epochs)])
