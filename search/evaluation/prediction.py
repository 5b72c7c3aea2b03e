"""Asks a trained model about two pictures: is the first digit smaller than or equal to the second?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pairsearch.data.pairs import Scale
from pairsearch.data.pictures import Picture
from pairsearch.models.nets import Architecture, split_logits
from pairsearch.search.errors import InputError
from pairsearch.search.evaluation.model_file import ModelCard


@dataclass(frozen=True, slots=True)
class Seen:
    """The digit that a model read in a picture."""

    digit: int
    probability: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answers.

    Args:
        at_most: whether it takes the first digit for smaller than or equal to the second, target 1; else it is larger.
        probability: of that answer by the softmax of the logits, in [0.5, 1]; networks tend to be too sure.
        logits: of target 0 and target 1.
        digits: what it read in the two pictures; None where the model was never taught digits: baselines give none,
            and the ten outputs of weight sharing without an auxiliary loss have no such meaning.
    """

    at_most: bool
    probability: float
    logits: tuple[float, float]
    digits: tuple[Seen, Seen] | None


def network_input(card: ModelCard, pixels: Tensor) -> Tensor:
    """Raw intensities as the model was trained on them: standardised where its study is."""
    if card.standardisation is None:
        return pixels
    return Scale(card.standardisation.mean, card.standardisation.deviation).apply(pixels)


@torch.no_grad()
def ask(path: Path, card: ModelCard, module: Architecture, first: Picture, second: Picture) -> Answer:
    """The answer about two pictures.

    Args:
        path: of the model, for the message.

    Raises:
        InputError: the weights give no finite answer.
    """
    images = network_input(card, torch.stack([first.pixels, second.pixels]))[None]
    main, digits = split_logits(module(images))
    if not bool(main.isfinite().all()):
        raise InputError(f"{path}: its weights give no finite answer")
    target = int(main[0].argmax())
    taught = module.uses_aux_loss and bool(card.hyperparameters.aux_loss_weight)
    seen = None
    if digits is not None and taught:
        best = digits[0].double().softmax(-1).max(-1)
        one, two = (
            Seen(digit, probability)
            for digit, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
        seen = (one, two)
    larger, at_most = main[0].tolist()
    return Answer(target == 1, float(main[0].double().softmax(-1)[target]), (larger, at_most), seen)
