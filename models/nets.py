"""CLeNet, MLP and the paper's architectures, as plain modules under their registered names.

A new architecture is a class here and an entry in `ARCHITECTURES`. The trainers and the check of a grid read the rest
from the class, including which part is trained on which loss in which epochs. An architecture that is not registered is
a class or a function of a user's: it makes a module that takes images (B, 2, 14, 14) float32 and returns what
`Architecture` describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

DIGITS = 10
LARGEST_WIDTH = 10**6
"""The most hidden units: the file of a kept model, from anybody, may claim any number."""
INPUT = (2, 14, 14)
"""The shape of a pair of images."""

# Main logits alone, or main logits and digit logits.
Logits = Tensor | tuple[Tensor, Tensor]
Arguments = Mapping[str, int | float | str | bool]
"""The arguments of an architecture by name."""
Maker = Callable[..., nn.Module]
"""A class of modules, or a function that makes a module from `Arguments`."""


def _uniform(tensor: Tensor, bound: float) -> None:
    """Fill a tensor with uniform draws from -bound to bound, equal bit for bit in every build of PyTorch.

    `Tensor.uniform_` multiplies and adds in float32, fused or not as its compiler decided. Here the same 24 random bits
    are scaled in float64, where the product is exact, and rounded once at the end.
    """
    low, high = torch.tensor([-bound, bound])
    bits = torch.randint(0, 2**24, tensor.shape).double()
    with torch.no_grad():
        tensor.copy_(bits * 2.0**-24 * (high - low).double() + low.double())


def _initialise(layer: nn.Linear | nn.Conv2d) -> None:
    """Initialise a layer as PyTorch does (uniform, after Kaiming He, with a = √5), from its global generator.

    Source: `torch.nn.Linear.reset_parameters`, whose bound √3 · √(2 / (1 + a²)) / √inputs comes to 1 / √inputs.
    """
    inputs = layer.weight[0].numel()
    _uniform(layer.weight, math.sqrt(3.0) * (math.sqrt(2.0 / 6.0) / math.sqrt(inputs)))
    if layer.bias is not None:
        _uniform(layer.bias, 1 / math.sqrt(inputs))


class Linear(nn.Linear):
    """`nn.Linear` whose initial weights are the same bits everywhere."""

    reset_parameters = _initialise


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` whose initial weights are the same bits everywhere."""

    reset_parameters = _initialise


class CLeNet(nn.Module):
    """A small LeNet for 14×14 images; (B, channels, 14, 14) float32 in, (B, outputs) out.

    Convolution 3×3 to 12 channels, ReLU, max-pool 2×2 (14 → 7); convolution 3×3 to 32, ReLU, max-pool 2×2
    (7 → 3, the last row and column drop out); linear 288 → 120 → 84 → outputs with ReLU between. This is the only
    reading of the paper's section 2 that gives the parameter counts of its Table 1.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, 12, kernel_size=3, padding=1)
        self.conv2 = Conv2d(12, 32, kernel_size=3, padding=1)
        self.fc1 = Linear(288, 120)
        self.fc2 = Linear(120, 84)
        self.fc3 = Linear(84, outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        x = functional.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


class MLP(nn.Module):
    """The head that compares two digits: linear 20 → hidden units, ReLU, linear → 2; (B, 20) in, (B, 2) out."""

    def __init__(self, hidden_units: int) -> None:
        super().__init__()
        self.fc1 = Linear(2 * DIGITS, hidden_units)
        self.fc2 = Linear(hidden_units, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc2(functional.relu(self.fc1(x)))
        return logits


@dataclass(frozen=True, slots=True)
class Phase:
    """Consecutive epochs that train the same part of a module on the same loss, with an optimiser of their own.

    Args:
        epochs: number of epochs, >= 1.
        digits_only: whether the loss is aux(image 1) + aux(image 2) (`models.trainer`), without the main loss.
        frozen: prefixes of the names of parameters that stay as they are, without steps and weight decay.
    """

    epochs: int
    digits_only: bool = False
    frozen: tuple[str, ...] = ()

    def trains(self, name: str) -> bool:
        return not name.startswith(self.frozen)


class Architecture(nn.Module):
    """The base class of registered architectures.

    The constructor takes `hidden_units` where they have a default, and the names of `choices`. `forward` takes images
    (B, 2, 14, 14) float32 and returns main logits (B, 2), or a tuple of main logits and digit logits (B, 2, 10).
    """

    uses_aux_loss: ClassVar[bool] = False
    default_hidden_units: ClassVar[int | None] = None
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The texts that an argument may be, by its name; the first is the default."""

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """Divide the epochs of a training into phases; by default all are one phase."""
        return (Phase(epochs),)


class Joint(Architecture):
    """A network in which one CLeNet sees both images of a pair as two channels; a head may follow."""

    clenet: CLeNet
    head: MLP | None

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.clenet(images)
        return logits if self.head is None else self.head(logits)


class Shared(Architecture):
    """A network in which the same CLeNet reads each image of a pair, and a head compares the digit logits."""

    clenet: CLeNet
    head: MLP

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        digits_BI = self.clenet(images.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, 2))
        return self.head(digits_BI.flatten(1)), digits_BI


class B1(Joint):
    """Baseline 1: CLeNet(2, 2); 48,730 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.clenet = CLeNet(2, 2)
        self.head = None


class B2(Joint):
    """Baseline 2: CLeNet(2, 20), then MLP; 51,412 parameters at 50 hidden units."""

    default_hidden_units = 50

    def __init__(self, hidden_units: int) -> None:
        super().__init__()
        self.clenet = CLeNet(2, 2 * DIGITS)
        self.head = MLP(hidden_units)


class WS(Shared):
    """Weight sharing: CLeNet(1, 10) on each image, then MLP; 50,454 parameters at 50 hidden units."""

    default_hidden_units = 50

    def __init__(self, hidden_units: int) -> None:
        super().__init__()
        self.clenet = CLeNet(1, DIGITS)
        self.head = MLP(hidden_units)


class WSAL(WS):
    """Weight sharing with the auxiliary loss on the digits; 51,604 parameters at 100 hidden units."""

    uses_aux_loss = True
    default_hidden_units = 100


class Pretrained(WS):
    """Weight sharing after pre-training on the digits, which the paper believes to do as well as WSAL (section 4).

    In the first half of the epochs (rounded down) CLeNet learns the digits of the training images, and the MLP stays as
    it was initialised. In the second half a part of CLeNet is frozen, and the rest learns the main loss. The paper does
    not say how many epochs each takes; with halves, each image is seen as often as by WSAL, in as many steps.

    Args:
        hidden_units: width of the MLP's hidden layer.
        frozen: `convolutions`, so that CLeNet's linear layers train on with the MLP, or `all` of CLeNet.
    """

    default_hidden_units = 100
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"frozen": ("convolutions", "all")}

    def __init__(self, hidden_units: int, frozen: str) -> None:
        super().__init__(hidden_units)
        self.frozen = frozen

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """Train on the digits first, then on the comparison; a single epoch trains on the comparison."""
        kept = "clenet." if self.frozen == "all" else "clenet.conv"
        digits, comparison = Phase(epochs // 2, True, ("head.",)), Phase(epochs - epochs // 2, frozen=(kept,))
        return (digits, comparison) if digits.epochs else (comparison,)


# Keys are lower case; `architecture_class` looks names up in any case.
ARCHITECTURES: Mapping[str, type[Architecture]] = {
    "b1": B1, "b2": B2, "ws": WS, "wsal": WSAL, "pretrained": Pretrained
}  # fmt: skip


def architecture_class(architecture: str) -> type[Architecture]:
    """Return the class that is registered under a name, in any case; raises a ValueError that lists the known ones."""
    found = ARCHITECTURES.get(architecture.lower())
    if found is None:
        raise ValueError(f"unknown architecture {architecture!r}: expected one of {', '.join(ARCHITECTURES)}")
    return found


def build(architecture: str | Maker, **arguments: int | float | str | bool) -> nn.Module:
    """Make a freshly initialised module, with weights from PyTorch's global generator.

    Args:
        architecture: a key of `ARCHITECTURES`, in any case, or a class or function that makes a module.
        arguments: for a registered architecture with an MLP `hidden_units`, the width of its hidden layer, 1 to
            `LARGEST_WIDTH`, and its `choices`; both have defaults.

    Raises:
        ValueError: unknown architecture, or an argument that it does not take or that is out of range. A user's class
            or function may raise anything.
    """
    if not isinstance(architecture, str):
        module = architecture(**arguments)
        if any(nn.parameter.is_lazy(value) for value in (*module.parameters(), *module.buffers())):
            # Lazy layers get their weights when they see images.
            with torch.no_grad():
                module(torch.zeros(2, *INPUT))
        return module
    chosen = architecture_class(architecture)
    known: dict[str, int | str] = {name: texts[0] for name, texts in chosen.choices.items()}
    if chosen.default_hidden_units is not None:
        known["hidden_units"] = chosen.default_hidden_units
    if others := arguments.keys() - known.keys():
        raise ValueError(f"architecture {architecture!r} takes no {', '.join(sorted(others))}")
    made_of = known | arguments
    for name, texts in chosen.choices.items():
        if made_of[name] not in texts:
            raise ValueError(f"{name}: expected {' or '.join(map(repr, texts))}, got {made_of[name]!r}")
    hidden_units = made_of.get("hidden_units", 1)
    if type(hidden_units) is not int or not 1 <= hidden_units <= LARGEST_WIDTH:
        raise ValueError(f"hidden_units: expected an integer of 1 to {LARGEST_WIDTH}, got {hidden_units!r}")
    return chosen(**made_of)


class Draws:
    """A random stream of one model, through PyTorch's global generator, which other code finds unchanged.

    The model draws its initial weights first, and then what its layers need while it trains, such as dropout. So its
    figures depend on its seed alone, whatever is trained beside it.
    """

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        kind = torch.device(device).type
        self._cuda = [torch.device(device)] if kind == "cuda" else []
        with torch.random.fork_rng(devices=self._cuda):
            if kind == "cpu":
                # The function for all devices formats the whole stack for each kind that is not in use.
                torch.default_generator.manual_seed(seed)
            else:
                torch.manual_seed(seed)
            self._state = self._now()

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Let the block draw from the stream, from where the last block ended."""
        with torch.random.fork_rng(devices=self._cuda):
            ours, *others = self._state
            torch.set_rng_state(ours)
            for device, state in zip(self._cuda, others, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self._state = self._now()

    def _now(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._cuda)]


def build_seeded(architecture: str | Maker, arguments: Arguments, seed: int) -> nn.Module:
    """Make a module as `build` does, with weights that depend on the seed alone; the global generator is unchanged."""
    with Draws(seed).resumed():
        return build(architecture, **arguments)


def uses_aux_loss(architecture: object) -> bool:
    """Whether an architecture, or a module, is trained on its digit logits too, which its `uses_aux_loss` says."""
    return bool(getattr(architecture, "uses_aux_loss", False))


def schedule(module: nn.Module, epochs: int) -> list[tuple[Phase, int]]:
    """Return for each epoch its phase, and how many epochs of the phase came before it.

    A module that is not an `Architecture` has one phase.
    """
    phases = module.phases(epochs) if isinstance(module, Architecture) else (Phase(epochs),)
    return [(phase, before) for phase in phases for before in range(phase.epochs)]


def trained(module: nn.Module, phase: Phase) -> list[nn.Parameter]:
    """Return the parameters that a phase trains."""
    return [value for name, value in module.named_parameters() if phase.trains(name)]


def split_logits(output: Logits) -> tuple[Tensor, Tensor | None]:
    """Return main logits, and digit logits or None."""
    return output if isinstance(output, tuple) else (output, None)
