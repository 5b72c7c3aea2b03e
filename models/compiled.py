"""The training core's compiled backend: whole epochs of a model inside one Numba call, on the CPU.

The architecture is read from the `nn.Module` itself, so that it is said once. Each model of a job has its own
flat parameters and its own calls: nothing that another model does can change a bit of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.kernels import convolution as conv
from models.kernels import epoch as kernels
from models.kernels import network, updates
from models.kernels.emit import LANES
from models.nets import Architecture, Joint, Shared, build_seeded
from models.optim import optimiser
from models.recording import Recorder, SetResult
from models.training import EpochCallback, Member, Pairs, TrainingHistory, TrainingJob, batch_order

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


def _padded(count: int) -> int:
    return -(-count // LANES) * LANES


class _Places:
    """Hands out consecutive places of a flat array, each a whole number of vectors."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        place = self.size
        self.size += _padded(count)
        return place


@dataclass(frozen=True, slots=True)
class _Block:
    """One tensor of the module, `place` in the flat parameters as an array of `shape`.

    `axes` permutes the tensor (reshaped to `split`) to the kernels' order; it fills the first entries of each
    axis of `shape`, the rest stays zero.
    """

    name: str
    place: int
    shape: tuple[int, ...]
    split: tuple[int, ...]
    axes: tuple[int, ...]


@dataclass(slots=True)
class Model:
    """The plan of one module: its blocks in the flat parameters, and the kernels' plan for a number of pairs."""

    plan: network.Plan
    layers: Integers
    blocks: list[_Block]
    parameters: int
    floats: int
    integers: int
    state: int

    def pack(self, module: nn.Module) -> Floats:
        """The module's parameters as one flat array."""
        flat = np.zeros(self.parameters, np.float32)
        tensors = module.state_dict()
        for block in self.blocks:
            values = tensors[block.name].numpy().reshape(block.split).transpose(block.axes)
            self._view(flat, block)[tuple(slice(n) for n in values.shape)] = values
        return flat

    def unpack(self, flat: Floats) -> dict[str, Tensor]:
        """A state dict of a flat array's values, as new tensors."""
        tensors = {}
        for block in self.blocks:
            used = tuple(slice(block.split[axis]) for axis in block.axes)
            values = self._view(flat, block)[used].transpose(np.argsort(block.axes))
            shape = self.shapes[block.name]
            tensors[block.name] = torch.from_numpy(np.ascontiguousarray(values).reshape(shape).copy())
        return {name: tensors[name] for name in self.shapes}

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def _view(self, flat: Floats, block: _Block) -> Floats:
        return flat[block.place : block.place + int(np.prod(block.shape))].reshape(block.shape)


def plannable(module: nn.Module, rule: object) -> bool:
    """Whether the compiled kernels know this module's structure and this optimiser."""
    known = type(module).forward in (Joint.forward, Shared.forward)
    return known and isinstance(module, Architecture) and type(rule) in updates.COMPILED_RULES


def plan(module: Joint | Shared, rule: object, pairs: int) -> Model:
    """Lays out parameters and workspace for batches of up to `pairs` pairs."""
    shared = isinstance(module, Shared)
    images = 2 if shared else 1
    rows = pairs * images
    clenet, head = module.clenet, module.head
    channels = clenet.conv1.in_channels
    parameters, floats, integers = _Places(), _Places(), _Places()
    blocks: list[_Block] = []

    def block(name: str, shape: tuple[int, ...], split: tuple[int, ...], axes: tuple[int, ...]) -> int:
        place = parameters.take(int(np.prod(shape)))
        blocks.append(_Block(name, place, shape, split, axes))
        return place

    maps1, maps2, side2 = conv.MAPS1, conv.MAPS2, conv.SIDE2
    weights1 = block("clenet.conv1.weight", (channels, 3, 3, maps1), (maps1, channels, 3, 3), (1, 2, 3, 0))
    bias1 = block("clenet.conv1.bias", (maps1,), (maps1,), (0,))
    weights2 = block("clenet.conv2.weight", (maps2, 3, 3, maps1), (maps2, maps1, 3, 3), (0, 2, 3, 1))
    bias2 = block("clenet.conv2.bias", (maps2,), (maps2,), (0,))
    pooled1 = floats.take(rows * conv.SIZE1)
    pooled2 = floats.take(rows * conv.SIZE2)
    pooled2_gradient = floats.take(rows * conv.SIZE2)
    layers: list[list[int]] = []

    def layer(name: str, linear: nn.Linear, relu_in: bool, relu_out: bool, per_pair: int) -> None:
        """Appends one linear layer that reads the output of the one before as it lies."""
        inputs, outputs = linear.in_features, _padded(linear.out_features)
        previous = layers[-1] if layers else None
        source = pooled2 if previous is None else previous[network.OUTPUT]
        source_gradient = pooled2_gradient if previous is None else previous[network.OUTPUT_GRADIENT]
        if previous is None:
            # Features leave the second convolution with channels last.
            shape: tuple[int, ...] = (side2, side2, maps2, outputs)
            split: tuple[int, ...] = (linear.out_features, maps2, side2, side2)
            axes: tuple[int, ...] = (2, 3, 1, 0)
            wide = inputs
        else:
            # Several rows of the layer before may make one row of this one (the two images of a pair).
            parts = previous[network.ROWS_PER_PAIR] // per_pair
            wide = previous[network.OUTPUTS] * parts
            shape = (parts, previous[network.OUTPUTS], outputs)
            split = (linear.out_features, parts, inputs // parts)
            axes = (1, 2, 0)
        weights = block(f"{name}.weight", shape, split, axes)
        bias = block(f"{name}.bias", (outputs,), (linear.out_features,), (0,))
        row = [0] * network.LAYER_FIELDS
        row[network.ROWS_PER_PAIR] = per_pair
        row[network.INPUTS], row[network.OUTPUTS] = wide, outputs
        row[network.WEIGHTS], row[network.BIAS] = weights, bias
        row[network.INPUT], row[network.OUTPUT] = source, floats.take(pairs * per_pair * outputs)
        row[network.INPUT_GRADIENT] = source_gradient
        row[network.OUTPUT_GRADIENT] = floats.take(pairs * per_pair * outputs)
        row[network.INPUT_IS_RELU], row[network.OUTPUT_IS_RELU] = relu_in, relu_out
        layers.append(row)

    layer("clenet.fc1", clenet.fc1, True, True, images)
    layer("clenet.fc2", clenet.fc2, True, True, images)
    layer("clenet.fc3", clenet.fc3, True, False, images)
    if head is not None:
        layer("head.fc1", head.fc1, False, True, 1)
        layer("head.fc2", head.fc2, True, False, 1)
    widest = max(row[network.OUTPUTS] for row in layers)
    layout = network.Plan(
        channels=channels,
        images_per_pair=images,
        digits=2 if shared and module.uses_aux_loss else -1,
        rule=updates.COMPILED_RULES[type(rule)],  # type: ignore[index]
        weights1=weights1,
        bias1=bias1,
        weights2=weights2,
        bias2=bias2,
        turned2=floats.take(maps2 * conv.TAPS2),
        pooled1=pooled1,
        pooled2=pooled2,
        pooled1_gradient=floats.take(conv.SIZE1),
        pooled2_gradient=pooled2_gradient,
        scratch=floats.take(4 * side2 * maps2),
        zeros=floats.take(widest),
        digits_gradient=floats.take(rows * layers[2][network.OUTPUTS]),
        survivors=floats.take(side2 * side2 + 1),
        positions1=integers.take(rows * conv.PLACES1),
        positions2=integers.take(rows * conv.SIZE2),
        corners=integers.take(side2 * side2 + 1),
    )
    return Model(
        plan=layout,
        layers=np.array(layers, np.int64),
        blocks=blocks,
        parameters=parameters.size,
        floats=floats.size,
        integers=integers.size,
        state=rule.state_size,  # type: ignore[attr-defined]
        shapes={name: tuple(value.shape) for name, value in module.state_dict().items()},
    )


@dataclass(frozen=True, slots=True)
class _Set:
    """A set of pairs as the kernels read it: images (rows, C, 16, 16) with a border of zeros, flat."""

    images: Floats
    target: Integers
    classes: Integers
    everything: Integers

    @staticmethod
    def of(pairs: Pairs) -> _Set:
        images = np.pad(pairs.images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
        return _Set(images.reshape(-1), pairs.target.numpy(), pairs.classes.numpy(), np.arange(len(images)))


class _Trainee:
    """One member while it trains: its data, parameters, optimiser state and workspace."""

    def __init__(self, job: TrainingJob, member: Member, model: Model, initial: Floats) -> None:
        self._model = model
        self._member = member
        self._batch_size = job.batch_size
        self._order = batch_order(member, job.epochs).numpy()
        self._train = _Set.of(member.train)
        self._evaluation = {name: _Set.of(pairs) for name, pairs in member.evaluation.items()}
        self.parameters = initial
        self._state = np.zeros(max(model.state, 1) * model.parameters, np.float32)

    def epoch(self, epoch: int, space: _Space) -> tuple[SetResult, Mapping[str, SetResult]]:
        """Trains epoch `epoch` (from 0) and evaluates; the running result, and one per evaluation set."""
        member, model, train = self._member, self._model, self._train
        results = np.zeros(3)
        count = len(train.target)
        steps = -(-count // self._batch_size)
        kernels.train_epoch(
            model.plan, model.layers, self.parameters, space.gradients, self._state, space.floats,
            space.integers, space.rates, train.images, train.target, train.classes, self._order[epoch],
            self._batch_size, epoch * steps, member.learning_rate, member.weight_decay,
            member.aux_loss_weight, results,
        )  # fmt: skip
        running = SetResult(results[0] / count, results[1] / count, results[2] / count)
        evaluated = {}
        for name, pairs in self._evaluation.items():
            kernels.evaluate(
                model.plan, model.layers, self.parameters, space.floats, space.integers, pairs.images,
                pairs.target, pairs.classes, pairs.everything, member.aux_loss_weight, results,
            )  # fmt: skip
            size = len(pairs.target)
            evaluated[name] = SetResult(results[0] / size, results[1] / size, results[2] / size)
        return running, evaluated


class _Space:
    """The workspace of one thread; every call writes what it reads, so that models may share it in turn."""

    def __init__(self, model: Model) -> None:
        self.gradients = np.zeros(model.parameters, np.float32)
        self.floats = np.zeros(model.floats, np.float32)
        self.integers = np.zeros(model.integers, np.int32)
        self.rates = np.zeros(updates.RATES, np.float32)


def train(job: TrainingJob, *, on_epoch: EpochCallback | None = None, threads: int = 1) -> TrainingHistory:
    """Train every member with the compiled kernels, `threads` of them at a time.

    Bits depend neither on the number of threads nor on the other members.

    Raises:
        ValueError: unknown architecture or optimiser, or one that the kernels have no plan for.
    """
    rule = optimiser(job.optimiser)
    modules = [build_seeded(job.architecture, job.hidden_units, member.init_seed) for member in job.members]
    first = modules[0]
    if not plannable(first, rule) or not isinstance(first, Joint | Shared):
        raise ValueError(
            f"no compiled kernels for architecture {job.architecture!r} with optimiser {job.optimiser!r}: "
            "use backend 'torch'"
        )
    model = plan(first, rule, max(job.batch_size, kernels.EVALUATION_PAIRS))
    trainees = [
        _Trainee(job, member, model, model.pack(module))
        for member, module in zip(job.members, modules, strict=True)
    ]
    threads = min(threads, len(trainees))
    spaces = [_Space(model) for _ in range(threads)]
    recorder = Recorder(job, on_epoch)
    with ThreadPoolExecutor(threads) as pool:
        for epoch in range(job.epochs):
            alive = [k for k in range(len(trainees)) if recorder.alive(k)]

            def share(
                thread: int, epoch: int = epoch, alive: list[int] = alive
            ) -> list[tuple[int, tuple[SetResult, Mapping[str, SetResult]]]]:
                return [(k, trainees[k].epoch(epoch, spaces[thread])) for k in alive[thread::threads]]

            parts = pool.map(share, range(threads)) if threads > 1 else [share(0)]
            for k, (running, evaluated) in (done for part in parts for done in part):
                recorder.record_training(k, running.main, running.total)
                for name, result in evaluated.items():
                    recorder.record_evaluation(k, name, result)
            if not recorder.end_epoch():
                break
    return recorder.history([model.unpack(trainee.parameters) for trainee in trainees])
