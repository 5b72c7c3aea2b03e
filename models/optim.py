"""The optimisers, each in a plain form for one model (torch.optim) and a stacked form for K models.

A new optimiser is a class here and an entry in `OPTIMISERS`. Any other class of `torch.optim.Optimizer` trains in the
plain form (`Plain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn, optim

State = tuple[Tensor, ...]
Parameters = Iterable[nn.Parameter]


class Rates(NamedTuple):
    """What a step on K stacked parameters goes by.

    Args:
        step: 0-dimensional float64, the number of the step, from 1; a tensor, so that a captured CUDA graph reads its
            current value.
        learning_rate: (K, 1, ...) float32, shaped to broadcast.
        weight_decay: (K, 1, ...) float32, shaped to broadcast.
    """

    step: Tensor
    learning_rate: Tensor
    weight_decay: Tensor


class PlainOptimiser(Protocol):
    """An optimiser for one model."""

    def plain(self, parameters: Parameters, learning_rate: float, weight_decay: float) -> optim.Optimizer:
        """Make the PyTorch optimiser of a model's parameters."""


@runtime_checkable
class Optimiser(PlainOptimiser, Protocol):
    """An optimiser in its plain and its stacked form.

    `state_size` is the number of tensors that it keeps for each parameter, with the parameter's shape and zero at
    first.
    """

    state_size: int

    def update(self, parameter_K: Tensor, gradient_K: Tensor, state: State, rates: Rates) -> None:
        """Make a step on K stacked parameters and their state in place, with the same arithmetic for each of them.

        Parameter and gradient are (K, ...) float32; the gradient is not changed.
        """


class Adam:
    """`torch.optim.Adam` with its defaults: betas 0.9 and 0.999, eps 1e-8, coupled (L2) weight decay.

    Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 1, in the order of operations
    of the `torch.optim.Adam` documentation.
    """

    state_size = 2
    beta1, beta2, eps = 0.9, 0.999, 1e-8

    def plain(self, parameters: Parameters, learning_rate: float, weight_decay: float) -> optim.Optimizer:
        betas = (self.beta1, self.beta2)
        return optim.Adam(parameters, learning_rate, betas, self.eps, weight_decay, fused=True)

    def update(self, parameter_K: Tensor, gradient_K: Tensor, state: State, rates: Rates) -> None:
        mean, square = state
        gradient = gradient_K + rates.weight_decay * parameter_K
        mean.lerp_(gradient, 1 - self.beta1)
        square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        correction1 = 1 - self.beta1**rates.step
        correction2 = (1 - self.beta2**rates.step).sqrt()
        denominator = (square.sqrt() / correction2).add_(self.eps)
        parameter_K.sub_(rates.learning_rate / correction1 * (mean / denominator))


class SGD:
    """`torch.optim.SGD` with momentum 0.9 and coupled (L2) weight decay, no dampening."""

    state_size = 1
    momentum = 0.9

    def plain(self, parameters: Parameters, learning_rate: float, weight_decay: float) -> optim.Optimizer:
        return optim.SGD(parameters, learning_rate, self.momentum, weight_decay=weight_decay, fused=True)

    def update(self, parameter_K: Tensor, gradient_K: Tensor, state: State, rates: Rates) -> None:
        # torch.optim.SGD starts its buffer with the first gradient, which equals a step from a buffer of zeros.
        (velocity,) = state
        velocity.mul_(self.momentum).add_(gradient_K + rates.weight_decay * parameter_K)
        parameter_K.sub_(rates.learning_rate * velocity)


@dataclass(frozen=True)
class Plain:
    """Any class of `torch.optim.Optimizer`, for one model at a time.

    It is called with the parameters, `lr`, `weight_decay` where it `decays`, and the arguments.
    """

    made: Callable[..., optim.Optimizer]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    decays: bool = True

    def plain(self, parameters: Parameters, learning_rate: float, weight_decay: float) -> optim.Optimizer:
        decay = {"weight_decay": weight_decay} if self.decays else {}
        return self.made(parameters, lr=learning_rate, **decay, **self.arguments)


OPTIMISERS: Mapping[str, Optimiser] = {"adam": Adam(), "sgd": SGD()}


def plain_optimiser(given: str | PlainOptimiser) -> PlainOptimiser:
    """Return a registered optimiser by its name, or an optimiser unchanged; raises as `optimiser`."""
    return optimiser(given) if isinstance(given, str) else given


def optimiser(name: str) -> Optimiser:
    """Return the optimiser that is registered under a name, in any case; raises a ValueError that lists the known."""
    found = OPTIMISERS.get(name.lower())
    if found is None:
        raise ValueError(f"unknown optimiser {name!r}: expected one of {', '.join(OPTIMISERS)}")
    return found
