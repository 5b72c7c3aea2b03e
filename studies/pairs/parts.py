"""The architecture and the optimiser of a study: shipped, or a user's own, which are checked before training."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pairsearch.models import fused, nets, optim
from pairsearch.models.trainer import Member, TrainingJob
from pairsearch.studies.configuration import Configuration, Params, Value, describe
from pairsearch.studies.definition import LARGEST
from pairsearch.studies.errors import in_one_line
from pairsearch.studies.pairs.settings import Settings, own
from pairsearch.studies.place import Place
from pairsearch.studies.signatures import signature_of

LOOKED_AT = 3
"""Pairs of images on which a module is tried; the number differs from that of its outputs."""
Range = tuple[str, tuple[type, ...], Callable[[Any], bool]]
RANGES: Mapping[str, Range] = {
    "batch_size": ("an integer >= 1", (int,), lambda value: 1 <= value <= LARGEST),
    "learning_rate": ("a number > 0", (int, float), lambda value: value > 0),
}
"""What parameters of the training may be: in words, their types, and a test."""
NOT_NEGATIVE: Range = ("a number >= 0", (int, float), lambda value: value >= 0)


@dataclass(frozen=True, slots=True)
class Names:
    """The arguments that a class or a function takes by name."""

    known: tuple[str, ...]
    needed: tuple[str, ...]
    """Those without a default."""
    others: bool = False
    """Whether it takes any other name too, by `**arguments`."""

    @classmethod
    def of(cls, made: Callable[..., Any], given: int = 0, ours: Collection[str] = ()) -> Names:
        """Read them from a signature, but for the first `given` parameters and for some names that are `ours`."""
        # The constructor of `nn.Module` has **arguments in its signature, but takes none.
        if isinstance(made, type) and inspect.getattr_static(made, "__init__") is nn.Module.__init__:
            return cls((), ())
        signature = signature_of(made)
        if signature is None:
            return cls((), (), others=True)
        parameters = signature.parameters.values()
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
    """The architecture that a study's settings name: a registered one, or a user's that makes modules."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.maker: str | nets.Maker = _found("architecture", name, place) if own(name) else name
        made = nets.architecture_class(self.maker) if isinstance(self.maker, str) else self.maker
        self.takes = Names.of(made)
        if taken := {"batch_size", "learning_rate", "weight_decay"}.intersection(self.takes.needed):
            raise ValueError(
                f"settings.architecture: {name} needs {', '.join(sorted(taken))}, which is the training's: rename it"
            )
        self.uses_aux_loss = nets.uses_aux_loss(made)
        self._shapes: dict[str, list[torch.Size]] = {}

    def shapes(self, arguments: Mapping[str, Value]) -> list[torch.Size]:
        """Return the shapes of the module's parameters; the module is made once and tried on images.

        A ValueError says why the arguments make no module that maps pairs of images to logits.
        """
        key = Configuration(arguments).key
        if key not in self._shapes:
            what = f"architecture {self.name!r}" + (f" of {describe(arguments)}" if arguments else "")
            try:
                with nets.Draws(0).resumed(), torch.no_grad():
                    module = nets.build(self.maker, **arguments)
                    output = module.eval()(torch.zeros(LOOKED_AT, *nets.INPUT))
            except Exception as error:
                if not own(self.name):
                    raise ValueError(f"grid.{error}") from None
                raise ValueError(f"{what}: {in_one_line(error)}") from error
            if fault := self._fault(module, output):
                raise ValueError(f"{what}: {fault}")
            self._shapes[key] = [value.shape for value in module.parameters()]
        return self._shapes[key]

    def _fault(self, module: nn.Module, output: Any) -> str:
        """Return what is wrong with a module or its output, or an empty text."""
        if not any(value.requires_grad for value in module.parameters()):
            return "the module has no parameters to train"
        main, digits = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
        expected: list[tuple[str, Any, tuple[int, ...]]] = [("logits", main, (LOOKED_AT, 2))]
        if digits is not None or self.uses_aux_loss:
            expected.append(("digit logits", digits, (LOOKED_AT, 2, nets.DIGITS)))
        for what, found, shape in expected:
            got = type(found).__name__
            if isinstance(found, torch.Tensor):
                got = f"{found.dtype} {tuple(found.shape)}"
            if not isinstance(found, torch.Tensor) or found.shape != shape or not found.is_floating_point():
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
    """The optimiser that a study's settings name: a registered one, or a class of `torch.optim.Optimizer`."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.takes = Names((), ())
        self.decays = True
        self._made: Callable[..., Any] | None = None
        self._checked: set[str] = set()
        if not own(name):
            optim.optimiser(name)  # refuses an unknown one
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
        """Make the optimiser for parameters of some shapes, and let it make a step; a ValueError says what failed."""
        rule = self.rule(arguments)
        key = repr((sorted(arguments.items()), learning_rate, weight_decay, shapes))
        if isinstance(rule, str) or key in self._checked:
            return
        try:
            parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
            made = rule.plain(parameters, learning_rate, weight_decay)
            if not isinstance(made, torch.optim.Optimizer):
                raise TypeError(f"expected a torch.optim.Optimizer, got {type(made).__name__}")
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
            made.step()
        except Exception as error:
            what = f" with {describe(arguments)}" if arguments else ""
            raise ValueError(f"optimiser {self.name!r}{what}: {in_one_line(error)}") from error
        self._checked.add(key)


class Parts:
    """The architecture and the optimiser of a study, which share the parameters of a configuration."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self.architecture = Architecture(settings.architecture, place)
        self.optimiser = Optimiser(settings.optimiser, place)
        self._rates = ["learning_rate"]
        self._rates += ["weight_decay"] if self.optimiser.decays else []
        self._rates += ["aux_loss_weight"] if self.architecture.uses_aux_loss else []

    def check(self, params: Params) -> None:
        """Refuse what `Pairs.check` refuses."""
        of_architecture, of_optimiser = self._divided(params)
        for name in self._of_training():
            if name not in params:
                raise ValueError(f"grid.{name}: architecture {self.architecture.name!r} needs it")
            expected, types, fits = RANGES.get(name, NOT_NEGATIVE)
            if type(params[name]) not in types or not fits(params[name]):
                raise ValueError(f"grid.{name}: expected {expected}, got {params[name]!r}")
        rates, shapes = self.rates(params), self.architecture.shapes(of_architecture)
        self.optimiser.check(of_optimiser, rates["learning_rate"], rates.get("weight_decay", 0.0), shapes)

    def rates(self, params: Params) -> dict[str, float]:
        """Return the parameters of the training that `Member` takes, by name."""
        return {name: float(params[name]) for name in self._rates}

    def parameters(self, params: Params) -> int:
        """Count the numbers that are trained."""
        of_architecture, _ = self._divided(params)
        return sum(map(math.prod, self.architecture.shapes(of_architecture)))

    def backend(self, device: str) -> str:
        """Return `compiled` or `torch`."""
        return fused.backend_of(self.architecture.maker, self.optimiser.rule({}), device)

    def job(self, params: Params, epochs: int, members: Iterable[Member], running: str) -> TrainingJob:
        """Make the training job of a configuration."""
        of_architecture, of_optimiser = self._divided(params)
        batch_size, rule = int(params["batch_size"]), self.optimiser.rule(of_optimiser)
        return TrainingJob(
            self.architecture.maker, tuple(members), batch_size, epochs, of_architecture, rule, running
        )

    def _of_training(self) -> list[str]:
        """Return the names of the parameters that the training itself takes."""
        return ["batch_size", *self._rates]

    def _divided(self, params: Params) -> tuple[dict[str, Value], dict[str, Value]]:
        """Divide parameters beyond those of the training into arguments of the architecture and of the optimiser.

        A ValueError names one that neither takes or both do, or one that is needed and missing.
        """
        architecture, optimiser = self.architecture, self.optimiser
        parts: tuple[Architecture | Optimiser, ...] = (architecture, optimiser)
        arguments: tuple[dict[str, Value], dict[str, Value]] = ({}, {})
        for name in (name for name in params if name not in self._of_training()):
            takers = [at for at, part in enumerate(parts) if name in part.takes.known] or [
                at for at, part in enumerate(parts) if part.takes.others
            ][:1]
            if not takers:
                known = ", ".join([*self._of_training(), *architecture.takes.known, *optimiser.takes.known])
                raise ValueError(
                    f"grid.{name}: neither architecture {architecture.name!r} nor optimiser {optimiser.name!r} takes "
                    f"it: leave it out; they take {known}"
                )
            if len(takers) > 1:
                raise ValueError(
                    f"grid.{name}: architecture {architecture.name!r} and optimiser {optimiser.name!r} both take it: "
                    "rename the architecture's"
                )
            arguments[takers[0]][name] = params[name]
        for what, part, given in zip(("architecture", "optimiser"), parts, arguments, strict=True):
            for name in part.takes.needed:
                if name not in given:
                    raise ValueError(f"grid.{name}: {what} {part.name!r} needs it")
        return arguments
