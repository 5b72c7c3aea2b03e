"""The architecture and the optimiser of a study: shipped, or a user's own, which are checked before training."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pairsearch.models import nets, optim
from pairsearch.studies.configuration import Configuration, Params, Value, describe
from pairsearch.studies.place import Place

LOOKED_AT = 3
"""Pairs of images on which a user's module is tried; the number differs from that of its outputs."""


@dataclass(frozen=True, slots=True)
class Names:
    """The arguments that a class or a function takes by name.

    Args:
        known: names of all parameters.
        needed: names of those without a default.
        others: whether it takes any other name too, by `**arguments`.
    """

    known: tuple[str, ...]
    needed: tuple[str, ...]
    others: bool = False

    @classmethod
    def of(cls, made: Callable[..., Any], given: int = 0, ours: Collection[str] = ()) -> Names:
        """Read the names from the signature of a class or a function.

        Args:
            given: how many arguments it gets by position.
            ours: names that are left out.
        """
        # The constructor of `nn.Module` has **arguments in its signature, but takes none.
        if isinstance(made, type) and inspect.getattr_static(made, "__init__") is nn.Module.__init__:
            return cls((), ())
        try:
            parameters = list(inspect.signature(made).parameters.values())
        except (TypeError, ValueError):  # some compiled functions have no signature
            return cls((), (), others=True)
        named = [
            one
            for place, one in enumerate(parameters)
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
            and place >= given
            and one.name not in ours
        ]
        return cls(
            tuple(one.name for one in named),
            tuple(one.name for one in named if one.default is one.empty),
            any(one.kind == one.VAR_KEYWORD for one in parameters),
        )


def own(name: str) -> bool:
    """Whether a name is that of a user's code, FILE.py:NAME or MODULE:NAME."""
    return ":" in name


def _found(setting: str, name: str, place: Place, trusted: str | None = None) -> Callable[..., Any]:
    try:
        found = place.find(name, trusted=trusted)
    except ValueError as error:
        raise ValueError(f"settings.{setting}: {error}") from None
    if not callable(found):
        raise ValueError(
            f"settings.{setting}: {name}: expected a class or a function, got {type(found).__name__}"
        )
    made: Callable[..., Any] = found
    return made


class Architecture:
    """The architecture that a study's settings name.

    Args:
        name: a registered name, or that of a user's class of modules or function that makes one.

    Raises:
        ValueError: there is no such architecture, or it needs an argument that has the name of a parameter of the
            training.
    """

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.maker: str | nets.Maker = name
        self.choices: Mapping[str, tuple[str, ...]] = {}
        made: Callable[..., Any]
        if own(name):
            made = self.maker = _found("architecture", name, place)
        else:
            made = nets.architecture_class(name)
            self.choices = made.choices
        self.takes = Names.of(made)
        if taken := {"batch_size", "learning_rate", "weight_decay"}.intersection(self.takes.needed):
            raise ValueError(
                f"settings.architecture: {name} needs {', '.join(sorted(taken))}, which is the training's: rename it"
            )
        self.uses_aux_loss = nets.uses_aux_loss(made)
        self._shapes: dict[str, list[torch.Size]] = {}

    def parameters(self, arguments: Mapping[str, Value]) -> int:
        """Count the numbers that are trained."""
        return sum(map(math.prod, self.shapes(arguments)))

    def shapes(self, arguments: Mapping[str, Value]) -> list[torch.Size]:
        """Return the shapes of the module's parameters; the module is made once and tried on images.

        Raises:
            ValueError: the arguments make no module that maps pairs of images to logits.
        """
        key = Configuration(arguments).key
        if key not in self._shapes:
            what = f"architecture {self.name!r}" + (f" of {describe(arguments)}" if arguments else "")
            try:
                module, output = self._shown(arguments)
            except Exception as error:
                raise ValueError(f"{what}: {in_one_line(error)}") from error
            if fault := self._fault(module, output):
                raise ValueError(f"{what}: {fault}")
            self._shapes[key] = [value.shape for value in module.parameters()]
        return self._shapes[key]

    def _shown(self, arguments: Mapping[str, Value]) -> tuple[nn.Module, Any]:
        """Make the module, and return it with its output for images of zeros."""

        def answered() -> tuple[nn.Module, Any]:
            module = nets.build(self.maker, **arguments)
            return module, module.eval()(torch.zeros(LOOKED_AT, *nets.INPUT))

        with nets.Draws(0).resumed(), torch.no_grad():
            try:
                # The device `meta` has shapes without memory, but makes PyTorch import for a second. Shipped
                # architectures are small and do not need it.
                with torch.device("meta") if own(self.name) else nullcontext():
                    return answered()
            except Exception:  # some modules need real numbers; a real error will be raised again
                return answered()

    def _fault(self, module: nn.Module, output: Any) -> str:
        """Return what is wrong with a module or its output, or an empty text."""
        if not any(value.requires_grad for value in module.parameters()):
            return "the module has no parameters to train"
        main, digits = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
        expected: dict[str, tuple[Any, tuple[int, ...]]] = {"logits": (main, (LOOKED_AT, 2))}
        if digits is not None or self.uses_aux_loss:
            expected["digit logits"] = (digits, (LOOKED_AT, 2, nets.DIGITS))
        for what, (found, shape) in expected.items():
            if not isinstance(found, torch.Tensor) or found.shape != shape or not found.is_floating_point():
                got = (
                    f"{found.dtype} {tuple(found.shape)}"
                    if isinstance(found, torch.Tensor)
                    else type(found).__name__
                )
                return (
                    f"forward: expected {what} {shape} of images {(LOOKED_AT, *nets.INPUT)}, as floats, got {got}; it "
                    f"returns (B, 2), or a tuple of (B, 2) and (B, 2, {nets.DIGITS})"
                )
        if self.uses_aux_loss != nets.uses_aux_loss(module):
            return (
                f"its uses_aux_loss is {self.uses_aux_loss}, and that of the module {not self.uses_aux_loss}"
            )
        return ""


class Optimiser:
    """The optimiser that a study's settings name.

    Args:
        name: a registered name, or that of a class of `torch.optim.Optimizer`, PyTorch's or a user's.

    Raises:
        ValueError: there is no such optimiser, or it takes no `lr`.
    """

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.takes = Names((), ())
        self.decays = True
        self._made: Callable[..., Any] | None = None
        self._checked: set[str] = set()
        if not own(name):
            optim.optimiser(name)
            return
        self._made = _found("optimiser", name, place, trusted="torch.optim")
        # Its first argument is the parameters of the model.
        every = Names.of(self._made, given=1)
        if "lr" not in every.known and not every.others:
            raise ValueError(
                f"settings.optimiser: {name} takes no lr, which is the learning rate: expected one that does"
            )
        self.decays = "weight_decay" in every.known or every.others
        self.takes = Names.of(self._made, given=1, ours=("lr", "weight_decay"))

    def rule(self, arguments: Mapping[str, Value]) -> str | optim.PlainOptimiser:
        """Return the optimiser with its arguments, as a training job takes it."""
        return self.name if self._made is None else optim.Plain(self._made, dict(arguments), self.decays)

    def check(
        self,
        arguments: Mapping[str, Value],
        learning_rate: float,
        weight_decay: float,
        shapes: list[torch.Size],
    ) -> None:
        """Make the optimiser for parameters of some shapes, and let it make a step.

        Raises:
            ValueError: it cannot be made with the arguments, is not an `Optimizer`, or fails at the step.
        """
        rule = self.rule(arguments)
        if isinstance(rule, str):
            return
        key = repr((sorted(arguments.items()), learning_rate, weight_decay, shapes))
        if key in self._checked:
            return
        try:
            rule.plain(
                [nn.Parameter(torch.empty(shape, device="meta")) for shape in shapes],
                learning_rate,
                weight_decay,
            )
            parameter = nn.Parameter(torch.zeros(2, 2))
            made = rule.plain([parameter], learning_rate, weight_decay)
            if not isinstance(made, torch.optim.Optimizer):
                raise TypeError(f"expected a torch.optim.Optimizer, got {type(made).__name__}")
            parameter.grad = torch.zeros_like(parameter)
            made.step()
        except Exception as error:
            what = f" with {describe(arguments)}" if arguments else ""
            raise ValueError(f"optimiser {self.name!r}{what}: {in_one_line(error)}") from error
        self._checked.add(key)


def of_training(architecture: Architecture, optimiser: Optimiser) -> list[str]:
    """Return the names of the parameters that the training itself takes."""
    names = ["batch_size", "learning_rate"]
    names += ["weight_decay"] if optimiser.decays else []
    return names + (["aux_loss_weight"] if architecture.uses_aux_loss else [])


def divided(
    architecture: Architecture, optimiser: Optimiser, further: Params
) -> tuple[dict[str, Value], dict[str, Value]]:
    """Divide parameters beyond those of the training into arguments of the architecture and of the optimiser.

    Raises:
        ValueError: neither takes a parameter, both do, or one that is needed is missing.
    """
    of_architecture: dict[str, Value] = {}
    of_optimiser: dict[str, Value] = {}
    for name, value in further.items():
        takers = [part for part in (architecture, optimiser) if name in part.takes.known] or [
            part for part in (architecture, optimiser) if part.takes.others
        ][:1]
        if not takers:
            raise ValueError(f"grid.{name}: {_nobody(architecture, optimiser)}")
        if len(takers) > 1:
            raise ValueError(
                f"grid.{name}: architecture {architecture.name!r} and optimiser {optimiser.name!r} both take it: "
                "rename the architecture's"
            )
        (of_architecture if takers[0] is architecture else of_optimiser)[name] = value
    for what, part, given in (
        ("architecture", architecture, of_architecture),
        ("optimiser", optimiser, of_optimiser),
    ):
        for name in part.takes.needed:
            if name not in given:
                raise ValueError(f"grid.{name}: {what} {part.name!r} needs it")
    return of_architecture, of_optimiser


def _nobody(architecture: Architecture, optimiser: Optimiser) -> str:
    known = [*of_training(architecture, optimiser), *architecture.takes.known]
    if not own(optimiser.name):
        return f"architecture {architecture.name!r} has none: leave it out; it takes {', '.join(known)}"
    known += optimiser.takes.known
    return (
        f"neither architecture {architecture.name!r} nor optimiser {optimiser.name!r} takes it: leave it out; they "
        f"take {', '.join(known)}"
    )


def in_one_line(error: BaseException) -> str:
    """Describe an error in one line, with file and line in the user's code."""
    lines = str(error).split("\n")
    said = f"{type(error).__name__}: {' '.join(lines[0].split())}" if lines[0] else type(error).__name__
    ours = Path(nets.__file__).parents[1]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not path.is_relative_to(ours) and "site-packages" not in path.parts:
            return f"{said} ({path.name}, line {frame.lineno})"
    return said
