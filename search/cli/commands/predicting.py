"""The command `predict`, which applies a trained model to files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.streams import print_json, say
from pairsearch.search.common.errors import InputError
from pairsearch.studies.definition import NAME_PATTERN
from pairsearch.studies.loading import predict as ask


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A .safetensors file, or a study in the database, for its best model."
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="What it is asked about; for the paper's models two images."),
    ],
    number: Annotated[
        int, options.count("--round", help="Of a study: the round that trained the model.", least=0)
    ] = 0,
    invert: Annotated[
        bool | None,
        typer.Option(
            "--invert/--no-invert",
            help="What images show is dark on light, or light on dark as in training.",
            show_default="guessed for each by its edge",
        ),
    ] = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
    as_json: options.AsJson = False,
) -> None:
    """The paper's models were trained on: is the number in the first image smaller than or equal to that in the second?
    Images of 28×28 or 14×14 pixels are taken as they are; from others the figure is cut out, scaled and centred.

    Of a study, the best configuration of its search is asked whose final rounds have models in the database.
    """
    with _file(model, storage, number) as file:
        lines, answer = ask(file, files, invert)
    if as_json:
        print_json(answer)
        return
    for line in lines:
        say(line)


@contextmanager
def _file(model: Path, storage: str, number: int) -> Iterator[Path]:
    """Yield the path of the file of a model, which is a temporary one for a model in the database."""
    # A study may have a folder of its name.
    if not re.fullmatch(NAME_PATTERN, str(model)) or (model.exists() and not model.is_dir()):
        yield model
        return
    # Whoever asks a file needs no database.
    from pairsearch.search.setup.opening import open_stored  # noqa: PLC0415
    from pairsearch.search.workers.models import best_model  # noqa: PLC0415

    try:
        database, [study] = open_stored(storage, [str(model)])
    except InputError as error:
        raise InputError(f"model {model}: there is no such file; {error}") from None
    with closing(database):
        name, content = best_model(database, study, number)
    with TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_bytes(content)
        yield file
