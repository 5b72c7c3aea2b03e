"""The training core's backend for GPUs: all models of a job stacked in batched PyTorch operations.

It trains every registered architecture and optimiser, as it derives all that it needs from the plain module through
`torch.func`. It runs on the CPU too, where `models.single` is usually faster. A user's module may draw numbers, keep
running means or read values while it trains, which neither `vmap` nor a captured graph can do: such models train one
at a time (`models.single`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from pairsearch.models.arithmetic import fixed
from pairsearch.models.nets import build_seeded, schedule, uses_aux_loss
from pairsearch.models.optim import Rates, optimiser
from pairsearch.models.trainer import (
    EVALUATION_BATCH,
    EpochCallback,
    EpochResult,
    Pairs,
    SetResult,
    StateDict,
    TrainingJob,
    batch_order,
    pair_losses,
    record,
    wrong_answers,
)


def _stacked(sets: Sequence[Pairs], device: torch.device) -> Pairs:
    """Return one set of pairs for each model, on the device: (K, N, 2, 14, 14), (K, N) and (K, N, 2)."""
    return Pairs(*map(torch.stack, zip(*sets, strict=True))).to(device)


class Stack:
    """The models of a job, which train side by side; architecture and optimiser have to be registered ones."""

    def __init__(self, job: TrainingJob, device: torch.device) -> None:
        members = job.members
        self._rule = optimiser(str(job.optimiser))
        modules = [build_seeded(job.architecture, job.arguments, member.init_seed) for member in members]
        stacked, _ = stack_module_state(modules)
        self._parameters: dict[str, Tensor] = {
            name: value.detach().to(device) for name, value in stacked.items()
        }
        self._template = copy.deepcopy(modules[0]).to("meta")
        self._schedule = schedule(modules[0], job.epochs)
        self._state = {
            name: tuple(torch.zeros_like(value) for _ in range(self._rule.state_size))
            for name, value in self._parameters.items()
        }
        self._step = torch.zeros((), dtype=torch.float64, device=device)
        rates = [(each.learning_rate, each.weight_decay, each.aux_loss_weight) for each in members]
        self._learning_rate, self._weight_decay, self._weight = (
            torch.tensor(values, dtype=torch.float32, device=device) for values in zip(*rates, strict=True)
        )
        self._orders = torch.stack([batch_order(member, job.epochs) for member in members]).to(device)
        self._train = _stacked([member.train for member in members], device)
        self._evaluation = {
            name: _stacked([member.evaluation[name] for member in members], device)
            for name in members[0].evaluation
        }
        self._batch_size = job.batch_size
        # Sums over pairs for each model: main loss, total loss, wrong answers, each (K,).
        self._sums = [torch.zeros(len(members), dtype=torch.float64, device=device) for _ in range(3)]
        self._graphs: dict[int, Callable[[Tensor], None]] = {}

    def _loss(
        self, parameters: dict[str, Tensor], images: Tensor, target: Tensor, classes: Tensor, weight: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return one model's mean total loss, and its sums over the batch of main loss, total loss, wrong answers."""
        output = functional_call(self._template, parameters, (images,))
        main_B, total_B = pair_losses(
            output,
            target,
            classes,
            weight if uses_aux_loss(self._template) else None,
            digits_only=self._phase.digits_only,
        )
        return total_B.mean(), (main_B.sum(), total_B.sum(), wrong_answers(output, target))

    def _add(self, sums: Sequence[Tensor]) -> None:
        for kept, new in zip(self._sums, sums, strict=True):
            kept.add_(new.detach())

    def _train_batch(self, index_KB: Tensor) -> None:
        model_K1 = torch.arange(len(index_KB), device=index_KB.device).unsqueeze(1)
        images, target, classes = (values[model_K1, index_KB] for values in self._train)
        gradients, sums = vmap(grad(self._loss, has_aux=True))(
            self._parameters, images, target, classes, self._weight
        )
        self._add(sums)
        self._step.add_(1)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                if self._phase.trains(name):
                    ones = (-1,) + (1,) * (parameter.dim() - 1)
                    rates = Rates(self._step, self._learning_rate.view(ones), self._weight_decay.view(ones))
                    self._rule.update(parameter, gradients[name], self._state[name], rates)

    def _stepper(self, index_KB: Tensor) -> Callable[[Tensor], None]:
        """Return a function that makes a step on batches of this size: a captured graph on CUDA, else plain."""
        if index_KB.device.type != "cuda":
            return self._train_batch
        size = index_KB.shape[1]
        if size not in self._graphs:
            self._graphs[size] = self._capture(index_KB)
        return self._graphs[size]

    def _states(self) -> list[Tensor]:
        return [tensor for state in self._state.values() for tensor in state]

    def _capture(self, index_KB: Tensor) -> Callable[[Tensor], None]:
        """Capture a step as a CUDA graph, and undo the warm-up steps that capturing needs."""
        kept = [*self._parameters.values(), *self._states(), *self._sums, self._step]
        before = [tensor.clone() for tensor in kept]
        static_index = index_KB.clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._train_batch(static_index)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._train_batch(static_index)
        for tensor, value in zip(kept, before, strict=True):
            tensor.copy_(value)

        def replay(index: Tensor) -> None:
            static_index.copy_(index)
            graph.replay()

        return replay

    def train_epoch(self, epoch: int) -> list[SetResult]:
        """Train epoch `epoch`, from 0, and return the running means of each model."""
        self._phase, before = self._schedule[epoch]
        if before == 0:
            for tensor in (self._step, *self._states()):
                tensor.zero_()
            # They compute the loss of the phase before.
            self._graphs.clear()
        order_KN = self._orders[:, epoch]
        for index_KB in torch.split(order_KN, self._batch_size, dim=1):
            self._stepper(index_KB)(index_KB)
        return self._results(order_KN.shape[1])

    def evaluate(self) -> dict[str, list[SetResult]]:
        return {name: self._evaluate(pairs) for name, pairs in self._evaluation.items()}

    @torch.no_grad()
    def _evaluate(self, pairs: Pairs) -> list[SetResult]:
        count = pairs.target.shape[1]
        batches = (torch.split(values, EVALUATION_BATCH, dim=1) for values in pairs)
        for images, target, classes in zip(*batches, strict=True):
            _, sums = vmap(self._loss)(self._parameters, images, target, classes, self._weight)
            self._add(sums)
        return self._results(count)

    def _results(self, count: int) -> list[SetResult]:
        """Return the sums as means of each model over `count` pairs, and reset them."""
        means = (torch.stack(self._sums) / count).tolist()
        for kept in self._sums:
            kept.zero_()
        return [SetResult(*values) for values in zip(*means, strict=True)]

    def state_dict(self, model: int) -> dict[str, Tensor]:
        return {name: value[model].detach().cpu().clone() for name, value in self._parameters.items()}


def train(job: TrainingJob, *, on_epoch: EpochCallback | None = None, device: str = "cpu") -> list[StateDict]:
    """Train every member in batched PyTorch operations, all of them side by side, on a PyTorch device.

    PyTorch runs in one CPU thread that flushes subnormals (`models.arithmetic`), except in `on_epoch`. It picks its
    kernels by the size of the stack, so a model's bits may depend on how many models are beside it.
    """
    stack = Stack(job, torch.device(device))

    def train_epoch(epoch: int, alive: Sequence[int]) -> list[EpochResult]:
        if not alive:
            return []
        with fixed():
            running, evaluated = stack.train_epoch(epoch), stack.evaluate()
        return [
            ((running[k].main, running[k].total), {name: results[k] for name, results in evaluated.items()})
            for k in alive
        ]

    return record(job, on_epoch, train_epoch, stack.state_dict)
