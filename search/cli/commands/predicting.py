"""Command that asks a trained model: predict."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search.cli.terminal import AsJson, print_json, say


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .safetensors file that evaluate kept.")],
    first: Annotated[
        Path, typer.Argument(metavar="FIRST", help="Image file of one digit; any size and format.")
    ],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Image file of the other digit.")],
    invert: Annotated[
        bool | None,
        typer.Option(
            "--invert/--no-invert",
            help="The digits are dark on light, or light on dark as in MNIST.",
            show_default="guessed for each by its edge",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a trained model which of two digits is smaller.

    The model was trained on: is the first digit smaller than or equal to the second? Images of 28×28 or 14×14 pixels
    are taken as they are; from others the digit is cut out, scaled and centred as MNIST's were.
    """
    from pairsearch.data.pictures import read_picture
    from pairsearch.search.evaluation.model_file import read_model
    from pairsearch.search.evaluation.prediction import ask

    card, module = read_model(model)
    pictures = [read_picture(path, invert) for path in (first, second)]
    answer = ask(model, card, module, *pictures)
    if as_json:
        print_json(
            asdict(answer)
            | {
                "images": [
                    {"path": str(path), "inverted": picture.inverted, "fitted": picture.fitted}
                    for path, picture in zip((first, second), pictures, strict=True)
                ],
                "model": card.model_dump(mode="json"),
            }
        )
        return
    for place, picture in zip(("first", "second"), pictures, strict=True):
        if picture.inverted and invert is None:
            say(f"{place} image: taken as dark on light and inverted (--no-invert leaves it as it is)")
    verdict = (
        "the first digit is smaller than or equal to the second"
        if answer.at_most
        else "the second digit is smaller than the first"
    )
    say(f"{verdict}, probability {answer.probability:.4f}")
    if answer.digits is not None:
        one, two = answer.digits
        say(f"digits seen: {one.digit} ({one.probability:.4f}) and {two.digit} ({two.probability:.4f})")
    error = "" if card.test_error is None else f", test error {100 * card.test_error:.2f} %"
    say(f"model: {card.study}, round {card.round}{error}")
