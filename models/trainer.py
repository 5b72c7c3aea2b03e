"""What a trainer is given, a `TrainingJob`, what it reports after each epoch, and what all trainers share.

A trainer is a function `train(job, on_epoch=...)`, which returns the final state dict of each model: CPU tensors,
float32 in registered architectures, which `models.nets.build(architecture, **arguments)` can load. The same job gives
the same bits on one kind of processor; the compiled kernels give the same bits on all x86-64 processors with AVX2 and
FMA.

Shape suffixes used in `models/`: K models of a job, E epochs, N pairs of a set, B pairs of a batch,
C channels, H hidden units, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pairsearch.models.nets import DIGITS, INPUT, Arguments, Logits, Maker, split_logits
from pairsearch.models.optim import PlainOptimiser

# Raise this by one whenever the figures of a job would change (arithmetic, order of draws, initialisation). A study
# is bound to it, so that results of two training versions never mix. A commit that changes no figures keeps it.
TRAINING_VERSION = 2

# Pairs of a model that PyTorch evaluates at once, to bound memory. It changes no mean: sums are in float64.
EVALUATION_BATCH = 500


class Pairs(NamedTuple):
    """A set of N pairs of images.

    Args:
        images: (N, 2, 14, 14) float32.
        target: 1 where the first digit is smaller than or equal to the second, else 0; (N,) int64.
        classes: the digits 0 to 9 of the two images, (N, 2) int64.
    """

    images: Tensor
    target: Tensor
    classes: Tensor

    def to(self, device: torch.device) -> Pairs:
        return Pairs(*(values.to(device) for values in self))


@dataclass(frozen=True, slots=True)
class Member:
    """One of the K models of a job: its data, its random streams and its per-model rates.

    Args:
        train: the pairs that the model is trained on.
        evaluation: the sets that are evaluated after every epoch, by name, for example `{"val": pairs}`. All members of
            a job have the same names.
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
        running: the name under which the running mean of the main loss is reported.

    Raises:
        ValueError: on construction, where a set is empty, or has another type or shape than that of the first member.
    """

    architecture: str | Maker
    members: tuple[Member, ...]
    batch_size: int
    epochs: int
    arguments: Arguments = field(default_factory=dict)
    optimiser: str | PlainOptimiser = "adam"
    running: str = "train_loss"

    def __post_init__(self) -> None:
        first = self.members[0]
        for index, member in enumerate(self.members):
            _check_pairs(f"member {index}: train", member.train, first.train)
            for name, pairs in first.evaluation.items():
                _check_pairs(f"member {index}: {name}", member.evaluation[name], pairs)


def _check_pairs(what: str, pairs: Pairs, like: Pairs) -> None:
    """Check types and shapes before the compiled kernels, which check no bounds, read the pairs."""
    count = len(like.images)
    expected = [(count, *INPUT), (count,), (count, 2)]
    got = [tuple(values.shape) for values in pairs]
    if got != expected or count == 0 or pairs.images.dtype != torch.float32:
        raise ValueError(
            f"{what}: expected float32 images, targets and classes of the shapes {expected}, got "
            f"{pairs.images.dtype} and {got}"
        )


EpochCallback = Callable[[int, list[dict[str, float]], list[int]], None]
"""Called after every epoch with its number, from 1, the figures of each model by name, and the models that diverged in
it. An exception that it raises ends the whole job.

The figures are `running`, the running mean of the main loss, in which each pair counts with its loss before the step of
its batch; `NAME_loss`, the mean main cross entropy over an evaluation set, without the auxiliary term; and
`NAME_error`, the fraction of wrong answers in [0, 1]. A model has diverged once a training or evaluation loss, with the
auxiliary term, becomes NaN or infinite: it is not trained further, its parameters stay as they are at the end of that
epoch, and its figures are NaN from then on.
"""
StateDict = Mapping[str, Tensor]


def batch_order(member: Member, epochs: int) -> Tensor:
    """Draw the order in which a member visits its N training pairs: (E, N) int64, one permutation for each epoch.

    Batches are consecutive slices of `batch_size`; the last may be smaller. All trainers use this function, so they see
    the same batches.
    """
    generator = torch.Generator().manual_seed(member.order_seed)
    count = member.train.images.shape[0]
    return torch.stack([torch.randperm(count, generator=generator) for _ in range(epochs)])


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
    """Train a job by `train_epoch` and return the final state dict of each model, by `parameters`.

    `train_epoch` trains an epoch, counted from 0, of the models with the given numbers, which are those that have not
    diverged, and returns a result for each of them.
    """
    count, names = len(job.members), job.members[0].evaluation
    nothing = dict.fromkeys(
        [job.running, *(f"{name}_{of}" for name in names for of in ("loss", "error"))], math.nan
    )
    final: dict[int, StateDict] = {}
    for epoch in range(job.epochs):
        alive = [model for model in range(count) if model not in final]
        figures = [nothing] * count
        for model, (running, evaluated) in zip(alive, train_epoch(epoch, alive), strict=True):
            found, losses = {job.running: float(running[0])}, [*running]
            for name, result in evaluated.items():
                found |= {f"{name}_loss": float(result.main), f"{name}_error": float(result.error)}
                losses += [result.main, result.total]
            figures[model] = found
            if not all(map(math.isfinite, losses)):
                final[model] = parameters(model)
        if on_epoch is not None:
            on_epoch(epoch + 1, figures, [model for model in alive if model in final])
    return [final[k] if k in final else parameters(k) for k in range(count)]


def pair_losses(
    output: Logits,
    target_B: Tensor,
    classes_BI: Tensor,
    aux_loss_weight: Tensor | float | None,
    *,
    digits_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the main loss and the total loss of every pair, both (B,).

    total = main + w · (aux(image 1) + aux(image 2)), where all terms are cross entropies (paper, section 2.3). Their
    means over a batch are the paper's losses, because each term is a mean over the same pairs.

    Args:
        aux_loss_weight: w, or None to leave the auxiliary losses out; the total is then the main loss.
        digits_only: whether the total is aux(image 1) + aux(image 2) alone, for a module with digit logits.
    """
    main_logits_BO, digits_BID = split_logits(output)
    main_B = functional.cross_entropy(main_logits_BO, target_B, reduction="none")
    if digits_BID is None or (aux_loss_weight is None and not digits_only):
        return main_B, main_B
    aux_B2 = functional.cross_entropy(
        digits_BID.reshape(-1, DIGITS), classes_BI.reshape(-1), reduction="none"
    ).reshape(-1, 2)
    aux_B = aux_B2.sum(1)
    return main_B, aux_B if digits_only or aux_loss_weight is None else main_B + aux_loss_weight * aux_B


def wrong_answers(output: Logits, target_B: Tensor) -> Tensor:
    """Count the pairs whose larger main logit is not the target's; a tie answers 0, NaN counts as largest."""
    main_logits_BO, _ = split_logits(output)
    return (main_logits_BO.argmax(-1) != target_B).sum(-1)
