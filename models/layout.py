"""Decides where parameters and intermediate values lie in the flat arrays of the compiled kernels.

A layout is derived from the `nn.Module`, so that each architecture is written only once, in `models.nets`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pairsearch.jit.compiling import Floats, Integers
from pairsearch.models.kernels import convolution as conv
from pairsearch.models.kernels import network, updates
from pairsearch.models.kernels.emit import UNIT, WIDE
from pairsearch.models.kernels.linear import BLOCK
from pairsearch.models.nets import MLP, CLeNet, Joint, Phase, Shared
from pairsearch.models.optim import Optimiser


def plannable(module: nn.Module, rule: Optimiser) -> bool:
    """Whether the compiled kernels know this module's structure and this optimiser."""
    known_flow = type(module).forward in (Joint.forward, Shared.forward)
    # A subclass may keep the forward pass and replace its parts.
    known_parts = (
        known_flow
        and type(getattr(module, "clenet", None)) is CLeNet
        and type(getattr(module, "head", None)) in (MLP, type(None))
    )
    return known_parts and type(rule) in updates.COMPILED_RULES


def float_zeros(count: int) -> Floats:
    """Return float32 zeros that start on a cache line, so that no aligned vector crosses from one line to the next."""
    line = 64
    raw = np.zeros(4 * count + line, np.uint8)
    start = -raw.ctypes.data % line
    return raw[start : start + 4 * count].view(np.float32)


@dataclass(frozen=True, slots=True)
class Block:
    """A tensor of the module, which lies at `place` in the flat parameters as an array of `shape`.

    The tensor is reshaped to `split` and its axes permuted to `axes`; it fills the first entries of each axis of
    `shape`. The rest is padding, which is zero and stays so, because its gradients are zero.
    """

    place: int
    shape: tuple[int, ...]
    split: tuple[int, ...]
    axes: tuple[int, ...]

    def view(self, flat: Floats) -> Floats:
        """Return a view of the flat parameters that holds the tensor with its axes permuted."""
        padded = flat[self.place : self.place + math.prod(self.shape)].reshape(self.shape)
        return padded[tuple(slice(self.split[axis]) for axis in self.axes)]


class _Places:
    """Allocates consecutive places in a flat array, each a whole number of cache lines."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        place = self.size
        self.size += -(-count // WIDE) * WIDE
        return place


class Layout:
    """The layout of a kind of model, for batches of up to `pairs` pairs."""

    def __init__(self, module: Joint | Shared, rule: Optimiser, pairs: int) -> None:
        self.pairs, self._state_size = pairs, rule.state_size
        self.parameters, self.gradients, self.floats, self.integers = (_Places() for _ in range(4))
        self.blocks: dict[str, Block] = {}
        self.rows: list[list[int]] = []
        self.linear: list[str] = []
        self.shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        shared = isinstance(module, Shared)
        per_pair = 2 if shared else 1
        images = pairs * per_pair
        channels, maps1, maps2, pixel = module.clenet.conv1.in_channels, conv.MAPS1, conv.MAPS2, conv.PIXEL
        block, floats, integers = self._block, self.floats, self.integers
        convolutions = {
            "weights1": block(
                "clenet.conv1.weight", (channels, 3, 3, pixel), (maps1, channels, 3, 3), (1, 2, 3, 0)
            ),
            "bias1": block("clenet.conv1.bias", (pixel,), (maps1,), (0,)),
            "weights2": block(
                "clenet.conv2.weight", (maps2, 3, 3, pixel), (maps2, maps1, 3, 3), (0, 2, 3, 1)
            ),
            "bias2": block("clenet.conv2.bias", (maps2,), (maps2,), (0,)),
        }
        convolved = self.parameters.size
        pooled2, pooled2_gradient = floats.take(images * conv.SIZE2), floats.take(images * conv.SIZE2)
        # The output of the second convolution has its channels last.
        self._layer(
            "clenet.fc1", module.clenet.fc1, per_pair, (pooled2, pooled2_gradient, True),
            (conv.SIDE2, conv.SIDE2, maps2), (maps2, conv.SIDE2, conv.SIDE2), (2, 3, 1, 0), relu=True,
        )  # fmt: skip
        self._next_layer("clenet.fc2", module.clenet.fc2, per_pair, relu=True)
        self._next_layer("clenet.fc3", module.clenet.fc3, per_pair, relu=False)
        self.digits = len(self.rows) - 1
        if module.head is not None:
            self._next_layer("head.fc1", module.head.fc1, 1, relu=True)
            self._next_layer("head.fc2", module.head.fc2, 1, relu=False)
        self.layers: Integers = np.array(self.rows, np.int64)
        outputs = int(self.layers[:, network.OUTPUTS].max())
        self.gradients.take(convolved + BLOCK * outputs)
        taught = self.digits if shared and module.uses_aux_loss else -1
        self.plan = network.Plan(
            channels=channels,
            images_per_pair=per_pair,
            digits=taught,
            joined=taught,
            convolutions_frozen=0,
            rule=updates.COMPILED_RULES[type(rule)],
            **convolutions,
            convolutions=convolved,
            transformed2=floats.take(16 * maps1 * maps2),
            pooled1=floats.take(images * conv.SIZE1),
            pooled2=pooled2,
            pooled1_gradient=floats.take(conv.SIZE1),
            pooled2_gradient=pooled2_gradient,
            scratch=floats.take(max(conv.SCRATCH2, conv.SCRATCH_WEIGHTS)),
            zeros=floats.take(max(outputs, BLOCK)),
            turned=floats.take(BLOCK * outputs),
            twice=floats.take(4 * outputs),
            digits_gradient=floats.take(images * self.rows[self.digits][network.OUTPUTS]),
            positions1=integers.take(images * conv.PLACES1),
            positions2=integers.take(images * conv.SIZE2),
            survivors=integers.take(2 * maps2),
        )

    def _block(self, name: str, shape: tuple[int, ...], split: tuple[int, ...], axes: tuple[int, ...]) -> int:
        place = self.parameters.take(math.prod(shape))
        self.blocks[name] = Block(place, shape, split, axes)
        return place

    def _next_layer(self, name: str, linear: nn.Linear, per_pair: int, *, relu: bool) -> None:
        """Add a layer that reads the output of the layer before it in place.

        Several rows of that output, with their padding, may form one row here: the two images of a pair.
        """
        before = self.rows[-1]
        parts = before[network.ROWS_PER_PAIR] // per_pair
        source = (
            before[network.OUTPUT],
            before[network.OUTPUT_GRADIENT],
            bool(before[network.OUTPUT_IS_RELU]),
        )
        split = (parts, linear.in_features // parts)
        self._layer(
            name, linear, per_pair, source, (parts, before[network.OUTPUTS]), split, (1, 2, 0), relu=relu
        )

    def _layer(
        self, name: str, linear: nn.Linear, per_pair: int, source: tuple[int, int, bool], inputs: tuple[int, ...],
        split: tuple[int, ...], axes: tuple[int, ...], *, relu: bool,
    ) -> None:  # fmt: skip
        """Add a layer.

        Args:
            source: where the layer's input and its gradient lie, and whether the input is ReLU's output.
            inputs: the padded shape of the input.
            split: the shape of the input without padding, in the order of the module's weights.
            axes: the axes of the module's weights, whose first one are the outputs, in the order of the layout.
        """
        outputs = -(-linear.out_features // UNIT) * UNIT
        weights = self._block(f"{name}.weight", (*inputs, outputs), (linear.out_features, *split), axes)
        bias = self._block(f"{name}.bias", (outputs,), (linear.out_features,), (0,))
        place, gradient = (self.floats.take(self.pairs * per_pair * outputs) for _ in range(2))
        before, before_gradient, relu_before = source
        self.linear.append(name)
        # In the order of the table's columns in `kernels.network`.
        self.rows.append([
            per_pair, math.prod(inputs), outputs, weights, bias, before, place, before_gradient, gradient,
            relu_before, relu,
        ])  # fmt: skip

    def phase(self, phase: Phase) -> tuple[network.Plan, Integers]:
        """Return the plan of a phase, and the linear layers that it trains: all from some first one up to the loss."""
        layers = ("clenet.conv1", "clenet.conv2", *self.linear)
        end = 2 + (self.digits + 1 if phase.digits_only else len(self.linear))
        trained = [n for n, name in enumerate(layers) if phase.trains(name)]
        if trained not in [list(range(first, end)) for first in (0, *range(2, end))]:
            raise ValueError(f"no compiled kernels for {phase}: use models.single")
        first = max(trained[0] - 2, 0)
        rows = self.layers[first : end - 2].copy()
        plan = self.plan._replace(joined=self.plan.joined - first, convolutions_frozen=int(trained[0] > 0))
        if phase.digits_only:
            # The gradient of the digit logits comes from the loss alone.
            rows[-1, network.OUTPUT_GRADIENT] = plan.digits_gradient
            plan = plan._replace(digits=self.digits, joined=-1)
        return plan, rows

    def workspace(self) -> network.Workspace:
        """Return a workspace of one thread."""
        return network.Workspace(
            float_zeros(self.gradients.size),
            float_zeros(self.floats.size),
            np.zeros(self.integers.size, np.int32),
            float_zeros(updates.RATES),
        )

    def state(self) -> Floats:
        """Return the optimiser's state before the first step."""
        return float_zeros(max(self._state_size, 1) * self.parameters.size)

    def pack(self, module: nn.Module) -> Floats:
        """Return the module's parameters as one flat float32 array."""
        flat = float_zeros(self.parameters.size)
        tensors = module.state_dict()
        for name, block in self.blocks.items():
            block.view(flat)[...] = tensors[name].numpy().reshape(block.split).transpose(block.axes)
        return flat

    def unpack(self, flat: Floats) -> dict[str, Tensor]:
        """Return the state dict of flat parameters, as new tensors."""
        return {
            name: torch.tensor(
                self.blocks[name].view(flat).transpose(np.argsort(self.blocks[name].axes)).reshape(shape)
            )
            for name, shape in self.shapes.items()
        }
