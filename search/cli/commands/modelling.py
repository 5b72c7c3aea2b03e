"""The command `models`, by which trained models go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.messages import print_json, teller
from pairsearch.search.setup.opening import open_stored
from pairsearch.search.workers.models import ModelFolder, write_stored


def models(
    study: Annotated[list[str], typer.Argument(metavar="STUDY", help="Studies in the database.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder to write to; made at need.")
    ] = options.DEFAULT_MODELS,
    storage: options.Storage = options.DEFAULT_STORAGE,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """A round has none in the database if it diverged, if its problem returned no weights, or if its model is larger
    than `evaluation.model_megabytes`: such models are in the folder that workers were given by --models.
    """
    database, stored = open_stored(storage, study)
    folder = ModelFolder(out)
    written = {one.name: write_stored(database, one, folder) for one in stored}
    if as_json:
        print_json(
            [
                {"study": name, "files": [str(file) for file in one.files], "without": one.without}
                for name, one in written.items()
            ]
        )
        return
    say = teller(quiet=quiet)
    for name, one in written.items():
        without = f"; {one.without} rounds have none in the database" if one.without else ""
        say(f"{name}: {len(one.files)} models in {out}{without}")
