"""Asks a kept model about two pictures: is the first digit smaller than or equal to the second?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from pairsearch.data.pairs import Scale
from pairsearch.data.pictures import Picture, read_picture
from pairsearch.models import nets
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.model_card import ModelCard, card_of, not_valid, opened, tensors_of


@dataclass(frozen=True, slots=True)
class Seen:
    """The digit that a model sees in a picture."""

    digit: int
    probability: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer.

    Args:
        at_most: whether the first digit is smaller than or equal to the second (target 1).
        probability: probability of that answer by the softmax of the logits, in [0.5, 1]; networks tend to be too sure.
        logits: logits of target 0 and target 1.
        digits: the digits that the model sees in the two pictures. None where its digit outputs do not mean digits:
            baselines have no such outputs, and those of weight sharing are digits only with the auxiliary loss or when
            all of a pre-trained CLeNet was frozen.
    """

    at_most: bool
    probability: float
    logits: tuple[float, float]
    digits: tuple[Seen, Seen] | None


def predict(model: Path, files: Sequence[Path], invert: bool | None) -> tuple[list[str], dict[str, Any]]:
    """Ask a model about two image files of one digit each, as `Problem.answer`.

    Raises:
        ProblemError: the model cannot be used, or there are not two files.
        DataError: an image cannot be used.
    """
    if len(files) != 2:
        raise ProblemError(f"{len(files)} files given; expected two images of one digit each")
    card, module = read_model(model)
    pictures = [read_picture(path, invert) for path in files]
    answer = ask(model, card, module, *pictures)
    lines = [
        f"{place} image: taken as dark on light and inverted (--no-invert leaves it as it is)"
        for place, picture in zip(("first", "second"), pictures, strict=True)
        if picture.inverted and invert is None
    ]
    verdict = (
        "the first digit is smaller than or equal to the second"
        if answer.at_most
        else "the second digit is smaller than the first"
    )
    lines.append(f"{verdict}, probability {answer.probability:.4f}")
    if answer.digits is not None:
        one, two = answer.digits
        lines.append(
            f"digits seen: {one.digit} ({one.probability:.4f}) and {two.digit} ({two.probability:.4f})"
        )
    test_error = card.figures.get("test_error")
    error = "" if test_error is None else f", test error {100 * test_error:.2f} %"
    lines.append(f"model: {card.study}, round {card.round}{error}")
    images = [
        {"path": str(path), "inverted": picture.inverted, "fitted": picture.fitted}
        for path, picture in zip(files, pictures, strict=True)
    ]
    return lines, asdict(answer) | {"images": images, "model": card.model_dump(mode="json")}


def read_model(path: Path) -> tuple[ModelCard, nn.Module]:
    """Read a model's file, and rebuild the plain module with its weights in evaluation mode.

    A ProblemError says what is wrong with the file, its card or its tensors.
    """
    with opened(path) as file:
        card = card_of(path, file)
        architecture = str(card.settings.get("architecture"))
        if ":" in architecture:
            raise ProblemError(
                f"{path} is a model of {architecture!a}, which is code of its author's: only models of "
                f"{', '.join(nets.ARCHITECTURES)} are asked here; build yours and load the file's tensors with "
                "safetensors"
            )
        try:
            known = {"hidden_units", *nets.architecture_class(architecture).choices}
            # A card may claim any width: on the device `meta` a module has shapes but needs no memory.
            arguments = {name: card.params[name] for name in known & card.params.keys()}
            with torch.device("meta"):
                module = nets.build(architecture, **arguments)
        except ValueError as error:
            raise ProblemError(f"{path}: {error}") from None
        shapes = {name: list(value.shape) for name, value in module.state_dict().items()}
        tensors = tensors_of(path, file, shapes)
    module.load_state_dict(tensors, assign=True)
    standardisation_of(path, card)
    return card, module.eval()


def standardisation_of(path: Path, card: ModelCard) -> Scale | None:
    """Return how the model's study standardised images, None if it did not; raises a ProblemError for a wrong entry."""
    stated = card.about.get("standardisation")
    if stated is None:
        return None
    try:
        return Scale.model_validate(stated)
    except ValidationError as error:
        raise not_valid(path, error, "standardisation") from None


@torch.no_grad()
def ask(path: Path, card: ModelCard, module: nn.Module, first: Picture, second: Picture) -> Answer:
    """Ask a model about two pictures; a ProblemError names its file where the logits are not finite."""
    pixels = torch.stack([first.pixels, second.pixels])
    scale = standardisation_of(path, card)
    images = pixels if scale is None else scale.apply(pixels)
    main, digits = nets.split_logits(module(images[None]))
    if not bool(main.isfinite().all()):
        raise ProblemError(f"{path}: its weights give no finite answer")
    target = int(main[0].argmax())
    taught = nets.uses_aux_loss(module) and bool(card.params.get("aux_loss_weight"))
    # A training of a single epoch has no pre-training.
    taught |= isinstance(module, nets.Pretrained) and module.frozen == "all" and card.epochs > 1
    seen = None
    if digits is not None and taught:
        best = digits[0].double().softmax(-1).max(-1)
        one, two = map(Seen, best.indices.tolist(), best.values.tolist())
        seen = (one, two)
    larger, at_most = main[0].tolist()
    return Answer(target == 1, float(main[0].double().softmax(-1)[target]), (larger, at_most), seen)
