"""The optimisers, each said once for one model (torch.optim) and for K stacked models.

A further optimiser is one new class here and one entry in `OPTIMISERS`. Any of `torch.optim.Optimizer` trains in its
plain form (`Plain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class PlainOptimiser(Protocol):
    """One rule of update for one model."""

    def plain(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """The optimiser of one model, as PyTorch has it."""


@runtime_checkable
class Optimiser(PlainOptimiser, Protocol):
    """One rule of update, in its plain and its stacked form.

    `state_size` is the number of tensors kept per parameter, each of the parameter's shape and zero at first.
    """

    state_size: int

    def update(
        self,
        parameter_K: Tensor,
        gradient_K: Tensor,
        state: tuple[Tensor, ...],
        step: Tensor,
        learning_rate_K: Tensor,
        weight_decay_K: Tensor,
    ) -> None:
        """One step on K stacked parameters, in place, the same arithmetic for each of them.

        Args:
            parameter_K: (K, ...) float32.
            gradient_K: (K, ...) float32, not changed.
            state: `state_size` tensors like the parameter, updated in place.
            step: 0-dimensional float64, the number of this step, from 1; a tensor, so that a captured CUDA
                graph reads its present value.
            learning_rate_K, weight_decay_K: (K, 1, ...) float32, shaped to broadcast.
        """


class Adam:
    """`torch.optim.Adam` with its defaults: betas 0.9 and 0.999, eps 1e-8, coupled (L2) weight decay.

    Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 1, in the order of operations
    of the `torch.optim.Adam` documentation.
    """

    state_size = 2
    beta1, beta2, eps = 0.9, 0.999, 1e-8

    def plain(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            parameters, learning_rate, (self.beta1, self.beta2), self.eps, weight_decay, fused=True
        )

    def update(
        self,
        parameter_K: Tensor,
        gradient_K: Tensor,
        state: tuple[Tensor, ...],
        step: Tensor,
        learning_rate_K: Tensor,
        weight_decay_K: Tensor,
    ) -> None:
        mean, square = state
        gradient = gradient_K + weight_decay_K * parameter_K
        mean.lerp_(gradient, 1 - self.beta1)
        square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        correction1 = 1 - self.beta1**step
        correction2 = (1 - self.beta2**step).sqrt()
        denominator = (square.sqrt() / correction2).add_(self.eps)
        parameter_K.sub_(learning_rate_K / correction1 * (mean / denominator))


class SGD:
    """`torch.optim.SGD` with momentum 0.9 and coupled (L2) weight decay, no dampening."""

    state_size = 1
    momentum = 0.9

    def plain(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, learning_rate, self.momentum, weight_decay=weight_decay, fused=True
        )

    def update(
        self,
        parameter_K: Tensor,
        gradient_K: Tensor,
        state: tuple[Tensor, ...],
        step: Tensor,
        learning_rate_K: Tensor,
        weight_decay_K: Tensor,
    ) -> None:
        # torch.optim.SGD sets the buffer to the first gradient: the same as momentum on a zero buffer.
        (velocity,) = state
        velocity.mul_(self.momentum).add_(gradient_K + weight_decay_K * parameter_K)
        parameter_K.sub_(learning_rate_K * velocity)


@dataclass(frozen=True)
class Plain:
    """Any class of `torch.optim.Optimizer`, for one model at a time.

    Args:
        made: the class; called with the parameters, `lr`, `weight_decay` if it takes one, and the arguments.
        arguments: further ones, by name.
        decays: whether it takes `weight_decay`.
    """

    made: Callable[..., torch.optim.Optimizer]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    decays: bool = True

    def plain(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        decay = {"weight_decay": weight_decay} if self.decays else {}
        return self.made(parameters, lr=learning_rate, **decay, **self.arguments)


OPTIMISERS: Mapping[str, Optimiser] = {"adam": Adam(), "sgd": SGD()}


def plain_optimiser(given: str | PlainOptimiser) -> PlainOptimiser:
    """An optimiser that is registered, or given itself; raises as `optimiser`."""
    return optimiser(given) if isinstance(given, str) else given


def optimiser(name: str) -> Optimiser:
    """The optimiser registered under a name, in any case.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    found = OPTIMISERS.get(name.lower())
    if found is None:
        raise ValueError(f"unknown optimiser {name!r}: expected one of {', '.join(OPTIMISERS)}")
    return found
