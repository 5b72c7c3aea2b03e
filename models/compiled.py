"""The training core's compiled backend: one Numba call trains a model for a whole epoch on the CPU.

Each model of a job has its own flat parameters and its own calls, so no other model can change a bit of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pairsearch.jit.compiling import Floats, Integers
from pairsearch.models.arithmetic import flushed
from pairsearch.models.kernels import convolution as conv
from pairsearch.models.kernels import epoch as kernels
from pairsearch.models.kernels import updates
from pairsearch.models.layout import Layout, float_zeros, plannable
from pairsearch.models.nets import DIGITS, Joint, Phase, Shared, build_seeded, schedule
from pairsearch.models.optim import Optimiser, plain_optimiser
from pairsearch.models.recording import EpochResult, SetResult, record
from pairsearch.models.trainer import EpochCallback, Member, Pairs, StateDict, TrainingJob, batch_order


@dataclass(frozen=True, slots=True)
class _Set:
    """A set of pairs in the form that the kernels read.

    Args:
        images: (rows, 2, 16, 16) flat, with a border of zeros.
        windows: for each image a word with a bit for each pooling window that is not all black, numbered as in
            `forward1`.
        target: (rows,).
        classes: (rows, 2).
        everything: the positions of all pairs, 0 to rows − 1.
    """

    images: Floats
    windows: Integers
    target: Integers
    classes: Integers
    everything: Integers

    @staticmethod
    def of(pairs: Pairs) -> _Set:
        # All sets need one type and layout, as Numba compiles anew for another.
        images = np.pad(pairs.images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
        target = np.ascontiguousarray(pairs.target.numpy(), np.int64)
        classes = np.ascontiguousarray(pairs.classes.numpy(), np.int64)
        # The kernels check no bounds.
        for what, values, count in (("target", target, 2), ("classes", classes, DIGITS)):
            if values.min() < 0 or values.max() >= count:
                raise ValueError(
                    f"{what}: expected values 0 to {count - 1}, got {values.min()} to {values.max()}"
                )
        return _Set(images.reshape(-1), _windows(images), target, classes, np.arange(len(images)))


def _windows(images: Floats) -> Integers:
    """Return a word for each image of (rows, 2, 16, 16): bit 8·y + x is set if window (y, x) is not all zero."""
    seen = sliding_window_view(images != 0, (4, 4), axis=(2, 3))[:, :, ::2, ::2].any((-2, -1))
    bits = 8 * np.arange(conv.SIDE1)[:, None] + np.arange(conv.SIDE1)
    words: Integers = np.where(seen, np.int64(1) << bits, 0).sum((2, 3)).reshape(-1)
    return words


class Trainee:
    """A member of a job that is being trained: its data, parameters and optimiser state."""

    def __init__(
        self,
        job: TrainingJob,
        member: Member,
        layout: Layout,
        phases: Sequence[tuple[Phase, int]],
        initial: Floats,
        state_size: int,
    ) -> None:
        self.layout = layout
        self._phases = phases
        self._member = member
        self._batch_size = job.batch_size
        self._order = batch_order(member, job.epochs).numpy()
        self._train = _Set.of(member.train)
        self._evaluation = {name: _Set.of(pairs) for name, pairs in member.evaluation.items()}
        self.parameters = initial
        self._state = float_zeros(max(state_size, 1) * len(initial))

    def train_epoch(self, epoch: int, space: Workspace) -> tuple[float, float]:
        """Train epoch `epoch`, from 0, with subnormals flushed; returns the running means of main and total loss."""
        member, layout, train = self._member, self.layout, self._train
        phase, before = self._phases[epoch]
        plan, trained = layout.phase(phase)
        if epoch > 0 and before == 0:
            self._state[:] = 0
        results = np.zeros(3)
        count = len(train.target)
        steps = -(-count // self._batch_size)
        with flushed():
            kernels.train_epoch(
                plan, layout.layers, trained, self.parameters, space.gradients, self._state, space.floats,
                space.integers, space.rates, train.images, train.windows, train.target, train.classes,
                self._order[epoch], self._batch_size, before * steps, float(member.learning_rate),
                float(member.weight_decay), 1.0 if phase.digits_only else float(member.aux_loss_weight), results,
            )  # fmt: skip
        return results[0] / count, results[1] / count

    def evaluate(self, space: Workspace) -> Mapping[str, SetResult]:
        """Evaluate every set, with subnormals flushed."""
        layout, results, evaluated = self.layout, np.zeros(3), {}
        for name, pairs in self._evaluation.items():
            with flushed():
                kernels.evaluate(
                    layout.plan, layout.layers, self.parameters, space.floats, space.integers, pairs.images,
                    pairs.windows, pairs.target, pairs.classes, pairs.everything,
                    float(self._member.aux_loss_weight), results,
                )  # fmt: skip
            size = len(pairs.target)
            evaluated[name] = SetResult(*(results / size))
        return evaluated


class Workspace:
    """The workspace of one thread. Every call writes what it reads later, so models can use it in turn."""

    def __init__(self, layout: Layout) -> None:
        self.gradients = float_zeros(layout.gradients.size)
        self.floats = float_zeros(layout.floats.size)
        self.integers = np.zeros(layout.integers.size, np.int32)
        self.rates = float_zeros(updates.RATES)


def train(job: TrainingJob, *, on_epoch: EpochCallback | None = None, threads: int = 1) -> list[StateDict]:
    """Train every member with the compiled kernels, `threads` of them at a time.

    Bits depend neither on the number of threads nor on the other members. Models train in threads of a pool, which
    flush subnormals (`models.arithmetic`); `on_epoch` runs in the calling thread, whose mode does not change.

    Raises:
        ValueError: unknown architecture or optimiser, or one that the kernels have no plan for.
    """
    trainees = trainees_of(job)
    threads = min(threads, len(trainees))
    spaces = [Workspace(trainees[0].layout) for _ in range(threads)]

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
    """Prepare every member of a job for its first epoch; all share one layout.

    Raises:
        ValueError: unknown architecture or optimiser, or one that the kernels have no plan for.
    """
    rule = plain_optimiser(job.optimiser)
    modules = [build_seeded(job.architecture, job.arguments, member.init_seed) for member in job.members]
    first = modules[0]
    if not isinstance(first, Joint | Shared) or not isinstance(rule, Optimiser) or not plannable(first, rule):
        raise ValueError(
            f"no compiled kernels for architecture {job.architecture!r} with optimiser {job.optimiser!r}: "
            "use models.single"
        )
    layout = Layout(first, rule, max(job.batch_size, kernels.EVALUATION_PAIRS))
    phases = schedule(first, job.epochs)
    return [
        Trainee(job, member, layout, phases, layout.pack(module), rule.state_size)
        for member, module in zip(job.members, modules, strict=True)
    ]
