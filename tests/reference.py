"""The plain PyTorch loop, one model at a time: the reference that tests compare the fast trainers with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pairsearch.models.arithmetic import fixed
from pairsearch.models.nets import Draws, build, schedule, trained, uses_aux_loss
from pairsearch.models.optim import plain_optimiser
from pairsearch.models.single import evaluate
from pairsearch.models.trainer import (
    EpochCallback,
    EpochResult,
    Member,
    StateDict,
    TrainingJob,
    batch_order,
    pair_losses,
    record,
)


def train(job: TrainingJob, *, on_epoch: EpochCallback | None = None) -> list[StateDict]:
    """Train every member of `job` on the CPU, each as if it were alone.

    PyTorch runs in one thread that flushes subnormals (`models.arithmetic`), except in `on_epoch`.
    """
    rule = plain_optimiser(job.optimiser)
    draws = [Draws(member.init_seed) for member in job.members]
    nets = []
    for drawn in draws:
        with drawn.resumed():
            nets.append(build(job.architecture, **job.arguments))
    orders = [batch_order(member, job.epochs) for member in job.members]
    phases = schedule(nets[0], job.epochs)
    optimisers: dict[int, torch.optim.Optimizer] = {}

    def train_one(epoch: int, k: int) -> EpochResult:
        (phase, before), net, member = phases[epoch], nets[k], job.members[k]
        if before == 0:
            optimisers[k] = rule.plain(trained(net, phase), member.learning_rate, member.weight_decay)
        weight = member.aux_loss_weight if uses_aux_loss(net) else None
        with draws[k].resumed():
            running = _train_epoch(
                net, optimisers[k], member, orders[k][epoch], job.batch_size, weight,
                digits_only=phase.digits_only,
            )  # fmt: skip
            return running, {name: evaluate(net, pairs, weight) for name, pairs in member.evaluation.items()}

    def train_epoch(epoch: int, alive: Sequence[int]) -> list[EpochResult]:
        with fixed():
            return [train_one(epoch, k) for k in alive]

    return record(job, on_epoch, train_epoch, lambda k: _state(nets[k]))


def _train_epoch(
    net: nn.Module,
    plain: torch.optim.Optimizer,
    member: Member,
    order_N: Tensor,
    batch_size: int,
    aux_loss_weight: float | None,
    *,
    digits_only: bool,
) -> tuple[float, float]:
    """Train for one epoch, and return the running means of the main and the total loss."""
    net.train()
    main_sum = total_sum = 0.0
    for index_B in torch.split(order_N, batch_size):
        output = net(member.train.images[index_B])
        main_B, total_B = pair_losses(
            output,
            member.train.target[index_B],
            member.train.classes[index_B],
            aux_loss_weight,
            digits_only=digits_only,
        )
        net.zero_grad()
        total_B.mean().backward()  # type: ignore[no-untyped-call]
        plain.step()
        main_sum += float(main_B.detach().sum())
        total_sum += float(total_B.detach().sum())
    count = len(order_N)
    return main_sum / count, total_sum / count


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}
