"""The training core's compiled backend: one Numba call trains a model for a whole epoch on the CPU.

Each model of a job has its own flat parameters and its own calls, so no other model can change a bit of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from pairsearch.models.arithmetic import flushed
from pairsearch.models.kernels import convolution as conv
from pairsearch.models.kernels import epoch as kernels
from pairsearch.models.kernels.network import PairArrays, Workspace
from pairsearch.models.layout import Layout, plannable
from pairsearch.models.nets import DIGITS, Joint, Shared, build_seeded, schedule
from pairsearch.models.optim import Optimiser, plain_optimiser
from pairsearch.models.trainer import (
    EpochCallback,
    EpochResult,
    Member,
    Pairs,
    SetResult,
    StateDict,
    TrainingJob,
    batch_order,
    record,
)


def _arrays(pairs: Pairs) -> PairArrays:
    # All sets need one type and layout, as Numba compiles anew for another.
    images = np.pad(pairs.images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    target, classes = (np.ascontiguousarray(values.numpy(), np.int64) for values in pairs[1:])
    # The kernels check no bounds.
    for what, values, count in (("target", target, 2), ("classes", classes, DIGITS)):
        if values.min() < 0 or values.max() >= count:
            raise ValueError(
                f"{what}: expected values 0 to {count - 1}, got {values.min()} to {values.max()}"
            )
    # Bit 8·y + x of an image's word is set if window (y, x) is not all zero.
    seen = sliding_window_view(images != 0, (4, 4), axis=(2, 3))[:, :, ::2, ::2].any((-2, -1))
    bits = 8 * np.arange(conv.SIDE1)[:, None] + np.arange(conv.SIDE1)
    windows = np.where(seen, np.int64(1) << bits, 0).sum((2, 3))
    return PairArrays(images.reshape(-1), windows.reshape(-1), target, classes)


class Trainee:
    """A member of a job that is being trained: its data, parameters and optimiser state."""

    def __init__(self, job: TrainingJob, member: Member, layout: Layout, module: nn.Module) -> None:
        self.layout = layout
        self._phases = schedule(module, job.epochs)
        self._member = member
        self._batch_size = job.batch_size
        self._order = batch_order(member, job.epochs).numpy()
        self._train = _arrays(member.train)
        self._evaluation = {name: _arrays(pairs) for name, pairs in member.evaluation.items()}
        self.parameters = layout.pack(module)
        self._state = layout.state()

    def train_epoch(self, epoch: int, space: Workspace) -> tuple[float, float]:
        """Train epoch `epoch`, from 0, with subnormals flushed; returns the running means of main and total loss."""
        member, layout = self._member, self.layout
        phase, before = self._phases[epoch]
        plan, trained = layout.phase(phase)
        if before == 0:
            self._state[:] = 0
        results = np.zeros(3)
        count = len(self._train.target)
        steps = -(-count // self._batch_size)
        with flushed():
            kernels.train_epoch(
                plan, layout.layers, trained, self.parameters, self._state, space, self._train, self._order[epoch],
                self._batch_size, before * steps, float(member.learning_rate), float(member.weight_decay),
                1.0 if phase.digits_only else float(member.aux_loss_weight), results,
            )  # fmt: skip
        return results[0] / count, results[1] / count

    def evaluate(self, space: Workspace) -> Mapping[str, SetResult]:
        """Evaluate every set, with subnormals flushed."""
        layout, weight = self.layout, float(self._member.aux_loss_weight)
        results, evaluated = np.zeros(3), {}
        for name, pairs in self._evaluation.items():
            with flushed():
                kernels.evaluate(layout.plan, layout.layers, self.parameters, space, pairs, weight, results)
            evaluated[name] = SetResult(*(results / len(pairs.target)))
        return evaluated


def train(job: TrainingJob, *, on_epoch: EpochCallback | None = None, threads: int = 1) -> list[StateDict]:
    """Train every member with the compiled kernels, `threads` of them at a time; raises as `trainees_of`.

    Bits depend neither on the number of threads nor on the other members. Models train in threads of a pool, which
    flush subnormals (`models.arithmetic`); `on_epoch` runs in the calling thread, whose mode does not change.
    """
    trainees = trainees_of(job)
    threads = min(threads, len(trainees))
    spaces = [trainees[0].layout.workspace() for _ in range(threads)]

    def train_share(epoch: int, models: Sequence[int], space: Workspace) -> list[tuple[int, EpochResult]]:
        return [(k, (trainees[k].train_epoch(epoch, space), trainees[k].evaluate(space))) for k in models]

    def train_epoch(epoch: int, alive: Sequence[int]) -> list[EpochResult]:
        shares = [
            pool.submit(train_share, epoch, alive[number::threads], space)
            for number, space in enumerate(spaces)
        ]
        results = dict(done for share in shares for done in share.result())
        return [results[k] for k in alive]

    with ThreadPoolExecutor(threads) as pool:
        return record(job, on_epoch, train_epoch, lambda k: trainees[k].layout.unpack(trainees[k].parameters))


def trainees_of(job: TrainingJob) -> list[Trainee]:
    """Prepare every member of a job for its first epoch; all share one layout."""
    rule = plain_optimiser(job.optimiser)
    modules = [build_seeded(job.architecture, job.arguments, member.init_seed) for member in job.members]
    first = modules[0]
    if not isinstance(first, Joint | Shared) or not isinstance(rule, Optimiser) or not plannable(first, rule):
        raise ValueError(
            f"no compiled kernels for architecture {job.architecture!r} with optimiser {job.optimiser!r}: "
            "use models.single"
        )
    layout = Layout(first, rule, max(job.batch_size, kernels.EVALUATION_PAIRS))
    return [Trainee(job, member, layout, module) for member, module in zip(job.members, modules, strict=True)]
