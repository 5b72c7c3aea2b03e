"""Stacked and compiled optimisers agree with torch.optim; a class and an entry suffice for a new one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import reference
import torch
from histories import history_of
from jobs import make_job
from torch import Tensor, nn

from pairsearch.models import batched, compiled, fused, nets, optim
from pairsearch.models.kernels import updates

LEARNING_RATES = (1e-3, 1e-2, 0.1)
WEIGHT_DECAYS = (0.0, 0.01, 0.1)


def plain_run(rule: optim.Optimiser, start: Tensor, gradients: list[Tensor], lr: float, wd: float) -> Tensor:
    parameter = nn.Parameter(start.clone())
    plain = rule.plain([parameter], lr, wd)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        plain.step()
    return parameter.detach()


@pytest.mark.parametrize("name", optim.OPTIMISERS)
def test_stacked_updates_follow_torch_optim(name: str) -> None:
    rule = optim.optimiser(name)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, 7, generator=generator)
    gradients = [torch.randn(3, 5, 7, generator=generator) for _ in range(20)]
    got = start.clone()
    state = tuple(torch.zeros_like(got) for _ in range(rule.state_size))
    for step, gradient in enumerate(gradients, 1):
        rule.update(
            got, gradient, state, optim.Rates(torch.tensor(step, dtype=torch.float64),
            torch.tensor(LEARNING_RATES).view(-1, 1, 1), torch.tensor(WEIGHT_DECAYS).view(-1, 1, 1)),
        )  # fmt: skip
    for k in range(3):
        expected = plain_run(rule, start[k], [g[k] for g in gradients], LEARNING_RATES[k], WEIGHT_DECAYS[k])
        torch.testing.assert_close(got[k], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", optim.OPTIMISERS)
@pytest.mark.parametrize(
    ("learning_rate", "weight_decay"), list(zip(LEARNING_RATES, WEIGHT_DECAYS, strict=True))
)
def test_compiled_updates_follow_torch_optim(name: str, learning_rate: float, weight_decay: float) -> None:
    rule = optim.optimiser(name)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(64, generator=generator)
    gradients = [torch.randn(64, generator=generator) for _ in range(20)]
    got = start.numpy().copy()
    state = np.zeros(128, np.float32)
    rates = np.zeros(updates.RATES, np.float32)
    kind = updates.COMPILED_RULES[type(rule)]
    for step, gradient in enumerate(gradients, 1):
        updates.set_rates(kind, rates, step, learning_rate, weight_decay)
        updates.update(kind, got, 0, gradient.numpy(), 0, state, rates, len(got))
    expected = plain_run(rule, start, gradients, learning_rate, weight_decay)
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-5, atol=1e-6)


def test_unknown_optimiser_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^unknown optimiser 'lion': expected one of adam, sgd$"):
        optim.optimiser("lion")


class SignDescent:
    """An optimiser that no other part of the code knows."""

    state_size = 0

    def plain(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        class Plain(torch.optim.Optimizer):
            def step(self, closure: object = None) -> None:  # type: ignore[override]
                for parameter in self.param_groups[0]["params"]:
                    parameter.data.sub_(learning_rate * parameter.grad.sign())

        return Plain(parameters, {})

    def update(self, parameter_K: Tensor, gradient_K: Tensor, state: optim.State, rates: optim.Rates) -> None:
        parameter_K.sub_(rates.learning_rate * gradient_K.sign())


class OneLayer(nets.Architecture):
    """An architecture that no other part of the code knows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2 * 14 * 14, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1) / 255)
        return logits


def test_a_new_architecture_and_a_new_optimiser_need_one_class_and_one_entry_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nets, "ARCHITECTURES", {**nets.ARCHITECTURES, "one": OneLayer})
    monkeypatch.setattr(optim, "OPTIMISERS", {**optim.OPTIMISERS, "sign": SignDescent()})
    for architecture, optimiser in [("one", "adam"), ("b1", "sign"), ("one", "sign")]:
        job = make_job(architecture, optimiser=optimiser, epochs=2)
        assert fused.backend_of(architecture, optimiser) == "torch"
        expected = history_of(reference.train, job).train_loss
        for train in (fused.train, batched.train):  # The plain form of the optimiser, and the stacked one.
            np.testing.assert_allclose(history_of(train, job).train_loss, expected, rtol=2e-3)
        with pytest.raises(ValueError, match="no compiled kernels for architecture"):
            compiled.train(job)
