"""The command `predict`, which applies a trained model to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.messages import print_json, say
from pairsearch.studies.loading import predict as ask


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .safetensors file that evaluate kept.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="What it is asked about; for the paper's models two images."),
    ],
    invert: Annotated[
        bool | None,
        typer.Option(
            "--invert/--no-invert",
            help="What images show is dark on light, or light on dark as in training.",
            show_default="guessed for each by its edge",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """The paper's models were trained on: is the number in the first image smaller than or equal to that in the second?
    Images of 28×28 or 14×14 pixels are taken as they are; from others the figure is cut out, scaled and centred.
    """
    lines, answer = ask(model, files, invert)
    if as_json:
        print_json(answer)
        return
    for line in lines:
        say(line)
