"""The training core's fallback: any architecture and optimiser, one model at a time in PyTorch's operations.

It is a faster form of the plain loop: pairs are put in order once an epoch, losses are summed once an
epoch, and convolutions run in the form that suits the batch size. On other devices than the CPU it trains what
`models.batched` cannot stack.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.backends import mkldnn

from pairsearch.models.arithmetic import fixed
from pairsearch.models.nets import Draws, build, schedule, trained, uses_aux_loss
from pairsearch.models.optim import plain_optimiser
from pairsearch.models.trainer import (
    EVALUATION_BATCH,
    EpochCallback,
    EpochResult,
    Member,
    Pairs,
    SetResult,
    StateDict,
    TrainingJob,
    batch_order,
    pair_losses,
    record,
    wrong_answers,
)

# Up to this batch size PyTorch's own convolutions are used, which take one image at a time; above it oneDNN's, which
# need some 80 µs a call before they begin. For the paper's architectures both take the same time at 7 pairs (Intel Xeon
# with AVX-512); PyTorch's take about 0.7 of oneDNN's time at 5 pairs, and 1.6 of it at 25.
SMALL_BATCH = 5


class SingleModel:
    """A member of a job that is being trained."""

    def __init__(self, job: TrainingJob, member: Member, device: str = "cpu") -> None:
        on = torch.device(device)
        self._train = member.train.to(on)
        self._evaluation = {name: pairs.to(on) for name, pairs in member.evaluation.items()}
        self._small = job.batch_size <= SMALL_BATCH
        self._batch_size = job.batch_size
        self._orders = batch_order(member, job.epochs).to(on)
        self._draws = Draws(member.init_seed, on)
        with self._draws.resumed():
            net = build(job.architecture, **job.arguments).to(on)
        channels_last = not self._small and _runs_channels_last(net, self._train.images[:2])
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._net = net.to(memory_format=self._format)
        self._parameters = list(self._net.parameters())
        self._member, self._rule = member, plain_optimiser(job.optimiser)
        self._schedule = schedule(net, job.epochs)
        self._weight = member.aux_loss_weight if uses_aux_loss(net) else None

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Train epoch `epoch`, from 0, and return the running means of the main and the total loss."""
        phase, before = self._schedule[epoch]
        if before == 0:
            parameters = trained(self._net, phase)
            self._plain = self._rule.plain(parameters, self._member.learning_rate, self._member.weight_decay)
        self._net.train()
        images, target, classes = (values[self._orders[epoch]] for values in self._train)
        inputs = (images.contiguous(memory_format=self._format), target, classes)
        batches = zip(*(torch.split(values, self._batch_size) for values in inputs), strict=True)
        losses = []
        with self._draws.resumed(), _onednn(enabled=not self._small):
            for images_B, target_B, classes_B in batches:
                for parameter in self._parameters:
                    parameter.grad = None
                main_B, total_B = pair_losses(
                    self._net(images_B), target_B, classes_B, self._weight, digits_only=phase.digits_only
                )
                # This is the gradient of the mean, which need not be computed for it.
                total_B.backward(torch.full_like(total_B, 1 / len(total_B)))  # type: ignore[no-untyped-call]
                self._plain.step()
                losses.append((main_B.detach(), total_B.detach()))
        main, total = (float(torch.cat(each).double().mean()) for each in zip(*losses, strict=True))
        return main, total

    def evaluate(self) -> Mapping[str, SetResult]:
        with self._draws.resumed():
            return {
                name: evaluate(self._net, pairs, self._weight) for name, pairs in self._evaluation.items()
            }

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters and buffers, copied to the CPU in PyTorch's usual memory format."""
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self._net.state_dict().items()
        }


@torch.no_grad()
def evaluate(net: nn.Module, pairs: Pairs, aux_loss_weight: float | None) -> SetResult:
    """Compute mean losses and error of a model over a set of pairs, in PyTorch's evaluation mode."""
    net.eval()
    main_sum = total_sum = 0.0
    wrong = 0
    batches = (torch.split(values, EVALUATION_BATCH) for values in pairs)
    for images, target, classes in zip(*batches, strict=True):
        output = net(images)
        main_B, total_B = pair_losses(output, target, classes, aux_loss_weight)
        main_sum += float(main_B.double().sum())
        total_sum += float(total_B.double().sum())
        wrong += int(wrong_answers(output, target))
    count = len(pairs.target)
    return SetResult(main_sum / count, total_sum / count, wrong / count)


def _runs_channels_last(net: nn.Module, images: Tensor) -> bool:
    """Whether a module runs with images and weights in channels-last format; one that calls `view` on them does not."""
    trial = copy.deepcopy(net).to(memory_format=torch.channels_last)
    try:
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []), torch.no_grad():
            trial(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return True


@contextmanager
def _onednn(*, enabled: bool) -> Iterator[None]:
    """Allow or forbid oneDNN in the whole process until the end of the block.

    `mkldnn.flags` does the same, but warns about TF32 on processors without it.
    """
    before = bool(mkldnn.enabled)
    mkldnn.enabled = before and enabled  # type: ignore[assignment]
    try:
        yield
    finally:
        mkldnn.enabled = before  # type: ignore[assignment]


def train(job: TrainingJob, *, on_epoch: EpochCallback | None = None, device: str = "cpu") -> list[StateDict]:
    """Train every member of `job` on a device, each as if it were alone.

    PyTorch runs in one thread that flushes subnormals (`models.arithmetic`), except in `on_epoch`.
    """
    models = [SingleModel(job, member, device) for member in job.members]

    def train_epoch(epoch: int, alive: Sequence[int]) -> list[EpochResult]:
        with fixed():
            return [(models[k].train_epoch(epoch), models[k].evaluate()) for k in alive]

    return record(job, on_epoch, train_epoch, lambda k: models[k].state_dict())
